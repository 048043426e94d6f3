package kill

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// certificates is people who ask for a certificate of residence and buy its stamp
// on the payment page, while the bus dies under them.
type certificates struct {
	rig  *rig
	stop atomic.Bool
	wg   sync.WaitGroup
	next atomic.Int64

	mu     sync.Mutex
	jobs   []*certificate
	errors []string
}

type certificate struct {
	id, run string
	pressed bool // the page said that the stamp was paid
}

func (c *certificates) person() {
	for !c.stop.Load() {
		j := &certificate{id: fmt.Sprintf("c-%d", c.next.Add(1))}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		err := c.one(ctx, j)
		cancel()
		c.mu.Lock()
		c.jobs = append(c.jobs, j)
		if err != nil {
			c.errors = append(c.errors, fmt.Sprintf("%s: %v", j.id, err))
		}
		c.mu.Unlock()
	}
}

func (c *certificates) one(ctx context.Context, j *certificate) error {
	a, err := c.rig.insist(ctx, c.rig.public+"/v1/certificates/residence", map[string]any{"request_id": j.id, "tax_code": resident})
	if err != nil {
		return err
	}
	j.run = runOf(a)
	if a.status == http.StatusGatewayTimeout { // he was let go; the run goes on without him
		return nil
	}
	page, _ := a.body["pay_at"].(string)
	if a.status != http.StatusAccepted || page == "" {
		return fmt.Errorf("answered %d: %v", a.status, a.body)
	}
	err = press(ctx, page)
	j.pressed = err == nil
	return err
}

// resident has a residence to certify.
const resident = "RSSMRA80A01L736U"

// gaps are the moments between which a certificate could be lost or doubled: the
// stamp is paid and its receipt is not here; the receipt is here and nothing is
// asked for; the certificate is issued and nobody has written that down; it is
// written down and its owner can't see it.
var gaps = []struct {
	name string
	at   []string // where the bus ends itself, in turn; none: once the far side holds a receipt back
}{
	{"paid", nil},
	{"receipt", []string{"woken@receipt:before", "woken@receipt:after"}},
	{"issued", []string{"outcome@certificate:before"}},
	{"answered", []string{"outcome@certificate:after", "end:before"}},
}

// TestKillCertificates: whatever dies when, a stamp is paid once, its certificate
// issued once and told once, and no paid position is closed.
func TestKillCertificates(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	r := newRigOn(t, binary(t), "../..", resident)
	r.route("told.yaml", told)
	kills := max(*killsFlag/2, 4*len(gaps))
	if *killsFlag >= 200 {
		kills = *killsFlag
	}
	c := &certificates{rig: r}
	for range 3 {
		c.wg.Go(c.person)
	}
	died := map[string]int{}
	for i := range kills {
		gap := gaps[i%len(gaps)]
		turn := i / len(gaps)
		if gap.at == nil {
			bus := r.start()
			r.await(bus, filepath.Join(r.dir, "bus.ready"))
			r.heldBack()
			r.end(bus)
		} else {
			at := gap.at[turn%len(gap.at)]
			bus := r.start(fmt.Sprintf("DIME_TEST_KILL_AT=%s:%d", at, 1+rnd.IntN(4)))
			select {
			case <-bus.done:
			case <-time.After(60 * time.Second):
				r.dump("bus.log")
				t.Fatalf("kill %d: no commit at %s in a minute", i, at)
			}
			if !bus.killed() {
				r.dump("bus.log")
				t.Fatalf("kill %d at %s: the bus ended otherwise: %v", i, at, bus.err)
			}
		}
		died[gap.name]++
	}
	c.stop.Store(true)
	r.start()
	c.wg.Wait()
	r.until(2*time.Minute, "every paid certificate to be issued", func() bool {
		runs := r.allRuns()
		for _, j := range c.jobs {
			if s := runs[j.run].State; j.pressed && s != "done" && s != "parked" {
				return false
			}
		}
		return true
	})
	r.until(time.Minute, "the city to hear of all", func() bool {
		n := r.count("told", "done")
		return n == r.count("told", "") && n >= r.count("residence-certificate", "done")
	})
	r.complain(append(c.errors, c.judge()...))
	r.stopBus()
	t.Logf("%d kills, %d certificates, gaps: %s", kills, len(c.jobs), list(died))
}

// told counts what the city hears of; its delay makes its runs durable.
const told = `route: told
version: 1
about: Hears of each certificate.
from:
  event: certificate.issued
subject: =req.tax_code
purpose: certificate-issue
steps:
  - delay: 10ms
`

// count is of a route's runs in a state, or in any.
func (r *rig) count(route, state string) (n int) {
	r.t.Helper()
	for _, run := range r.allRuns() {
		if run.Route == route && (state == "" || run.State == state) {
			n++
		}
	}
	return n
}

// route adds a route to the rig's content.
func (r *rig) route(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "content", "routes", name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// heldBack lets the node hold receipts back until somebody has paid meanwhile.
func (r *rig) heldBack() {
	r.t.Helper()
	r.fault("pagopa.node.receipt-late", "on")
	before := r.paid()
	r.until(30*time.Second, "somebody to pay", func() bool { return r.paid() > before })
	r.fault("pagopa.node.receipt-late", "off")
}

func (r *rig) fault(name, state string) {
	r.t.Helper()
	if out, err := exec.Command(r.binary, "city", "fault", name, state, "--city", r.city).CombinedOutput(); err != nil {
		r.t.Fatalf("switching %s %s: %v: %s", name, state, err, out)
	}
}

func (r *rig) paid() (n int) {
	r.t.Helper()
	var effects []effect
	if err := r.get(r.city+"/effects?connector=pagopa", &effects); err != nil {
		r.t.Fatal(err)
	}
	for _, e := range effects {
		if e.Operation == "payment" {
			n++
		}
	}
	return n
}

func (r *rig) end(p *proc) {
	r.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	if !p.killed() {
		r.dump("bus.log")
		r.t.Fatalf("the bus ended otherwise: %v", p.err)
	}
}

// judge holds the runs against the far sides' ledgers and the public register.
func (c *certificates) judge() (broken []string) {
	r := c.rig
	var effects []effect
	if err := r.get(r.city+"/effects", &effects); err != nil {
		r.t.Fatal(err)
	}
	rows, once := map[string]int{}, map[string]int{}
	for _, e := range effects {
		name := e.Connector + "." + e.Operation
		rows[name]++
		id := e.Key
		if e.Connector == "pagopa" {
			id = e.Subject // of the notice
		}
		if once[name+" "+id]++; once[name+" "+id] > 1 {
			broken = append(broken, fmt.Sprintf("%s of %s %d times", name, id, once[name+" "+id]))
		}
	}
	runs := r.allRuns()
	pressed, done := 0, 0
	files := map[string]string{}
	for _, j := range c.jobs {
		run, ok := runs[j.run]
		switch {
		case j.run == "": // its error is in the list
			continue
		case !ok:
			broken = append(broken, fmt.Sprintf("%s: run %s is lost", j.id, j.run))
			continue
		case j.pressed && run.State != "done":
			broken = append(broken, fmt.Sprintf("%s (run %s, %s %s): its stamp was paid and it is not issued", j.id, j.run, run.State, run.Reason))
		}
		if j.pressed {
			pressed++
		}
		if run.State != "done" {
			continue
		}
		done++
		url, err := c.fetch(j.run)
		if other := files[url]; err == nil && other != "" {
			err = fmt.Errorf("it is the file of %s too", other)
		}
		if err != nil {
			broken = append(broken, fmt.Sprintf("%s (run %s): %v", j.id, j.run, err))
		}
		files[url] = j.id
	}
	told := 0
	for _, run := range runs {
		if run.Route == "told" {
			told++
		}
	}
	for what, pair := range map[string][2]int{
		"stamps paid for pages pressed":                      {rows["pagopa.payment"], pressed},
		"certificates issued by ANPR for runs that are done": {rows["anagrafe.issue_certificate"], done},
		"protocol numbers for runs that are done":            {rows["protocollo.register"], done},
		"certificate.issued for runs that are done":          {told, done},
		"positions closed":                                   {rows["pagopa.close_position"], 0},
	} {
		if pair[0] != pair[1] {
			broken = append(broken, fmt.Sprintf("%s: %d, not %d", what, pair[0], pair[1]))
		}
	}
	if pressed == 0 {
		broken = append(broken, "nobody paid")
	}
	return broken
}

// fetch gets a certificate as its owner does.
func (c *certificates) fetch(run string) (url string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, err := c.rig.ask(ctx, http.MethodGet, c.rig.public+"/v1/runs/"+run, nil)
	if err != nil {
		return "", err
	}
	result, _ := a.body["result"].(map[string]any)
	url, _ = result["certificate_url"].(string)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return url, err
	}
	req.Header.Set("Authorization", "Bearer "+c.rig.token)
	resp, err := c.rig.client.Do(req)
	if err != nil {
		return url, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return url, err
	}
	verify, _ := result["verify_url"].(string)
	if resp.StatusCode != http.StatusOK || !bytes.HasPrefix(b, []byte("%PDF")) || verify == "" || !bytes.Contains(b, []byte(verify)) {
		return url, fmt.Errorf("%s: status %d, %d bytes that begin %q", strings.TrimPrefix(url, c.rig.public), resp.StatusCode, len(b), b[:min(8, len(b))])
	}
	return url, nil
}
