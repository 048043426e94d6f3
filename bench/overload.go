package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/bench/control"
)

// overloaded is bench/w1 with effects in the place of its read: two of them, the
// first with an undo, on a backend that bears so many calls at once.
func overloaded(e *env, name, url string, inFlight int) (string, error) {
	dir, err := w1Content(e, name, url)
	if err != nil {
		return "", err
	}
	const with = `
    with: {ref: =req.request_id, holder: =req.citizen.tax_code, first: =req.citizen.name, last: =req.citizen.surname,
      mail: =req.citizen.email, street: =req.address.street, district: =req.address.sestiere, type: =req.kind,
      cents: =req.amount, text: =req.notes, labels: =req.tags}`
	const operation = `
    about: Writes a practice.
    method: POST
    path: /practices
    in: practice
    out: receipt
    effect: writes
    keyed: 'bench/control: "one key is carried out once"'
`
	for file, text := range map[string]string{
		"config/connectors/backend.yaml": "base_url: " + url + fmt.Sprintf("\ntimeout: 5s\nin_flight: %d\nhttp:", inFlight) +
			"\n  open_practice:" + operation + "  pay_practice:" + operation + "  close_practice:" + operation,
		"routes/overload.yaml": `route: overload
version: 1
about: Opens a practice and pays for it.
owner: bench@comune.example

from:
  http: POST /v1/overload
req: order
subject: =req.citizen.tax_code
purpose: bench

steps:
  - call: backend.open_practice
    as: opened` + with + `
    undo: {call: backend.close_practice, ` + strings.TrimSpace(with) + `}
  - call: backend.pay_practice
    as: paid` + with + `
    undo: {none: what was paid is settled by hand}
  - reply: 201
    with: {protocol: =opened.number}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, os.Remove(filepath.Join(dir, "routes", "reshape.yaml"))
}

// tally is how a load went.
type tally struct {
	mu       sync.Mutex
	accepted []time.Duration // how long each took, from the instant at which it was due
	refused  int             // 429 and 503
	silent   int             // of those, without Retry-After
	capped   int             // not sent: the generator had too many open
	broken   []string
	took     time.Duration
}

func (t *tally) goodput() float64 { return float64(len(t.accepted)) / t.took.Seconds() }

func (t *tally) p99() float64 {
	slices.Sort(t.accepted)
	return t.accepted[len(t.accepted)*99/100].Seconds() * 1000
}

func (t *tally) err() error {
	if len(t.broken) > 0 {
		return fmt.Errorf("%d requests were neither accepted nor refused, the first: %s", len(t.broken), t.broken[0])
	}
	if t.silent > 0 {
		return fmt.Errorf("%d of %d refusals had no Retry-After", t.silent, t.refused)
	}
	if sent := len(t.accepted) + t.refused; t.capped > sent/20 {
		return fmt.Errorf("%d requests were not sent beside %d that were: answers stay out", t.capped, sent)
	}
	if len(t.accepted) == 0 {
		return fmt.Errorf("nothing was accepted, %d refused", t.refused)
	}
	return nil
}

func (t *tally) one(c *http.Client, url string, id int, due time.Time) {
	resp, err := c.Post(url, "application/json", bytes.NewReader(control.Sample(id)))
	if err != nil {
		t.mu.Lock()
		t.broken = append(t.broken, err.Error())
		t.mu.Unlock()
		return
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what it says is for a broken one
	_ = resp.Body.Close()
	took := time.Since(due)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case resp.StatusCode == http.StatusCreated:
		t.accepted = append(t.accepted, took)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
		t.refused++
		if resp.Header.Get("Retry-After") == "" {
			t.silent++
		}
	default:
		t.broken = append(t.broken, fmt.Sprintf("status %d: %s", resp.StatusCode, body))
	}
}

// mostOpen caps the generator below what the bus lets one address hold open: what
// is beyond it is counted, not sent.
const mostOpen = 1000

// offer sends requests at a rate whatever comes back, at random instants (Poisson).
func offer(url string, rate float64, length time.Duration, first int) *tally {
	t := &tally{took: length}
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: mostOpen}}
	defer c.CloseIdleConnections()
	open := make(chan struct{}, mostOpen)
	rnd := rand.New(rand.NewPCG(uint64(first), 1))
	var all sync.WaitGroup
	start := time.Now()
	for due, id := start, first; due.Sub(start) < length; id++ {
		due = due.Add(time.Duration(-math.Log(1-rnd.Float64()) / rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		select {
		case open <- struct{}{}:
		default:
			t.capped++
			continue
		}
		all.Go(func() { t.one(c, url, id, due); <-open })
	}
	all.Wait()
	return t
}

// saturate keeps so many requests open, each followed by the next.
func saturate(url string, open int, length time.Duration, first int) *tally {
	t := &tally{}
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: open}}
	defer c.CloseIdleConnections()
	var all sync.WaitGroup
	start := time.Now()
	for i := range open {
		all.Go(func() {
			for n := 0; time.Since(start) < length; n++ {
				t.one(c, url, first+i*100_000+n, time.Now())
			}
		})
	}
	all.Wait()
	t.took = time.Since(start)
	return t
}

// benchOverload offers three times what a city can do: effectful runs, whose second
// effect competes with the first of the next. What is done must stay near the peak,
// what is accepted must not become slow, the rest is refused at once and leaves no
// memory behind.
func benchOverload(e *env) ([]Row, error) {
	const inFlight = 32
	backend, err := startControl(e, "slow", "50ms")
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	content, err := overloaded(e, "overload", backend.url, inFlight)
	if err != nil {
		return nil, err
	}
	p, err := startDime(e, content, filepath.Join(e.dir, "overload-data"), "--log", "error")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	return overload(e, p, "overload", inFlight)
}

// overload measures peak, 90 % of it and three times it, round by round.
func overload(e *env, p *process, name string, open int) ([]Row, error) {
	url, length := p.url+"/v1/overload", e.length/2
	var peak, good, calm, crowded, rest, full []float64
	for i := range e.rounds + 1 {
		first := (i + 1) * 100_000_000
		a := saturate(url, open, length, first)
		if err := a.err(); err != nil {
			return nil, fmt.Errorf("peak: %w", err)
		}
		b := offer(url, 0.9*a.goodput(), length, first+30_000_000)
		if err := b.err(); err != nil {
			return nil, fmt.Errorf("at 90 %% of the peak: %w", err)
		}
		m, err := p.memory()
		if err != nil {
			return nil, err
		}
		c := offer(url, 3*a.goodput(), length, first+60_000_000)
		if err := c.err(); err != nil {
			return nil, fmt.Errorf("at three times the peak: %w", err)
		}
		n, err := p.memory()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "  peak %.0f/s; 90 %%: %.0f/s, %d refused, p99 %.0f ms; 300 %%: %.0f/s, %d refused, %d not sent, p99 %.0f ms; %.0f then %.0f MiB\n",
			a.goodput(), b.goodput(), b.refused, b.p99(), c.goodput(), c.refused, c.capped, c.p99(), m, n)
		if i == 0 && e.rounds > 1 {
			continue // it warms up
		}
		peak, good = append(peak, a.goodput()), append(good, c.goodput())
		calm, crowded = append(calm, b.p99()), append(crowded, c.p99())
		rest, full = append(rest, m), append(full, n)
	}
	return []Row{
		rate(name+"_goodput_vs_peak", "runs/s", median(good), median(peak), 0.85),
		cost(name+"_p99_vs_90_percent", "ms", median(crowded), median(calm), 2),
		cost(name+"_memory_vs_90_percent", "MiB", median(full), median(rest), 1.5),
	}, nil
}
