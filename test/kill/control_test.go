package kill

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

var controlFlag = flag.String("control", "acks early", "which control of the chaos test runs; all for each")

// TestChaosControls: the fleet without one of its guards loses, doubles or misorders
// something, and the judge of the chaos test says so. A judge that is content with
// such a fleet would prove nothing of the real one.
func TestChaosControls(t *testing.T) {
	for _, c := range []struct {
		name, env string
		strike    func(c *chaos) error // what the guard would have stood
		want      string               // in what the judge says
	}{
		{"intent off", "DIME_TEST_NO_INTENT=1", func(c *chaos) error { return c.killAt("outcome@told:before:1") }, "ledger.tell, neither keyed nor found_by, arrived"},
		{"acks early", "DIME_TEST_HASTY=acks", func(c *chaos) error { return c.killAt("intent@noted:before:1") }, "ledger.note was carried out 0 times"},
		{"confirms ignored", "DIME_TEST_HASTY=confirms", (*chaos).loseAll, "ledger.note was carried out 0 times"},
		{"fencing off", "", (*chaos).freezeWorker, "arrived [2-9] times|was carried out [2-9] times"},
	} {
		if *controlFlag != "all" && *controlFlag != c.name {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			rnd := seeded(t)
			f := newFleet(t, "content", "RSSMRA80A01L736U", 1, 1, 2, strings.Fields(c.env)...)
			f.turnOn("ledger.latency.5ms")
			f.startAll()
			if c.name == "fencing off" {
				f.unfence()
			}
			l := startLoad(f.rig, 12, true, rnd)
			x := &chaos{fleet: f, rnd: rnd, done: map[string]int{}}
			strikes := 4
			if c.name == "fencing off" { // what a frozen worker had in hand is a matter of chance
				strikes = 10
			}
			for i := range strikes {
				f.until(time.Minute, "a load to be under way", func() bool { return l.started() >= 200*(i+1) })
				if err := c.strike(x); err != nil {
					t.Fatal(err)
				}
				f.startAll()
			}
			l.stop.Store(true)
			f.rests(l, 20*time.Second)
			broken := strings.Join(f.judge(l), "\n")
			if found := regexp.MustCompile(c.want).FindAllString(broken, -1); len(found) > 0 {
				t.Logf("%d broken promises, such as %q", len(found), found[0])
				return
			}
			t.Errorf("the judge sees nothing wrong; it says: %s", broken)
		})
	}
}

// killAt lets a worker die around a commit of its own: KIND[@PATH]:before|after:N.
func (c *chaos) killAt(where string) error {
	m := c.one("worker")
	if err := c.strike(m); err != nil {
		return err
	}
	p := m.start("DIME_TEST_KILL_AT=" + where)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%s did not come to %s in half a minute", m.name, where)
	}
	if !p.killed() {
		return fmt.Errorf("%s ended otherwise: %w", m.name, p.err)
	}
	return nil
}

// loseAll freezes the broker and kills it so together with a worker: what that one
// had written to it in between is nowhere.
func (c *chaos) loseAll() error {
	n := c.mq.Nodes[0]
	if err := n.Freeze(); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	if err := c.killOne("worker"); err != nil {
		return err
	}
	if err := n.Kill(); err != nil {
		return err
	}
	if err := n.Start(context.Background()); err != nil {
		return err
	}
	return n.Await(context.Background())
}

// unfence takes the look at a run's epoch out of the functions that write to it.
func (f *fleet) unfence() {
	f.t.Helper()
	for _, look := range [][2]string{{"append", "and epoch = p_epoch"}, {"renew", "and r.epoch = u.epoch"}, {"renew", "where r.lease_until is not null"}} {
		if err := f.pg.Rewrite(f.t.Context(), "dime", "dime", look[0], look[1], ""); err != nil {
			f.t.Fatal(err)
		}
	}
}
