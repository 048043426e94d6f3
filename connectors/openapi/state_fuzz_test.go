package openapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
)

const bookState = `collections:
  books:
    key: id
    rows: [{id: 1, title: Odissea, shelf: a, key: null}]
    generate:
      - days: 2
        times: ["09:00", "09:30"]
        minutes: 30
        for: {shelf: [b, c]}
        row: {id: =shelf + date + time, title: =starts_at, shelf: =shelf}
operations:
  add_book:
    - list: books
      where: row.title == args.title
      order_by: id
      limit: 3
      as: same
    - refuse: {status: 409, code: taken}
      if: len(same) > 0
    - insert: books
      as: book
      row: {id: =number, title: =args.title, key: =key, due: {after: 15m}, on: {after_days: 3}}
    - update: book
      set: {shelf: ="s-" + year}
    - set: {answered: =book}
    - answer: =answered
      status: 201
  get_books_id:
    - find: books
      key: =args.id
      as: book
      else: {status: 404, code: no_book}
    - answer: {id: =book.id, title: =book.title}
  drop_book:
    - find: books
      by: {id: =args.id}
      as: book
    - delete: book
      if: book != nil
`

// A state file that is taken is played: no request to it breaks the far side, and
// every answer is HTTP.
func FuzzState(f *testing.F) {
	f.Add([]byte(bookState))
	f.Add([]byte("collections: {books: {key: id}}\noperations:\n  add_book:\n    - answer: {id: 1}\n      status: 99999\n"))
	f.Add([]byte("collections: {books: {key: id, generate: [{days: 366, times: [a], for: {a: [1, 2], b: [1, 2]}, row: {id: =a}}]}}\n"))
	f.Add([]byte("collections: {p: {key: tax_code, citizens: true}}\noperations: {get_books_id: [{list: p, as: all}, {answer: =all[0]}]}\n"))
	f.Add([]byte("operations: {drop_book: [{set: {a: =args.id[0].x}}, {answer: =a + 1}]}\n"))
	f.Add([]byte("operations: {add_book: [{refuse: {status: 404}, if: nil}]}\n"))
	f.Fuzz(func(t *testing.T, state []byte) {
		c, ps := load(t, doc("3.0.3", books), "", "x.state.yaml", string(state))
		if c == nil {
			if len(ps) == 0 {
				t.Fatal("refused without a reason")
			}
			return
		}
		far, err := c.Emulator(connectors.EmulatorConfig{Seed: "s", Record: func(connectors.Arrival) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		for _, call := range []struct{ method, path, body string }{
			{"POST", "/books", `{"title":"Iliade"}`}, {"POST", "/books", `{"title":"Iliade"}`}, {"POST", "/books", `{}`},
			{"GET", "/books/1", ""}, {"DELETE", "/books/1", ""}, {"GET", "/books/1", ""}, {"GET", "/books/by-key/k", ""},
		} {
			r := httptest.NewRequest(call.method, (&url.URL{Path: call.path}).String(), strings.NewReader(call.body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", "k")
			w := httptest.NewRecorder()
			far.ServeHTTP(w, r)
			if w.Code < 200 || w.Code > 599 || http.StatusText(w.Code) == "" && w.Code < 400 {
				t.Fatalf("%s %s: status %d", call.method, call.path, w.Code)
			}
		}
		if _, err := far.Effects(); err != nil {
			t.Log(err)
		}
	})
}
