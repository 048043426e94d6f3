package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors"
)

type receiving struct {
	face, pattern, says string
	running, ended      chan string
}

func (r *receiving) Describe() connectors.Description { return connectors.Description{Name: "far"} }

func (r *receiving) Receive(connectors.Publish) []connectors.Endpoint {
	return []connectors.Endpoint{{Face: r.face, Pattern: r.pattern, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = w.Write([]byte(r.says + " " + q.URL.Path))
	})}}
}

func (r *receiving) Run(ctx context.Context, _ connectors.Publish) error {
	r.running <- r.says
	<-ctx.Done()
	r.ended <- r.says
	return errors.New("told to stop")
}

func TestReceiversAndSourcesFollowReloads(t *testing.T) {
	o := newOutside(nil, slog.New(slog.DiscardHandler))
	running, ended := make(chan string, 4), make(chan string, 4)
	far := func(says string) map[string]connectors.Connector {
		return map[string]connectors.Connector{"far": &receiving{"soap", "POST /in", says, running, ended}}
	}
	put := func(cs map[string]connectors.Connector) {
		t.Helper()
		mux, err := o.handlers(cs)
		if err != nil {
			t.Fatal(err)
		}
		o.swap(cs, mux)
	}
	ask := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		o.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("")))
		return w.Code, w.Body.String()
	}
	first := far("one")
	put(first)
	select {
	case <-running:
		t.Fatal("a source works before the bus does")
	default:
	}
	o.start(context.Background())
	if got := <-running; got != "one" {
		t.Fatal(got)
	}
	if code, body := ask("POST", "/far/in"); code != 200 || body != "one /in" {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := ask("GET", "/far/in"); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", code)
	}
	put(first) // a reload that did not touch it
	put(far("two"))
	if a, b := <-ended, <-running; a != "one" || b != "two" {
		t.Errorf("%s ended, %s runs", a, b)
	}
	if _, body := ask("POST", "/far/in"); body != "two /in" {
		t.Error(body)
	}
	put(nil)
	if code, _ := ask("POST", "/far/in"); code != http.StatusNotFound {
		t.Errorf("gone: %d", code)
	}
	if got := <-ended; got != "two" {
		t.Error(got)
	}
	put(far("three"))
	<-running
	o.end()
	if got := <-ended; got != "three" {
		t.Error(got)
	}
}

func TestReceiversThatCantBeMounted(t *testing.T) {
	o := newOutside(nil, slog.New(slog.DiscardHandler))
	for want, r := range map[string]*receiving{
		`asks for the face "web"`: {face: "web", pattern: "/in"},
		"mounting the receivers":  {face: "soap", pattern: "POST /{"},
	} {
		if _, err := o.handlers(map[string]connectors.Connector{"far": r}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
