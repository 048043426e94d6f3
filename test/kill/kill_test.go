package kill

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	killsFlag = flag.Int("kills", 40, "how often the bus is killed")
	binFlag   = flag.String("dime", filepath.Join("..", "..", "bin", "dime"), "the binary under test")
	soakFlag  = flag.Duration("soak", 0, "kill at random moments for so long instead of -kills times")
	seedFlag  = flag.Uint64("seed", 0, "seed of the moments; 0 takes one from the clock and prints it")
)

// kinds are the records of a journal (semantics 6) that this load writes.
func kinds() []string {
	return []string{"accepted", "result", "intent", "outcome", "reply", "rest", "woken", "expired", "joined",
		"undo_intent", "undo_outcome", "end", "person"}
}

// plan is one life of the bus: where it dies.
type plan struct {
	kind  string // "" for a moment from outside
	when  string
	count int
	after time.Duration // for a moment from outside
}

func plans(n int, rnd *rand.Rand) []plan {
	var ps []plan
	for left := *soakFlag; left > 0; {
		p := plan{after: time.Duration(1+rnd.IntN(20)) * time.Second}
		ps = append(ps, p)
		left -= p.after
	}
	if len(ps) > 0 {
		return ps
	}
	for i := range n {
		// Three in each kind, before and after its commit in turn; what is left comes
		// from outside at any moment.
		if i < 3*len(kinds()) {
			ps = append(ps, plan{kind: kinds()[i%len(kinds())], when: []string{"before", "after"}[(i/len(kinds()))%2], count: 1 + rnd.IntN(6)})
			continue
		}
		ps = append(ps, plan{after: time.Duration(20+rnd.IntN(700)) * time.Millisecond})
	}
	rnd.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
	return ps
}

// job is one request of the load and what was said about it.
type job struct {
	id      string
	tell    bool
	confirm bool
	run     string // public id, from the answer that was final
	status  int
}

// load keeps a number of citizens asking until stopped.
type load struct {
	rig  *rig
	stop atomic.Bool
	wg   sync.WaitGroup

	mu       sync.Mutex
	jobs     []*job
	ordered  int            // requests of kill-order
	accepted map[string]int // the last of each key that was accepted
	errors   []string
}

func startLoad(r *rig, citizens int, tell bool, rnd *rand.Rand) *load {
	l := &load{rig: r}
	for c := range citizens {
		seed := rnd.Uint64()
		l.wg.Go(func() { l.citizen(c, tell, rand.New(rand.NewPCG(seed, 1))) })
	}
	seed := rnd.Uint64()
	l.wg.Go(func() { l.operator(rand.New(rand.NewPCG(seed, 2))) })
	return l
}

func (l *load) citizen(c int, tell bool, rnd *rand.Rand) {
	for i := 0; !l.stop.Load(); i++ {
		j := &job{id: fmt.Sprintf("job-%d-%d", c, i), tell: tell && rnd.IntN(2) == 0, confirm: rnd.IntN(4) != 0}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		a, err := l.rig.insist(ctx, l.rig.public+"/v1/kill/jobs", map[string]any{"id": j.id, "stamps": []int{1, 2, 3}, "tell": j.tell})
		// 409 is the operator's doing: a run whose first effect was in doubt rests, and
		// may be cancelled before it has answered.
		if err == nil && a.status >= 400 && a.status != http.StatusGatewayTimeout && a.status != http.StatusConflict {
			err = fmt.Errorf("refused with %d: %v", a.status, a.body)
		}
		if err == nil {
			j.status = a.status
			j.run = runOf(a)
			if j.confirm {
				_, err = l.rig.insist(ctx, l.rig.public+"/v1/kill/confirmations", map[string]any{"id": j.id})
			}
		}
		cancel()
		l.mu.Lock()
		l.jobs = append(l.jobs, j)
		if err != nil {
			l.errors = append(l.errors, fmt.Sprintf("%s: %v", j.id, err))
		}
		l.mu.Unlock()
	}
}

func runOf(a answer) string {
	if s, ok := a.body["run"].(string); ok {
		return s
	}
	s, _ := a.body["follow_at"].(string)
	return s[strings.LastIndexByte(s, '/')+1:]
}

// operator cancels a resting run now and then, for the records of a person.
func (l *load) operator(rnd *rand.Rand) {
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for !l.stop.Load() {
		<-tick.C
		var list runList
		if l.rig.get(l.rig.admin+"/runs?state=waiting&route=kill-job&limit=50", &list) != nil || len(list.Runs) == 0 {
			continue
		}
		id := list.Runs[rnd.IntN(len(list.Runs))].Run
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		// A refusal or a cut connection is as good: the run may have moved on.
		_, _ = l.rig.ask(ctx, http.MethodPost, l.rig.admin+"/runs/"+id+"/cancel", map[string]any{"as": "kill test", "reason": "to see"})
		cancel()
	}
}

type runList struct {
	Runs []runRow `json:"runs"`
}

type runRow struct {
	Run    string `json:"run"`
	Route  string `json:"route"`
	State  string `json:"state"`
	Reason string `json:"reason"`
}

// kill runs the load over the planned deaths and returns how many hit each kind.
func (r *rig) kill(ps []plan, tell bool, rnd *rand.Rand, env ...string) (*load, map[string]int) {
	r.t.Helper()
	l := startLoad(r, 8, tell, rnd)
	hits := map[string]int{}
	for i, p := range ps {
		life := env
		if p.kind != "" {
			life = append(append([]string(nil), env...), fmt.Sprintf("DIME_TEST_KILL_AT=%s:%s:%d", p.kind, p.when, p.count))
		}
		bus := r.start(life...)
		limit := p.after
		if p.kind != "" {
			limit = 8 * time.Second // the load reaches the kind long before
		}
		select {
		case <-bus.done:
		case <-time.After(limit):
			if !bus.alive() {
				r.t.Fatalf("kill %d: the bus had ended by itself: %v", i, bus.err)
			}
			if err := bus.cmd.Process.Signal(syscall.SIGKILL); err != nil {
				r.t.Fatalf("kill %d: %v", i, err)
			}
		}
		if !bus.killed() {
			r.dump("bus.log")
			r.t.Fatalf("kill %d (%+v): the bus ended otherwise: %v", i, p, bus.err)
		}
		interrupted, when := r.interrupted()
		for _, k := range strings.Split(interrupted, "+") {
			hits[k]++
		}
		r.t.Logf("kill %d: %s, %s its commit", i+1, interrupted, when)
	}
	l.stop.Store(true)
	return l, hits
}

// settle starts the bus once more and waits until nothing moves.
func (r *rig) settle(l *load) {
	r.t.Helper()
	r.start()
	r.settled(l)
}

// settled waits until the load is through and nothing moves.
func (r *rig) settled(l *load) {
	r.t.Helper()
	if !r.rests(l, 60*time.Second) {
		r.t.Fatal("waited a minute for all runs to end or park")
	}
}

// rests says whether nothing moves any more before a time is over.
func (r *rig) rests(l *load, within time.Duration) bool {
	r.t.Helper()
	l.wg.Wait()
	still := func() bool {
		var list runList
		err := r.get(r.admin+"/runs?state=queued&state=running&state=waiting&state=undoing&limit=1", &list)
		return err == nil && len(list.Runs) == 0
	}
	last := time.Now().Add(within)
	for !still() {
		if time.Now().After(last) {
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
	// What they said is on its way to others; what has not come after a while is lost.
	for until := time.Now().Add(within / 2); time.Now().Before(until) && (r.notes() < r.doneJobs() || !still()); {
		time.Sleep(100 * time.Millisecond)
	}
	return true
}

// notes counts the notes that the far side took, doneJobs the jobs that are done.
func (r *rig) notes() (n int) {
	r.t.Helper()
	var effects []effect
	if err := r.get(r.city+"/effects", &effects); err != nil {
		r.t.Fatal(err)
	}
	for _, e := range effects {
		if e.Operation == "note" {
			n++
		}
	}
	return n
}

func (r *rig) doneJobs() (n int) {
	for _, x := range r.allRuns() {
		if x.Route == "kill-job" && x.State == "done" {
			n++
		}
	}
	return n
}

func (r *rig) stopBus() {
	r.bus.cmd.Process.Signal(syscall.SIGTERM)
	<-r.bus.done
	if r.bus.err != nil {
		r.t.Errorf("SIGTERM did not end the bus well: %v", r.bus.err)
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

func binary(t *testing.T) string {
	t.Helper()
	b, err := filepath.Abs(*binFlag)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b); err != nil {
		t.Fatalf("the binary is missing: run `make build` first: %v", err)
	}
	return b
}

func seeded(t *testing.T) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestKill: every accepted request ends or is parked with its cause; what is
// keyed or found happens once, what is neither at most once.
func TestKill(t *testing.T) {
	rnd := seeded(t)
	r := newRig(t, binary(t))
	r.turnOn("ledger.latency.5ms") // so that kills meet calls under way
	l, hits := r.kill(plans(*killsFlag, rnd), true, rnd)
	r.settle(l)
	r.complain(r.judge(l))
	defer r.stopBus()
	if *soakFlag == 0 && *killsFlag >= 3*len(kinds()) {
		for _, k := range kinds() {
			if hits[k] < 3 {
				t.Errorf("only %d kills hit %s records, 3 are wanted", hits[k], k)
			}
		}
	}
	t.Logf("%d kills, %d jobs, %d parked in doubt, kinds hit: %s", *killsFlag, len(l.jobs), r.parked(), list(hits))
}

// careless makes the far side forget keys and take its time, so that a kill meets
// calls under way.
func (r *rig) careless() {
	r.t.Helper()
	r.turnOn("ledger.no-dedupe", "ledger.latency.30ms")
}

func (r *rig) turnOn(faults ...string) {
	r.t.Helper()
	for _, fault := range faults {
		req, err := http.NewRequest(http.MethodPut, r.city+"/faults/"+fault, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			r.t.Fatalf("switching %s on: status %d", fault, resp.StatusCode)
		}
	}
}

// ours leaves out what only the far side is to blame for: with deduplication off
// it breaks its word about the operations that are keyed and not found_by.
func ours(broken []string) []string {
	var out []string
	for _, v := range broken {
		if !strings.Contains(v, "ledger.stamp") && !strings.Contains(v, "ledger.give_back") && !strings.Contains(v, "ledger.note") {
			out = append(out, v)
		}
	}
	return out
}

// TestKillWithoutDeduplication: with the far side's deduplication off, what can
// be found still happens once.
func TestKillWithoutDeduplication(t *testing.T) {
	rnd := seeded(t)
	r := newRig(t, binary(t))
	r.careless()
	var ps []plan
	for i := range max(*killsFlag/5, 4) {
		ps = append(ps, plan{kind: []string{"outcome", "intent"}[i%2], when: []string{"before", "after"}[i%2], count: 1 + rnd.IntN(12)})
	}
	l, _ := r.kill(ps, true, rnd)
	r.settle(l)
	r.complain(ours(r.judge(l)))
	r.stopBus()
}

// TestControlWithoutIntent: the same harness must see the damage when intents
// are not written. If it does not, it could not see it in TestKill either.
func TestControlWithoutIntent(t *testing.T) {
	rnd := seeded(t)
	r := newRig(t, binary(t))
	r.careless()
	var ps []plan
	for range 8 {
		ps = append(ps, plan{kind: "outcome", when: "before", count: 2 + rnd.IntN(12)})
	}
	l, _ := r.kill(ps, true, rnd, "DIME_TEST_NO_INTENT=1")
	r.settle(l)
	found := ours(r.judge(l))
	if len(found) == 0 {
		t.Error("intents were off and the harness saw neither loss nor doubles")
	}
	for i, v := range found {
		if i < 5 {
			t.Logf("seen, as it must be: %s", v)
		}
	}
	r.stopBus()
}

// parked counts the runs that rest in doubt.
func (r *rig) parked() int {
	n := 0
	for _, run := range r.allRuns() {
		if run.State == "parked" {
			n++
		}
	}
	return n
}

func list(hits map[string]int) string {
	var out []string
	for k, n := range hits {
		out = append(out, fmt.Sprintf("%s %d", k, n))
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}
