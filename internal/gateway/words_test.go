package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
)

// What a connector says of its failure is technical, English, and not for a
// citizen: every problem that the engine answers speaks the caller's language.
func TestNoProblemRepeatsTheConnector(t *testing.T) {
	const technical = "agenda answered HTTP 503: upstream pool exhausted"
	type kind struct {
		word   string
		status int
	}
	kinds := []kind{{"unauthenticated", 401}, {"denied", 403}, {"invalid", 400}, {"queue-full", 429}, {"limit", 429}, {"too-large", 413},
		{"key-reused", 422}, {"undoing", 503}, {"erased", 410}, {"cancelled", 409}, {"failed", 500}, {"late", 504}}
	for _, row := range fault.Table() {
		kinds = append(kinds, kind{string(row.Kind), row.Status})
	}
	for _, k := range kinds {
		said := map[string]string{}
		for _, lang := range []string{"it", "en", "de", "fr"} {
			f := open(t)
			f.engine.answer = func(Request) Answer {
				return Answer{Problem: &Problem{Type: fault.ProblemType(k.word), Title: "An English title", Status: k.status, Detail: technical}}
			}
			w := f.do("GET", "/v1/pets", "", "Accept-Language: "+lang)
			p := decode(t, w)
			title, _ := p["title"].(string)
			detail, _ := p["detail"].(string)
			if w.Code != k.status || title == "" || title == "An English title" || detail == "" || strings.Contains(w.Body.String(), "upstream") {
				t.Errorf("%s in %s: %d %s", k.word, lang, w.Code, w.Body)
			}
			if got := w.Header().Get("Content-Language"); got != lang {
				t.Errorf("%s in %s: Content-Language %q", k.word, lang, got)
			}
			if other, twice := said[detail]; twice {
				t.Errorf("%s has one sentence in %s and %s", k.word, lang, other)
			}
			said[detail] = lang
			if typ, _ := p["type"].(string); strings.Contains(typ, "_") {
				t.Errorf("the type %q is spelt with an underscore", typ)
			}
		}
	}
}

// How a route ends a run is a key; what an operator typed is not one.
func TestTheReasonOfAnEnd(t *testing.T) {
	for reason, want := range map[string]string{"no-pet": "Aucun animal.", "asked for by Mario Rossi": "La demande a été annulée."} {
		f := open(t)
		f.engine.answer = func(Request) Answer {
			return Answer{Problem: &Problem{Type: fault.ProblemType("cancelled"), Status: 409, Detail: reason}}
		}
		w := f.do("GET", "/v1/pets", "", "Accept-Language: fr")
		if p := decode(t, w); p["detail"] != want || strings.Contains(w.Body.String(), "Rossi") {
			t.Errorf("%q: %s", reason, w.Body)
		}
	}
}

// A body that comes too slowly is 408 (RFC 9110 §15.5.9): the client may send the
// same request again. One that breaks off is 400.
func TestSlowBody(t *testing.T) {
	f := open(t)
	for name, head := range map[string]string{
		"length":  "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"a\":",
		"chunked": "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
		"form":    "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 400\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx",
	} {
		t.Run(name, func(t *testing.T) {
			addr := serveHandler(t, f.gateway, Limits{BodyWithin: 50 * time.Millisecond})
			statuses, bodies := raw(t, addr, "POST /v1/pets HTTP/1.1\r\nHost: x\r\n"+head, 2)
			if len(statuses) != 1 || statuses[0] != http.StatusRequestTimeout || !strings.Contains(bodies[0], "urn:dime:problem:slow") {
				t.Fatalf("%v %q", statuses, bodies)
			}
		})
	}
}
