package anagrafe

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/xml"
)

const anna, luca, sara = "VNLNNA82E54L736U", "RSSLCU12C09L736S", "RSSSRA05P61L736V"

// venice is the register at the addresses of the city's street directory.
var venice = sync.OnceValues(func() (*citizens.Register, error) {
	as, err := citizens.Addresses(os.DirFS("../.."))
	return citizens.New("", as...), err
})

// newVenice is a town that has streets.
func newVenice(t *testing.T) *town {
	t.Helper()
	people, err := venice()
	if err != nil {
		t.Fatal(err)
	}
	w := newTown(t)
	e, err := w.c.Emulator(connectors.EmulatorConfig{
		On:       func(f string) bool { _, on := w.faults.Load(f); return on },
		Citizens: func() *citizens.Register { return people },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.e = e.(*Emulator)
	return w
}

func today() string { return time.Now().In(rome()).Format(time.DateOnly) }

// move declares that people of Mario's family move to Strada Nova.
func move(members ...string) map[string]any {
	args := map[string]any{"tax_code": mario, "since": today(), "protocol": "VE-2026-0000007",
		"address": map[string]any{"street": "Strada Nova", "number": "3660", "sestiere": "cannaregio", "postal_code": "30121"}}
	if len(members) > 0 {
		list := make([]any, len(members))
		for i, m := range members {
			relation := "child"
			if m == anna {
				relation = "spouse"
			}
			list[i] = map[string]any{"tax_code": m, "relation": relation}
		}
		args["members"] = list
	}
	return args
}

func (w *town) address(t *testing.T, cf string) string {
	t.Helper()
	r, err := do(t, w.c, "residence", "", map[string]any{"tax_code": cf})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(r["address"], " since ", r["since"])
}

func (w *town) changes(t *testing.T) (keys []string) {
	t.Helper()
	rows, err := w.e.Effects()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Operation == "change_residence" {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// TestChangeOfResidence: who moves lives elsewhere, who stays does not, and each
// part has its own family sheet.
func TestChangeOfResidence(t *testing.T) {
	w := newVenice(t)
	stays := w.address(t, sara)
	if _, err := do(t, w.c, "change_residence", "m-1", move(anna, luca)); err != nil {
		t.Fatal(err)
	}
	want := "CANNAREGIO 3660, Strada Nova, 30121 VENEZIA since " + today()
	for _, cf := range []string{mario, anna, luca} {
		if got := w.address(t, cf); got != want {
			t.Errorf("%s lives at %q, want %q", cf, got, want)
		}
	}
	if got := w.address(t, sara); got != stays {
		t.Errorf("who stayed lives at %q, want %q", got, stays)
	}
	sheet := func(cf string) (members []string) {
		f, err := do(t, w.c, "family", "", map[string]any{"tax_code": cf})
		if err != nil {
			t.Fatal(err)
		}
		list, _ := f["members"].([]any)
		for _, m := range list {
			members = append(members, fmt.Sprint(str(m, "tax_code"), " ", str(m, "relation")))
		}
		return members
	}
	if got := sheet(anna); !slices.Equal(got, []string{mario + " intestatario", anna + " coniuge", luca + " figlio"}) {
		t.Errorf("the movers' sheet is %v", got)
	}
	if got := sheet(sara); !slices.Equal(got, []string{sara + " intestatario"}) {
		t.Errorf("the sheet of who stayed is %v", got)
	}
	// All of a sheet move: it goes along as it is.
	back := move(mario, luca)
	back["tax_code"], back["address"] = anna, map[string]any{"street": "Riva del Carbon", "number": "4136", "sestiere": "san-marco", "postal_code": "30124"}
	if _, err := do(t, w.c, "change_residence", "m-2", back); err != nil {
		t.Fatal(err)
	}
	if got := sheet(luca); !slices.Equal(got, []string{mario + " intestatario", anna + " coniuge", luca + " figlio"}) || !strings.Contains(w.address(t, luca), "4136") {
		t.Errorf("the sheet that moved is %v", got)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if code := s[:3]; code != "200" && code != "201" && code != "204" {
			t.Errorf("the far side refused what we sent: %s", s)
		}
	}
}

// TestChangeIsOne: however often a key is sent, whatever was lost, and whoever left
// in between, the residence changes once.
func TestChangeIsOne(t *testing.T) {
	w := newVenice(t)
	w.faults.Store("change_residence.late-answer", true)
	if _, err := do(t, w.c, "change_residence", "m-1", move()); kind(err) != fault.Unknown {
		t.Fatalf("a lost answer: %v", err)
	}
	w.faults.Delete("change_residence.late-answer")
	other := move()
	other["tax_code"] = "BNCGLI92M41L736X"
	if _, err := do(t, w.c, "change_residence", "m-2", other); err != nil {
		t.Fatal(err)
	}
	first, err := do(t, w.c, "change_residence", "m-1", move())
	if err != nil {
		t.Fatal(err)
	}
	again, err := do(t, w.c, "change_residence", "m-1", move())
	if err != nil || again["operation"] != first["operation"] {
		t.Errorf("%v, then %v, %v", first, again, err)
	}
	if got := w.changes(t); !slices.Equal(got, []string{"m-1", "m-2"}) {
		t.Errorf("the ledger holds %v", got)
	}
	// What never came is sent under a new number once others have left.
	w.faults.Store("change_residence.unavailable", true)
	if _, err := do(t, w.c, "change_residence", "m-3", move()); kind(err) != fault.Unavailable {
		t.Fatalf("a closed service: %v", err)
	}
	w.faults.Delete("change_residence.unavailable")
	if _, err := do(t, w.c, "change_residence", "m-4", other); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, w.c, "change_residence", "m-3", move()); err != nil {
		t.Fatal(err)
	}
	if got := w.changes(t); !slices.Equal(got, []string{"m-1", "m-2", "m-4", "m-3"}) {
		t.Errorf("the ledger holds %v", got)
	}
}

// TestChangeRefused: each reason has its name, and nothing changes.
func TestChangeRefused(t *testing.T) {
	w := newVenice(t)
	gone := ""
	for _, p := range citizens.New("").All() {
		if p.Status != citizens.Active {
			gone = p.TaxCode
			break
		}
	}
	with := func(key string, v any) map[string]any {
		a := move()
		a[key] = v
		return a
	}
	door := func(number, postal string) map[string]any {
		return with("address", map[string]any{"street": "Strada Nova", "number": number, "sestiere": "cannaregio", "postal_code": postal})
	}
	for _, c := range []struct {
		it, name string
		args     map[string]any
	}{
		{"nobody", "not_found", with("tax_code", "TSTCTD80A01L736B")},
		{"who has left the city", "not_resident", with("tax_code", gone)},
		{"a stranger moves along", "not_of_family", move("BNCGLI92M41L736X")},
		{"moving along with oneself", "not_of_family", move(mario)},
		{"the same member twice", "not_of_family", move(luca, luca)},
		{"a number that no door bears", "unknown_address", door("1", "30121")},
		{"the postal code of another place", "unknown_address", door("3660", "30122")},
		{"tomorrow", "refused", with("since", time.Now().AddDate(0, 0, 2).Format(time.DateOnly))},
	} {
		_, err := do(t, w.c, "change_residence", "r-"+c.it, c.args)
		if f := fault.From(err); err == nil || f.Name != c.name || f.Sent && c.name == "not_resident" {
			t.Errorf("%s: %v, want %s", c.it, err, c.name)
		}
	}
	for _, f := range changeFaults() {
		w.faults.Store("change_residence."+f.Name, true)
		if _, err := do(t, w.c, "change_residence", "f-"+f.Name, move()); err == nil || fault.From(err).Name != f.Name {
			t.Errorf("%s: %v", f.Name, err)
		}
		w.faults.Delete("change_residence." + f.Name)
	}
	if got := w.changes(t); len(got) != 0 {
		t.Errorf("refusals changed %v", got)
	}
}

// TestChangeOutlivesTheFarSide: what was changed is read from its memory.
func TestChangeOutlivesTheFarSide(t *testing.T) {
	w := newVenice(t)
	if _, err := do(t, w.c, "change_residence", "m-1", move()); err != nil {
		t.Fatal(err)
	}
	old := w.e
	people, _ := venice()
	e, err := w.c.Emulator(connectors.EmulatorConfig{Citizens: func() *citizens.Register { return people }})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	w.e = e.(*Emulator)
	w.e.Resume(old)
	if got := w.address(t, mario); !strings.HasPrefix(got, "CANNAREGIO 3660") {
		t.Errorf("after a restart: %s", got)
	}
}

// Changes are requests as the connector writes them: in the historic city and out
// of it, with letters, accents and what XML must escape, of people who have one
// name, and of several.
func Changes() (requests []string) {
	person := func(surname, name string) any {
		return map[string]any{"cognome": surname, "nome": name, "sesso": "M", "dataNascita": "1980-01-01"}
	}
	town := map[string]any{"nomeComune": "VENEZIA", "siglaProvinciaIstat": "VE"}
	c := &Connector{cfg: Config{Municipality: "027042"}, clock: fixed{}}
	for i, a := range []map[string]any{
		{"street": "Rio Terà San Leonardo", "number": "1331/A", "sestiere": "cannaregio", "postal_code": "30121"},
		{"street": "Via Palazzo", "number": "8", "postal_code": "30174"},
		{"street": "Campo San Giacomo dall'Orio", "number": "1624", "sestiere": "santa-croce", "postal_code": "30135"},
	} {
		args := move()
		args["address"] = a
		requests = append(requests, c.request5005(int64(i+1), args, town,
			[]mover{{mario, person("ROSSI", "MARIO"), "1"}, {luca, person("D'ANDRÈ", ""), "3"}, {sara, map[string]any{"nome": "SARA"}, "99"}}[:3-i]))
	}
	return requests
}

// FuzzChange: what is read of a request to 5005 and of its answer may be anything.
func FuzzChange(f *testing.F) {
	ok := em5005OK(&em5005Request{head: emHead{service: "5005", id: "7"}}, time.Unix(0, 0), "1")
	ko := em5005KO(emHead{}, time.Unix(0, 0), "1", emFault{"EC021", "x"})
	for _, s := range append(Changes(), string(ok.raw), string(ko.raw), "<a/>") {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		operation, late, err := read5005(&httpclient.Response{Status: 200, Body: b})
		if err == nil && (operation == "") != late {
			t.Errorf("read as %q, late %v", operation, late)
		}
		root, err := xml.Parse(b)
		if err != nil {
			return
		}
		if q, err := emRead5005(root); err == nil && (q == nil || q.head.id == "") {
			t.Error("a request without a number is read")
		}
	})
}

type fixed struct{ clock.Real }

func (fixed) Now() time.Time { return time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC) }
