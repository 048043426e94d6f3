package kill

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readingRoute is at work in a worker for a while: it reads once a page, with no
// commit between two reads.
const readingRoute = `route: kill-read
version: 1
about: Reads again and again where only the lease says whether it may.
owner: kill@comune.example

from:
  http: POST /v1/kill/reads
req: kill-job
once: =req.id

steps:
  - call: ledger.take
    as: taken
    with: {job: =req.id}
    undo: {call: ledger.give_back, with: {job: =req.id}}

  - reply: 202
    with: {follow_at: =run.url}

  - wait: kill.confirmed
    as: confirmation
    where: event.job == req.id
    for: 10m
    else: {cancel: nobody-confirmed}

  - call: ledger.confirm
    as: confirmed
    with: {job: =req.id}
    undo: {none: the confirmation stands}

  - each: =req.stamps
    as: looked
    item: page
    steps:
      - call: ledger.confirmed
        as: seen
        with: {job: =req.id}

  - call: ledger.tell
    as: told
    with: {job: =req.id}
    undo: {none: what was said was said}
`

// reading is a fleet of one gateway and two workers, of which one has to start by
// hand, so that it is known whose runs are whose.
func newReading(t *testing.T) *fleet {
	t.Helper()
	f := newFleet(t, "content", "RSSMRA80A01L736U", 1, 1, 2)
	if err := os.WriteFile(filepath.Join(f.dir, "content", "routes", "kill", "kill-read.yaml"), []byte(readingRoute), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := f.fronts["admin"] // the gateway's: it lives from the beginning to the end
	admin.mu.Lock()
	admin.back = []string{f.members[0].admin}
	admin.mu.Unlock()
	return f
}

// ready starts a member and waits until it is at work.
func (f *fleet) ready(m *member) *proc {
	f.t.Helper()
	p := m.start()
	f.until(60*time.Second, m.name+" to be ready", func() bool {
		if !p.alive() {
			f.t.Fatalf("%s ended before it was ready: %v", m.name, p.err)
		}
		return m.up()
	})
	return p
}

// begin accepts and confirms n runs named after a word, and waits until each reads:
// whichever worker is there has them all at work.
func (f *fleet) begin(word string, n, pages int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	stamps := make([]int, pages)
	for i := range n {
		id := fmt.Sprintf("%s-%d", word, i)
		if a, err := f.insist(ctx, f.public+"/v1/kill/reads", map[string]any{"id": id, "stamps": stamps, "tell": true}); err != nil || a.status != http.StatusAccepted {
			f.t.Fatalf("%s: %v, status %d: %v", id, err, a.status, a.body)
		}
	}
	f.turnOn("ledger.latency.1s")
	for i := range n {
		if a, err := f.insist(ctx, f.public+"/v1/kill/confirmations", map[string]any{"id": fmt.Sprintf("%s-%d", word, i)}); err != nil || a.status >= 300 {
			f.t.Fatalf("confirming: %v, status %d: %v", err, a.status, a.body)
		}
	}
	f.until(60*time.Second, "every run to read", func() bool { return len(f.arrived(word, "confirmed")) == n })
}

// arrived counts an operation's raw arrivals by job.
func (f *fleet) arrived(word, op string) map[string]int {
	f.t.Helper()
	var as []arrival
	if err := f.get(f.city+"/arrivals", &as); err != nil {
		f.t.Fatal(err)
	}
	out := map[string]int{}
	for _, a := range as {
		if job, o := target(a); o == op && strings.HasPrefix(job, word+"-") {
			out[job]++
		}
	}
	return out
}

// finished waits until the n runs that begin made are done, once each.
func (f *fleet) finished(word string, n int) {
	f.t.Helper()
	f.until(60*time.Second, "all runs to be done", func() bool {
		var list runList
		err := f.get(f.admin+"/runs?state=queued&state=running&state=waiting&state=undoing&limit=1", &list)
		return err == nil && len(list.Runs) == 0
	})
	for _, r := range f.allRuns() {
		if r.State != "done" {
			f.t.Errorf("run %s is %s: %s", r.Run, r.State, r.Reason)
		}
	}
	for _, op := range []string{"confirm", "tell"} {
		calls := f.arrived(word, op)
		if len(calls) != n {
			f.t.Errorf("ledger.%s arrived for %d runs, want %d", op, len(calls), n)
		}
		for job, c := range calls {
			if c != 1 {
				f.t.Errorf("%s: ledger.%s arrived %d times", job, op, c)
			}
		}
	}
}

// A worker that stands still beyond its leases, while another finishes its runs,
// begins no call for any of them when it wakes, and writes nothing.
func TestFrozenWorker(t *testing.T) {
	f := newReading(t)
	gateway, frozen, other := f.members[0], f.members[1], f.members[2]
	f.ready(gateway)
	p := f.ready(frozen)
	const n = 12
	f.begin("ice", n, 4)
	if err := frozen.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.until(5*time.Second, "the worker to stand still", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		return err == nil && strings.Contains(string(b), ") T ")
	})
	f.ready(other)
	f.finished("ice", n)
	before := f.raw()

	if err := frozen.signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.until(30*time.Second, "the worker to drop what it owned", func() bool {
		b, err := os.ReadFile(filepath.Join(f.dir, frozen.name+".log"))
		// By its clock, or by what the database says, whichever is first.
		return err == nil && strings.Count(string(b), "another worker owns")+strings.Count(string(b), "the lease: it ended") >= n
	})
	f.terminate(frozen) // with whatever it might still do
	if after := f.raw(); len(after) != len(before) {
		for _, a := range after[len(before):] {
			t.Errorf("a worker that had lost its leases called %s %s", a.Operation, a.Path)
		}
	}
	f.finished("ice", n)
	t.Logf("%d runs taken over, %d calls arrived, none of them after the worker woke", n, len(before))
}

func (f *fleet) raw() (as []arrival) {
	f.t.Helper()
	if err := f.get(f.city+"/arrivals", &as); err != nil {
		f.t.Fatal(err)
	}
	return as
}

// A worker that is told to end lets go of its runs at once, also where a call takes
// longer than it may wait: here leases live for ten minutes, and whoever had to wait
// for their end would not be done in time.
func TestDrainedWorker(t *testing.T) {
	f := newReading(t)
	f.configure("lease", "10m")
	gateway, first, second := f.members[0], f.members[1], f.members[2]
	f.ready(gateway)
	for _, c := range []struct {
		word, drain string
		from, to    *member
	}{{"finishes", "20s", first, second}, {"cut", "10ms", second, first}} {
		if p := c.from.proc(); p != nil && p.alive() {
			f.terminate(c.from)
		}
		f.configure("drain", c.drain)
		f.ready(c.from)
		const n = 12
		f.begin(c.word, n, 10)
		f.ready(c.to)
		if done := f.arrived(c.word, "tell"); len(done) > 0 {
			t.Fatalf("%s: %d runs were through before the worker was told to end", c.word, len(done))
		}
		f.terminate(c.from)
		f.finished(c.word, n)
	}
}
