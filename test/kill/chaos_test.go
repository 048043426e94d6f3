package kill

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	runsFlag   = flag.Int("runs", 10_000, "how many runs the fleet carries out under faults")
	faultsFlag = flag.Int("faults", 11, "how many faults meet the fleet")
)

// TestChaos: three brokers, PostgreSQL, two gateways and three workers under load,
// while all of them die, freeze, slow down and lose each other. Nothing that was
// accepted is lost, effects happen as promised, and a key's effects stay in order.
func TestChaos(t *testing.T) {
	rnd := seeded(t)
	f := newFleet(t, "content", "RSSMRA80A01L736U", 3, 2, 3)
	c := &chaos{fleet: f, rnd: rnd, done: map[string]int{}}
	f.turnOn("ledger.latency.5ms") // so that faults meet calls under way
	f.startAll()
	l := startLoad(f.rig, 24, true, rnd)
	for k := range 4 {
		l.wg.Go(func() { l.inOrder(fmt.Sprintf("key-%d", k)) })
	}
	for i := range *faultsFlag {
		if i == *faultsFlag-1 { // the last one meets the end of the load
			f.until(30*time.Minute, fmt.Sprintf("%d runs", *runsFlag), func() bool { return l.started() >= *runsFlag })
		}
		c.fault(i)
		f.startAll()
	}
	last := time.Now()
	l.stop.Store(true)
	f.settled(l)
	took := time.Since(last).Round(time.Second)
	f.complain(append(f.judge(l), f.judgeOrder(l)...))
	runs := f.allRuns()
	t.Logf("%d faults, %d runs, %d jobs, %d parked in doubt, settled %s after the last fault: %s",
		*faultsFlag, len(runs), len(l.jobs), f.parked(), took, list(c.done))
}

// started is how many runs the load has surely begun.
func (l *load) started() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.ordered
	for _, j := range l.jobs {
		if n++; j.confirm {
			n++
		}
	}
	return n
}

// inOrder asks for one key's effects, each when the one before was taken.
func (l *load) inOrder(key string) {
	for n := 1; !l.stop.Load(); n++ {
		ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
		a, err := l.rig.insist(ctx, l.rig.public+"/v1/kill/order", map[string]any{"key": key, "n": n})
		cancel()
		if err == nil && a.status != http.StatusAccepted && a.status != http.StatusGatewayTimeout {
			err = fmt.Errorf("refused with %d: %v", a.status, a.body)
		}
		l.mu.Lock()
		l.ordered++
		if l.accepted == nil {
			l.accepted = map[string]int{}
		}
		if err == nil {
			l.accepted[key] = n
		}
		if err != nil {
			l.errors = append(l.errors, fmt.Sprintf("%s-%d: %v", key, n, err))
		}
		l.mu.Unlock()
	}
}

var stampOf = regexp.MustCompile(`/jobs/(key-\d+)/stamps/(\d+)`)

// judgeOrder holds the first arrivals of each key's effects against the order of
// their requests, and looks for any that is missing.
func (f *fleet) judgeOrder(l *load) (broken []string) {
	f.t.Helper()
	var arrivals []arrival
	if err := f.get(f.city+"/arrivals", &arrivals); err != nil {
		f.t.Fatal(err)
	}
	last, seen := map[string]int{}, map[string]map[int]bool{}
	for _, a := range arrivals {
		m := stampOf.FindStringSubmatch(a.Path)
		if m == nil {
			continue
		}
		n, _ := strconv.Atoi(m[2])
		if seen[m[1]] == nil {
			seen[m[1]] = map[int]bool{}
		}
		if seen[m[1]][n] {
			continue
		}
		seen[m[1]][n] = true
		if n != last[m[1]]+1 {
			broken = append(broken, fmt.Sprintf("%s: %d came behind %d", m[1], n, last[m[1]]))
		}
		last[m[1]] = n
	}
	if len(l.accepted) == 0 {
		broken = append(broken, "no key's effects were asked for")
	}
	for key, n := range l.accepted {
		if last[key] < n {
			broken = append(broken, fmt.Sprintf("%s: %d was accepted, and %d came last", key, n, last[key]))
		}
	}
	return broken
}

// chaos does faults, each proven: what it strikes lived before, and shows it.
type chaos struct {
	*fleet
	rnd  *rand.Rand
	done map[string]int
}

func (c *chaos) fault(i int) {
	c.t.Helper()
	all := []struct {
		name string
		do   func() error
	}{
		{"worker killed", func() error { return c.killOne("worker") }},
		{"gateway killed", func() error { return c.killOne("gateway") }},
		{"worker frozen", c.freezeWorker},
		{"broker node killed", c.killBroker},
		{"broker node frozen", c.freezeBroker},
		{"broker connections closed", c.closeConnections},
		{"PostgreSQL killed", func() error { return c.restartPostgres(c.pg.Kill) }},
		{"PostgreSQL restarted", func() error { return c.restartPostgres(c.pg.Stop) }},
		{"PostgreSQL slow", c.slowPostgres},
		{"PostgreSQL cut off", c.cutPostgres},
		{"worker dead at a record", c.killAtRecord},
	}
	f := all[i%len(all)]
	time.Sleep(time.Duration(500+c.rnd.IntN(1500)) * time.Millisecond) // the load goes on between two faults
	if err := f.do(); err != nil {
		c.t.Fatalf("fault %d, %s: %v", i, f.name, err)
	}
	c.done[f.name]++
}

func (c *chaos) one(kind string) *member {
	ms := slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return !strings.HasPrefix(m.name, kind) })
	return ms[c.rnd.IntN(len(ms))]
}

func (c *chaos) killOne(kind string) error { return c.strike(c.one(kind)) }

// killAtRecord lets a worker die around a commit of its own.
func (c *chaos) killAtRecord() error {
	kind := []string{"intent", "outcome", "woken", "end"}[c.rnd.IntN(4)]
	return c.killAt(fmt.Sprintf("%s:%s:%d", kind, []string{"before", "after"}[c.rnd.IntN(2)], 1+c.rnd.IntN(5)))
}

func (c *chaos) strike(m *member) error {
	p := m.proc()
	if !p.alive() {
		return fmt.Errorf("%s was dead before", m.name)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	if !p.killed() {
		return fmt.Errorf("%s ended otherwise: %w", m.name, p.err)
	}
	return nil
}

// freezeWorker stops a worker for longer than its leases live: the others take its
// runs, and what it still believes to own when it wakes is refused.
func (c *chaos) freezeWorker() error {
	m := c.one("worker")
	if err := m.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pid := m.proc().cmd.Process.Pid
	c.until(5*time.Second, m.name+" to stand still", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(b), ") T ")
	})
	time.Sleep(5 * time.Second) // the rig's leases live 3 s
	return m.signal(syscall.SIGCONT)
}

func (c *chaos) killBroker() error {
	n := c.mq.Nodes[c.rnd.IntN(len(c.mq.Nodes))]
	if err := n.Kill(); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	if err := n.Start(context.Background()); err != nil {
		return err
	}
	return n.Await(context.Background())
}

func (c *chaos) freezeBroker() error {
	n := c.mq.Nodes[c.rnd.IntN(len(c.mq.Nodes))]
	if err := n.Freeze(); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	return n.Thaw()
}

func (c *chaos) closeConnections() error {
	return c.mq.Nodes[c.rnd.IntN(len(c.mq.Nodes))].CloseConnections(context.Background())
}

func (c *chaos) restartPostgres(end func() error) error {
	if err := end(); err != nil {
		return err
	}
	time.Sleep(time.Second)
	return c.pg.Start()
}

func (c *chaos) slowPostgres() error {
	if err := c.between.slow(100); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	return c.between.heal()
}

func (c *chaos) cutPostgres() error {
	c.between.cut()
	time.Sleep(2 * time.Second)
	return c.between.mend()
}
