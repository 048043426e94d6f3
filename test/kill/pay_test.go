package kill

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// nobody is a citizen who never was: a thousand fines of the virtual city are his.
const nobody = "TSTCTD80A01L736B"

// payments is people who ask to pay, pay on the page and wait for the end, while
// the bus dies under them.
type payments struct {
	rig  *rig
	stop atomic.Bool
	wg   sync.WaitGroup
	next atomic.Int64

	mu     sync.Mutex
	jobs   []*payment
	errors []string
}

type payment struct {
	fine, notice, run string
	pressed           bool // the page said that it was paid
}

func (p *payments) person() {
	for !p.stop.Load() {
		j := &payment{fine: fmt.Sprintf("V-2026-50%03d", p.next.Add(1))}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		err := p.one(ctx, j)
		cancel()
		p.mu.Lock()
		p.jobs = append(p.jobs, j)
		if err != nil {
			p.errors = append(p.errors, fmt.Sprintf("%s: %v", j.fine, err))
		}
		p.mu.Unlock()
	}
}

func (p *payments) one(ctx context.Context, j *payment) error {
	a, err := p.rig.insist(ctx, p.rig.public+"/v1/fines/"+j.fine+"/payment", map[string]any{"request_id": j.fine, "tax_code": nobody})
	if err != nil {
		return err
	}
	j.run = runOf(a)
	page, _ := a.body["pay_at"].(string)
	j.notice, _ = a.body["notice_number"].(string)
	if a.status == http.StatusGatewayTimeout { // the caller was let go; the run goes on without him
		return nil
	}
	if a.status != http.StatusAccepted || page == "" {
		return fmt.Errorf("answered %d: %v", a.status, a.body)
	}
	err = press(ctx, page)
	j.pressed = err == nil
	return err
}

// press is the button of the payment page, until the page says that it is paid:
// the node asks our station, which may be dead just now.
func press(ctx context.Context, page string) error {
	c := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, page+"/paga", nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(r)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusSeeOther {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the page could not be paid in time: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestKillPayments: whatever dies when, what was paid is paid once and recorded
// once, and no paid position is closed.
func TestKillPayments(t *testing.T) {
	t.Parallel() // it mostly waits, as the next one does
	rnd := seeded(t)
	r := newRigOn(t, binary(t), "../..", nobody)
	kills := max(*killsFlag/2, 4)
	p := &payments{rig: r}
	for range 4 {
		p.wg.Go(p.person)
	}
	hits := map[string]int{}
	kinds := []string{"intent", "outcome", "reply", "rest", "woken", "end"}
	for i := range kills {
		life := plan{kind: kinds[i%len(kinds)], when: []string{"before", "after"}[i/len(kinds)%2], count: 1 + rnd.IntN(4)}
		if i%5 == 4 {
			life = plan{after: time.Duration(50+rnd.IntN(600)) * time.Millisecond}
		}
		var env []string
		limit := life.after
		if life.kind != "" {
			env, limit = []string{fmt.Sprintf("DIME_TEST_KILL_AT=%s:%s:%d", life.kind, life.when, life.count)}, 8*time.Second
		}
		bus := r.start(env...)
		select {
		case <-bus.done:
		case <-time.After(limit):
			if err := bus.cmd.Process.Kill(); err != nil {
				t.Fatalf("kill %d: %v", i, err)
			}
		}
		if !bus.killed() {
			r.dump("bus.log")
			t.Fatalf("kill %d (%+v): the bus ended otherwise: %v", i, life, bus.err)
		}
		kind, _ := r.interrupted()
		for _, k := range strings.Split(kind, "+") {
			hits[k]++
		}
	}
	p.stop.Store(true)
	r.start()
	p.wg.Wait()
	// What was paid must end; who was let go before he could pay leaves a run that waits.
	r.until(90*time.Second, "what was paid to end or park", func() bool {
		runs := r.allRuns()
		for _, j := range p.jobs {
			if s := runs[j.run].State; j.pressed && s != "done" && s != "parked" {
				return false
			}
		}
		return true
	})
	for _, v := range append(p.errors, p.judge()...) {
		t.Error(v)
	}
	r.stopBus()
	t.Logf("%d kills, %d payments, kinds hit: %s", kills, len(p.jobs), list(hits))
}

// judge holds the runs against the far sides' ledgers.
func (p *payments) judge() (broken []string) {
	var effects []effect
	if err := p.rig.get(p.rig.city+"/effects", &effects); err != nil {
		p.rig.t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range effects {
		count[e.Connector+"."+e.Operation+" "+e.Subject]++
	}
	var arrivals []arrival
	if err := p.rig.get(p.rig.city+"/arrivals?connector=sanzioni", &arrivals); err != nil {
		p.rig.t.Fatal(err)
	}
	runs := p.rig.allRuns()
	bad := func(j *payment, format string, args ...any) {
		broken = append(broken, fmt.Sprintf("%s (run %s, %s %s): ", j.fine, j.run, runs[j.run].State, runs[j.run].Reason)+fmt.Sprintf(format, args...))
	}
	recorded := map[string]int{}
	for _, e := range effects {
		if e.Connector == "sanzioni" && e.Operation == "record_payment" {
			recorded[e.Subject]++
		}
	}
	for _, j := range p.jobs {
		if j.run == "" {
			continue // its error is in the list
		}
		if _, ok := runs[j.run]; !ok {
			bad(j, "lost")
			continue
		}
		if n := count["pagopa.payment "+j.notice]; j.pressed && n != 1 {
			bad(j, "paid %d times", n)
		}
		if j.pressed && runs[j.run].State != "done" {
			bad(j, "it was paid and is not done")
		}
		if n := recorded[url.PathEscape(j.fine)]; j.pressed && n != 1 {
			bad(j, "recorded %d times", n)
		}
	}
	for op, n := range count {
		if strings.HasPrefix(op, "pagopa.open_position ") && n != 1 {
			broken = append(broken, fmt.Sprintf("%s %d times", op, n))
		}
		if strings.HasPrefix(op, "pagopa.close_position ") {
			broken = append(broken, "a position was closed: "+op)
		}
	}
	return broken
}
