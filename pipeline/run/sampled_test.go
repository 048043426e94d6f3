package run

import (
	"context"
	"strings"
	"testing"

	"github.com/dime-bus/dime/internal/store"
)

// Of the runs that changed nothing every third outlives the process, as a run that
// ended and not as a dead letter; a repeat of its request runs again (semantics 6.4).
func TestSampledTimelines(t *testing.T) {
	w := newWorldBare(t, "\nroute: r\nfrom: {http: GET /v1/r}\nonce: =req.key ?? \"k\"\nsteps:\n  - check: req.n != 9\n    else: {fail: nine}\n  - call: sys.read\n    as: got\n    with: {n: =req.n}\n  - set: {result: {v: =got.v}}\n")
	w.cfg.TimelineSample = 3
	w.boot()
	for n := range 7 {
		if a := w.ask(http("r", map[string]any{"n": n})); a.Status != 200 {
			t.Fatal(a)
		}
	}
	w.ask(http("r", map[string]any{"n": 9}))
	if got := w.calls("read"); got != 7 {
		t.Errorf("%d reads of 7 requests: a stored timeline answers repeats", got)
	}
	all, err := w.e.Runs(context.Background(), Filter{})
	if err != nil || len(all) != 8 {
		t.Fatalf("%d runs are listed, not 8: %v", len(all), err)
	}
	w.e.Stop()
	rs, err := w.disk.Find(context.Background(), store.Filter{Limit: 100})
	if err != nil || len(rs) != 2 {
		t.Fatalf("%d of 7 runs are stored, not 2: %v", len(rs), err)
	}
	for _, r := range rs {
		if r.State != store.Done || r.Route != "r" || r.Ended.IsZero() {
			t.Errorf("stored as %+v", r)
		}
	}
	all, err = w.e.Runs(context.Background(), Filter{})
	if err != nil || len(all) != 8 {
		t.Errorf("%d runs are listed, not 8: %v", len(all), err)
	}
	w.boot()
	d, err := w.e.Show(context.Background(), w.disk.PublicID(rs[0].ID))
	if err != nil || d.Volatile || !strings.HasPrefix(d.Lines[len(d.Lines)-1].Note, "done") {
		t.Fatalf("%+v %v", d, err)
	}
	read := false
	for _, l := range d.Lines {
		read = read || l.Step == "got" && l.Out != nil
	}
	if !read {
		t.Errorf("no line says what was read: %+v", d.Lines)
	}
}
