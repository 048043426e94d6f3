package kill

import (
	"fmt"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
)

// effect is a row of the city's ledger; arrival one of its raw log.
type effect struct{ Connector, Operation, Subject, Key string }

type arrival struct{ Connector, Operation, Path, Key string }

// world is what the far side saw of one job.
type world struct {
	keys  map[string]map[string]int // operation (stamp with its page) -> key -> rows of the ledger
	calls map[string]int            // operation -> raw arrivals
}

// rows counts what was carried out.
func (w world) rows(op string) int {
	n := 0
	for _, c := range w.keys[op] {
		n += c
	}
	return n
}

// judge returns every promise that was broken (semantics 7.8).
func (r *rig) judge(l *load) []string {
	r.t.Helper()
	var effects []effect
	var arrivals []arrival
	if err := r.get(r.city+"/effects", &effects); err != nil {
		r.t.Fatal(err)
	}
	if err := r.get(r.city+"/arrivals", &arrivals); err != nil {
		r.t.Fatal(err)
	}
	runs := r.allRuns()
	jobs := map[string]world{}
	at := func(job string) world {
		w, ok := jobs[job]
		if !ok {
			w = world{map[string]map[string]int{}, map[string]int{}}
			jobs[job] = w
		}
		return w
	}
	for _, a := range arrivals {
		if job, op := target(a); job != "" {
			at(job).calls[op]++
		}
	}
	for _, e := range effects {
		w := at(e.Subject)
		if w.keys[e.Operation] == nil {
			w.keys[e.Operation] = map[string]int{}
		}
		w.keys[e.Operation][e.Key]++
	}
	broken := append([]string(nil), l.errors...)
	for _, j := range l.jobs {
		if j.run == "" {
			continue // its error is in the list
		}
		run, ok := runs[j.run]
		if !ok {
			broken = append(broken, fmt.Sprintf("lost: %s was answered %d with run %s, which is not there", j.id, j.status, j.run))
			continue
		}
		broken = append(broken, j.verdict(run, at(j.id))...)
	}
	return broken
}

// timeline shows a run as its operator sees it.
func (r *rig) timeline(run string) string {
	out, err := exec.Command(r.binary, "runs", "show", run, "--admin", r.admin).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return string(out)
}

// complain fails the test with every broken promise, and the timelines of the
// first few.
func (r *rig) complain(broken []string) {
	r.t.Helper()
	for i, v := range broken {
		r.t.Error(v)
		if id := runInText.FindString(v); id != "" && i < 3 {
			r.t.Log(r.timeline(strings.TrimPrefix(strings.TrimPrefix(id, "run "), "run:")))
		}
	}
}

var runInText = regexp.MustCompile(`run[ :][a-z2-7]{20,}`)

// target reads /jobs/JOB/... of an arrival.
func target(a arrival) (job, op string) {
	path, _, _ := strings.Cut(a.Path, "?")
	i := strings.Index(path, "/jobs/")
	if i < 0 {
		return "", ""
	}
	job, _, _ = strings.Cut(path[i+len("/jobs/"):], "/")
	if u, err := url.PathUnescape(job); err == nil {
		job = u
	}
	return job, a.Operation
}

// verdict compares a run's end with what the far side carried out.
func (j *job) verdict(run runRow, w world) []string {
	var out []string
	bad := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("%s (run %s, %s %s): ", j.id, run.Run, run.State, run.Reason)+fmt.Sprintf(format, args...))
	}
	exactly := func(op string, want int) {
		if got := w.rows(op); got != want {
			bad("ledger.%s was carried out %d times, not %d", op, got, want)
		}
	}
	if n := w.calls["tell"]; n > 1 {
		bad("ledger.tell, neither keyed nor found_by, arrived %d times", n)
	}
	// A run that failed, and that its caller's retry started again, has one take and
	// one give-back more for each round: in the end one take stands, or none.
	stands := func(want int) {
		if take, back := w.rows("take"), w.rows("give_back"); take-back != want {
			bad("ledger.take was carried out %d times and ledger.give_back %d times", take, back)
		}
	}
	// Nobody but a run that is done says that its job has ended.
	exactly("note", map[bool]int{true: 1}[run.State == "done"])
	switch run.State {
	case "done":
		stands(1)
		exactly("stamp", 3)
		exactly("confirm", 1)
		if j.tell {
			exactly("tell", 1)
		} else {
			exactly("tell", 0)
		}
	case "cancelled", "failed":
		stands(0)
		// The operator may cancel behind the confirmation, which stands.
		if n := w.rows("confirm"); n > 1 {
			bad("ledger.confirm was carried out %d times", n)
		}
	case "parked":
		if !strings.Contains(run.Reason, "unknown") {
			bad("parked for %q, but only a doubt may park this route", run.Reason)
		}
		if !j.tell {
			bad("parked although nothing it called can be in doubt")
		}
		stands(1)
		exactly("confirm", 1)
	default:
		bad("neither ended nor parked")
	}
	return out
}

// allRuns pages through the whole journal.
func (r *rig) allRuns() map[string]runRow {
	r.t.Helper()
	all := map[string]runRow{}
	before := ""
	for {
		var list runList
		if err := r.get(r.admin+"/runs?limit=1000&before="+before, &list); err != nil {
			r.t.Fatal(err)
		}
		for _, x := range list.Runs {
			all[x.Run] = x
		}
		if len(list.Runs) == 0 {
			return all
		}
		before = list.Runs[len(list.Runs)-1].Run
	}
}
