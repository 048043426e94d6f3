package city

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/clock"
)

// start is a Tuesday morning.
var start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

type fixture struct {
	t     *testing.T
	city  *City
	clock *clock.Virtual
	data  string
}

func newCity(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: clock.NewVirtual(start), data: t.TempDir()}
	f.open()
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	c, ps := New(Config{FS: os.DirFS("../.."), Data: f.data, Clock: f.clock})
	for _, p := range ps {
		f.t.Errorf("%s", p)
	}
	if c == nil {
		f.t.Fatal("no city")
	}
	f.city = c
	f.t.Cleanup(func() { _ = c.Close() })
}

// do sends a request and decodes the answer.
func (f *fixture) do(method, path, key string, body any) (int, map[string]any) {
	f.t.Helper()
	var b []byte
	if body != nil {
		b, _ = json.Marshal(body)
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(b))
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	w := httptest.NewRecorder()
	f.city.Handler().ServeHTTP(w, r)
	var m map[string]any
	if w.Body.Len() > 0 && w.Body.Bytes()[0] == '{' {
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
			f.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return w.Code, m
}

// want fails unless the answer has this status; it returns the body.
func (f *fixture) want(status int, method, path, key string, body any) map[string]any {
	f.t.Helper()
	got, m := f.do(method, path, key, body)
	if got != status {
		f.t.Fatalf("%s %s answered %d, want %d: %v", method, path, got, status, m)
	}
	return m
}

func (f *fixture) effects() int {
	f.t.Helper()
	es, err := f.city.Effects()
	if err != nil {
		f.t.Fatal(err)
	}
	return len(es)
}

const mario = "RSSMRA80A01L736U"

func (f *fixture) freeSlot() string {
	f.t.Helper()
	m := f.want(200, "GET", "/agenda/offices/anagrafe-venezia/slots?service=identity-card", "", nil)
	return m["slots"].([]any)[0].(map[string]any)["id"].(string)
}

func TestAgendaHoldConfirmRelease(t *testing.T) {
	f := newCity(t)
	slot := f.freeSlot()
	ask := map[string]any{"slot": slot, "tax_code": mario, "service": "identity-card"}
	hold := f.want(201, "POST", "/agenda/holds", "k1", ask)
	if hold["expires_at"] != "2026-11-24T09:15:00Z" || hold["tax_code"] != nil || hold["key"] != nil {
		t.Errorf("hold is %v: it must end in 15 minutes and not show what the schema does not have", hold)
	}
	again := f.want(201, "POST", "/agenda/holds", "k1", ask)
	if again["id"] != hold["id"] || f.effects() != 1 {
		t.Errorf("the repeated key made %v, %d effects", again, f.effects())
	}
	if m := f.want(409, "POST", "/agenda/holds", "k2", ask); m["code"] != "slot_taken" {
		t.Errorf("problem is %v", m)
	}
	if m := f.want(200, "GET", "/agenda/holds/by-key/k1", "", nil); m["id"] != hold["id"] {
		t.Errorf("found %v", m)
	}
	f.want(404, "GET", "/agenda/holds/by-key/k2", "", nil)
	id := hold["id"].(string)
	f.want(404, "GET", "/agenda/holds/"+id+"/appointment", "", nil)
	a := f.want(201, "POST", "/agenda/holds/"+id+"/confirm", "", nil)
	if a["tax_code"] != mario || a["hold"] != id {
		t.Errorf("appointment is %v", a)
	}
	if m := f.want(409, "POST", "/agenda/holds/"+id+"/confirm", "", nil); m["code"] != "already_confirmed" {
		t.Errorf("problem is %v", m)
	}
	day := a["starts_at"].(string)[:10]
	if m := f.want(200, "GET", "/agenda/appointments?on="+day, "", nil); len(m["appointments"].([]any)) != 1 {
		t.Errorf("appointments of %s: %v", day, m)
	}
	f.want(200, "GET", "/agenda/holds/"+id+"/appointment", "", nil)

	// A restarted city goes on where it was.
	if err := f.city.Close(); err != nil {
		t.Fatal(err)
	}
	f.open()
	if f.effects() != 2 {
		t.Errorf("after the restart there are %d effects, want 2", f.effects())
	}
	f.want(201, "POST", "/agenda/holds", "k1", ask) // still the old answer
	f.want(200, "POST", "/agenda/holds/"+id+"/release", "k3", nil)
	if m := f.want(201, "POST", "/agenda/holds", "k4", ask); m["id"] != "H-000002" {
		t.Errorf("the next hold is %v", m["id"])
	}
	f.clock.Advance(start.Add(16 * time.Minute))
	if m := f.want(409, "POST", "/agenda/holds/H-000002/confirm", "", nil); m["code"] != "hold_expired" {
		t.Errorf("problem is %v", m)
	}
	f.want(201, "POST", "/agenda/holds", "k5", ask) // the expired hold counts no more
}

func TestSanzioniAmountsByDate(t *testing.T) {
	f := newCity(t)
	// V-2026-00101 was notified on 22 November; minimum 42.00, maximum 173.00, expenses 16.50.
	for _, c := range []struct {
		on     string
		amount float64
		basis  string
		until  any
	}{
		{"2026-11-24", 4590, "reduced-30", "2026-11-27"},
		{"2026-11-27", 4590, "reduced-30", "2026-11-27"},
		{"2026-11-28", 5850, "minimum", "2027-01-21"},
		{"2027-01-21", 5850, "minimum", "2027-01-21"},
		{"2027-01-22", 10300, "half-maximum", nil},
	} {
		m := f.want(200, "GET", "/sanzioni/fines/V-2026-00101/amount-due?on="+c.on, "", nil)
		if m["amount"] != c.amount || m["basis"] != c.basis || m["until"] != c.until {
			t.Errorf("on %s: %v, want %v %s until %v", c.on, m, c.amount, c.basis, c.until)
		}
	}
	f.want(409, "GET", "/sanzioni/fines/V-2026-00104/amount-due", "", nil)
	f.want(404, "GET", "/sanzioni/fines/V-2026-99999/amount-due", "", nil)
	if m := f.want(400, "GET", "/sanzioni/fines/nonsense/amount-due", "", nil); m["detail"] == "" {
		t.Errorf("problem is %v", m)
	}
}

func TestSanzioniAppeal(t *testing.T) {
	f := newCity(t)
	ask := map[string]any{"tax_code": mario, "grounds": "permit-held"}
	a := f.want(201, "POST", "/sanzioni/fines/V-2026-00101/appeals", "k1", ask)
	if m := f.want(200, "GET", "/sanzioni/fines/V-2026-00101", "", nil); m["status"] != "appealed" || m["appeal"] != a["id"] {
		t.Errorf("fine is %v", m)
	}
	f.want(409, "POST", "/sanzioni/fines/V-2026-00101/appeals", "k2", ask)
	f.want(403, "POST", "/sanzioni/fines/V-2026-00105/appeals", "k3", ask)
	late := f.want(422, "POST", "/sanzioni/fines/V-2026-00103/appeals", "k4", map[string]any{"tax_code": "VRDLGI75C15L736Z", "grounds": "other"})
	if late["code"] != "too_late" {
		t.Errorf("problem is %v", late)
	}
	id := a["id"].(string)
	f.want(404, "GET", "/sanzioni/appeals/"+id+"/decision", "", nil)
	f.want(200, "PUT", "/sanzioni/appeals/"+id+"/decision", "", map[string]any{"outcome": "accepted", "reason": "Permesso valido."})
	f.want(200, "GET", "/sanzioni/appeals/"+id+"/decision", "", nil)
	f.want(409, "DELETE", "/sanzioni/appeals/"+id, "k5", nil)
	if m := f.want(200, "GET", "/sanzioni/fines/V-2026-00101", "", nil); m["status"] != "cancelled" {
		t.Errorf("fine is %v", m)
	}
	f.want(201, "POST", "/sanzioni/fines/V-2026-50123/appeals", "k6", ask) // the fines for tests under load
}

func TestStradario(t *testing.T) {
	f := newCity(t)
	m := f.want(200, "GET", "/stradario/addresses?q=carbon+4136", "", nil)
	l := m["addresses"].([]any)
	if len(l) != 1 || l[0].(map[string]any)["label"] != "San Marco 4136, Riva del Carbon, 30124 Venezia" {
		t.Errorf("found %v", l)
	}
	if m := f.want(200, "GET", "/stradario/addresses?q=ve&limit=3", "", nil); len(m["addresses"].([]any)) != 3 {
		t.Errorf("limit is not kept: %v", m)
	}
	f.want(200, "GET", "/stradario/sestieri/dorsoduro/3024%2FA", "", nil)
	f.want(404, "GET", "/stradario/sestieri/dorsoduro/1", "", nil)
	if m := f.want(200, "GET", "/stradario/municipalities", "", nil); len(m["municipalities"].([]any)) != 6 {
		t.Errorf("municipalities: %v", m)
	}
	f.want(400, "GET", "/stradario/addresses", "", nil)
	f.want(405, "DELETE", "/stradario/addresses", "", nil)
	f.want(404, "GET", "/stradario/nothing", "", nil)
	f.want(404, "GET", "/nowhere/x", "", nil)
}

func TestSegnalazioni(t *testing.T) {
	f := newCity(t)
	m := f.want(201, "POST", "/segnalazioni/cases", "k1", map[string]any{"category": "lighting", "text": "Lampione spento in calle", "tax_code": mario})
	if m["number"] != "SEG-000001" || m["answer_by"] != "2026-12-04" {
		t.Errorf("case is %v", m)
	}
	f.want(422, "POST", "/segnalazioni/cases", "k2", map[string]any{"category": "lighting", "text": "Lampione spento", "position": map[string]any{"lat": 41.9, "lon": 12.5}})
	f.want(200, "GET", "/segnalazioni/cases/by-key/k1", "", nil)
	f.want(200, "POST", "/segnalazioni/cases/SEG-000001/withdrawal", "k3", nil)
	if m := f.want(200, "GET", "/segnalazioni/cases/SEG-000001", "", nil); m["status"] != "withdrawn" {
		t.Errorf("case is %v", m)
	}
}

func TestFaultsAreSwitchedByName(t *testing.T) {
	f := newCity(t)
	ask := map[string]any{"slot": f.freeSlot(), "tax_code": mario, "service": "identity-card"}
	f.want(404, "PUT", "/faults/agenda.hold.slot_takn", "", nil)
	f.want(200, "PUT", "/faults/agenda.hold.slot_taken", "", nil)
	if m := f.want(409, "POST", "/agenda/holds", "k1", ask); m["code"] != "slot_taken" {
		t.Errorf("problem is %v", m)
	}
	f.want(200, "DELETE", "/faults/agenda.hold.slot_taken", "", nil)
	f.want(200, "PUT", "/faults/agenda.hold.unavailable", "", nil)
	f.want(503, "POST", "/agenda/holds", "k1", ask)
	if f.effects() != 0 {
		t.Error("a refused request had an effect")
	}
	// Switches outlive a restart.
	_ = f.city.Close()
	f.open()
	f.want(503, "POST", "/agenda/holds", "k1", ask)
	f.want(200, "DELETE", "/faults", "", nil)
	f.want(200, "PUT", "/faults/sanzioni.no-dedupe", "", nil)
	for range 2 {
		f.want(202, "POST", "/sanzioni/offices/mestre/notices", "n1", map[string]any{"subject": "V-2026-00101", "text": "x"})
	}
	f.want(200, "PUT", "/faults/segnalazioni.no-dedupe", "", nil)
	for range 2 {
		f.want(201, "POST", "/segnalazioni/cases", "c1", map[string]any{"category": "waste", "text": "Sacchi in fondamenta"})
	}
	if f.effects() != 4 {
		t.Errorf("%d effects, want 4: without deduplication a key is carried out twice", f.effects())
	}
	as, err := f.city.Arrivals()
	if err != nil || len(as) < 8 {
		t.Errorf("%d arrivals, %v", len(as), err)
	}
	f.want(404, "PUT", "/faults/agenda.latency.fast", "", nil)
	f.want(200, "PUT", "/faults/agenda.latency.200ms", "", nil)
	f.want(200, "PUT", "/faults/agenda.latency.50ms", "", nil)
	if d := f.city.latency("agenda"); d != 50*time.Millisecond {
		t.Errorf("latency is %v", d)
	}
}
