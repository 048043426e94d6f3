package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/identity"
)

// Canaries are values of one person that stand nowhere else in the world.
const (
	canaryTax  = "ZQXKWJ77T19L736D"
	strangerID = "WYXZQV61H52L736E"
	canaryWord = "KanarieZ9q7"
)

// logged is a log that is read while the server writes it.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) text() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// canaries is a whole server at level debug, with what was seen of it.
type canaries struct {
	t       *testing.T
	s       *server
	data    string
	log     *logged
	signer  *identity.Signer
	problem [][]byte // bodies of refusals
}

func openCanaries(t *testing.T) *canaries {
	t.Helper()
	h := &canaries{t: t, data: filepath.Join(t.TempDir(), "data"), log: &logged{}}
	c, err := openContent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := config.Load(c, os.LookupEnv, map[string]string{"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "data": h.data, "city": "embedded"})
	if bad := refusals(problems); len(bad) > 0 {
		t.Fatal(bad)
	}
	h.s, err = newServer(t.Context(), c, cfg, serveOptions{timeline: 100}, newLog(h.log, "debug"))
	if err == nil {
		_, err = h.s.start(t.Context())
	}
	if err == nil {
		h.signer, err = identity.OpenSigner(cityKeyFile(h.data))
	}
	if err != nil {
		_ = h.s.close()
		t.Fatal(err)
	}
	return h
}

// do asks url; who is a citizen or nobody.
func (h *canaries) do(method, url, who, kind, body string) (int, map[string]any, []byte) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	if who != "" {
		token, err := h.signer.Issue(identity.Caller{Kind: "citizen", TaxCode: who, Subject: who, Assurance: 2, Channel: "web", Language: "en"}, identity.CityIssuer, time.Now(), identity.CityTokenLife)
		if err != nil {
			h.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if a.StatusCode >= 400 {
		h.problem = append(h.problem, b)
	}
	var m map[string]any
	_ = json.Unmarshal(b, &m) // not all pages are JSON
	return a.StatusCode, m, b
}

func (h *canaries) post(who, path, body string, want int) map[string]any {
	h.t.Helper()
	status, m, b := h.do("POST", h.s.urls().Public+path, who, "application/json", body)
	if status != want {
		h.t.Errorf("POST %s: %d, not %d: %s", path, status, want, b)
	}
	return m
}

// slot takes a free slot.
func (h *canaries) slot() string {
	h.t.Helper()
	_, m, b := h.do("GET", h.s.urls().Public+"/v1/offices/anagrafe-venezia/slots", "", "", "")
	all, _ := m["slots"].([]any)
	if len(all) == 0 {
		h.t.Fatalf("no slot: %s", b)
	}
	id, _ := all[0].(map[string]any)["id"].(string)
	return id
}

func (h *canaries) booking(request string) string {
	b, err := json.Marshal(map[string]any{"request_id": request, "tax_code": canaryTax, "service": "identity-card", "slot": h.slot(), "note": canaryWord + " note"})
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

func (h *canaries) fault(method, name string) {
	h.t.Helper()
	if status, _, b := h.do(method, h.s.urls().City+"/faults/"+name, "", "", ""); status >= 300 {
		h.t.Fatalf("%s %s: %d %s", method, name, status, b)
	}
}

// rest waits until a run is in one of the states; the bound is for a hang only.
func (h *canaries) rest(run string, states ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		_, m, b := h.do("GET", h.s.urls().Admin+"/runs/"+run, "", "", "")
		state, _ := m["state"].(string)
		for _, s := range states {
			if state == s {
				return
			}
		}
		if state == "" {
			h.t.Fatalf("run %s: %s", run, b)
		}
	}
	h.t.Fatalf("run %s does not come to %v", run, states)
}

func runOf(m map[string]any) string {
	if u, ok := m["follow_at"].(string); ok {
		return u[strings.LastIndex(u, "/")+1:]
	}
	s, _ := m["run"].(string)
	return s
}

// What a person sends reaches the systems it is meant for, and nothing that lives
// longer or is read by others: no log line, no metric, no page of the admin face,
// no problem body, no byte of the store in the clear.
func TestCanaries(t *testing.T) {
	h := openCanaries(t)
	closed := false
	shut := func() {
		if closed {
			return
		}
		closed = true
		if err := h.s.close(); err != nil {
			t.Error(err)
		}
	}
	defer shut()
	u := h.s.urls()

	// Success, with a once key that tells of the person; again: the once answer.
	first := h.booking(canaryWord + "-once-" + canaryTax)
	booked := h.post(canaryTax, "/v1/appointments", first, 202)
	if again := h.post(canaryTax, "/v1/appointments", first, 202); again["booking"] != booked["booking"] {
		t.Errorf("the second answer is another: %v", again)
	}
	h.post(canaryTax, "/v1/appointments", strings.Replace(first, " note", " changed", 1), 422)
	// Event: the confirmation ends the wait, and the end is told to the city.
	name, _ := booked["booking"].(string)
	h.post(canaryTax, "/v1/appointments/"+name+"/confirmation", `{"tax_code":"`+canaryTax+`"}`, 202)
	h.rest(runOf(booked), "done")
	// Validation errors, at the edge and in the route, and others who look.
	h.post(canaryTax, "/v1/appointments", strings.Replace(first, `"service":"`, `"service":"`+canaryWord, 1), 400)
	h.post(canaryTax, "/v1/appointments", strings.Replace(first, `"tax_code":"`, `"tax_code":"`+canaryWord, 1), 403)
	h.post(canaryTax, "/v1/appointments", `{"note": "`+canaryWord+` broken`, 400)
	h.post(canaryTax, "/v1/fines/"+canaryWord+"/appeals", `{"request_id":"f","tax_code":"`+canaryTax+`","grounds":"permit-held","statement":"`+canaryWord+`"}`, 400)
	h.post(canaryTax, "/v1/fines/V-2026-99999/appeals", `{"request_id":"f2","tax_code":"`+canaryTax+`","grounds":"permit-held","statement":"`+canaryWord+`"}`, 404)
	h.post(strangerID, "/v1/appointments", first, 403)
	if status, _, b := h.do("GET", u.Public+"/v1/runs/"+runOf(booked), strangerID, "", ""); status != 404 {
		t.Errorf("a stranger sees the run: %d %s", status, b)
	}
	// Undo.
	held := h.post(canaryTax, "/v1/appointments", h.booking("undo"), 202)
	if status, _, b := h.do("POST", u.Admin+"/runs/"+runOf(held)+"/cancel", "", "application/json", `{"as":"an officer","reason":"a test"}`); status >= 300 {
		t.Errorf("cancel: %d %s", status, b)
	}
	h.rest(runOf(held), "cancelled")
	// Faults of the connector: a refusal, an answer that breaks the contract (parked
	// with the raw answer), and what goes on in the background.
	for _, tt := range []struct{ fault, state string }{{"rejected", "failed"}, {"server-error", ""}, {"contract", "parked"}, {"unavailable", ""}} {
		h.fault("PUT", "agenda.hold."+tt.fault)
		_, m, b := h.do("POST", u.Public+"/v1/appointments", canaryTax, "application/json", h.booking("fault-"+tt.fault))
		t.Logf("%s: %s", tt.fault, b)
		if tt.state != "" {
			h.rest(runOf(m), tt.state)
		}
		h.fault("DELETE", "agenda.hold."+tt.fault)
	}
	// A file, by claim check.
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for k, v := range map[string]string{"request_id": "file", "tax_code": canaryTax, "category": "lighting", "text": canaryWord + " is dark", "position": `{"lat":45.4371,"lon":12.3326}`} {
		_ = w.WriteField(k, v) // into memory
	}
	part, err := w.CreateFormFile("attachments", canaryWord+".png")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(part, "\x89PNG\x0D\x0A\x1A\x0A"+canaryWord+" bytes "+canaryTax)
	_ = w.Close()
	if status, _, b := h.do("POST", u.Public+"/v1/disservices", canaryTax, w.FormDataContentType(), form.String()); status != 201 {
		t.Errorf("file: %d %s", status, b)
	}

	// The far sides, which it is meant for, have it: the search below can find.
	var far []byte
	err = filepath.WalkDir(filepath.Join(h.data, "city"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		far = append(far, b...)
		return err
	})
	if err != nil || !bytes.Contains(far, []byte(canaryTax)) || !bytes.Contains(far, []byte(canaryWord)) {
		t.Errorf("the canaries never flew (%v)", err)
	}

	for _, page := range []string{u.Admin + "/metrics", u.Admin + "/status", u.Admin + "/routes", u.Admin + "/connectors", u.Public + "/openapi.json", u.Public + "/"} {
		status, _, b := h.do("GET", page, "", "", "")
		if status != 200 {
			t.Errorf("%s: %d", page, status)
		}
		silent(t, page, b)
	}
	_, _, listing := h.do("GET", u.Admin+"/runs?limit=1000", "", "", "")
	silent(t, "/runs", listing)
	var list struct {
		Runs []gateway.Run `json:"runs"`
	}
	if err := json.Unmarshal(listing, &list); err != nil || len(list.Runs) < 6 {
		t.Errorf("%d runs, %v: %s", len(list.Runs), err, listing)
	}
	for _, r := range list.Runs {
		_, _, b := h.do("GET", u.Admin+"/runs/"+r.Run, "", "", "")
		silent(t, "/runs/{id} of "+r.Route+" "+r.State, b)
	}
	for _, b := range h.problem {
		silent(t, "a problem body", b)
	}
	store := func(when string) {
		files, err := filepath.Glob(filepath.Join(h.data, "dime.db*"))
		if err != nil || len(files) == 0 {
			t.Errorf("no store: %v", err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Error(err)
			}
			silent(t, filepath.Base(f)+" "+when, b)
		}
	}
	store("while open")
	h.s.log.Log(t.Context(), slog.LevelDebug, "the log is at debug")
	shut()
	store("when closed")
	b := h.log.text()
	if !bytes.Contains(b, []byte("the log is at debug")) {
		t.Error("nothing was logged at debug")
	}
	silent(t, "the log", b)
}

// silent fails where a canary sings, and shows what is around it.
func silent(t *testing.T, where string, b []byte) {
	t.Helper()
	for _, c := range []string{canaryTax, canaryWord} {
		if i := bytes.Index(b, []byte(c)); i >= 0 {
			t.Errorf("%s holds %s: %q", where, c, b[max(0, i-120):min(len(b), i+60)])
		}
	}
}
