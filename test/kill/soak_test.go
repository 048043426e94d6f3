package kill

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	steadyFlag = flag.Duration("steady", 0, "how long TestSoak keeps the city at half of what it takes")
	onFlag     = flag.String("on", "embedded", "what TestSoak's city stands on: embedded, or servers (RabbitMQ and PostgreSQL)")
)

// soaked is a process that is watched.
type soaked struct{ name, admin string }

// sample is what a process holds at an instant.
type sample struct{ heap, resident, goroutines, files float64 }

// look reads a process's own metrics.
func (r *rig) look(s soaked) sample {
	r.t.Helper()
	resp, err := r.client.Get(s.admin + "/metrics")
	if err != nil {
		r.t.Fatalf("%s: %v", s.name, err)
	}
	defer resp.Body.Close()
	got := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			got[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	out := sample{got["go_memstats_heap_inuse_bytes"] / (1 << 20), got["process_resident_memory_bytes"] / (1 << 20), got["go_goroutines"], got["process_open_fds"]}
	if out.heap*out.resident*out.goroutines*out.files == 0 {
		r.t.Fatalf("%s shows no memory, goroutines or files", s.name)
	}
	return out
}

// pace asks for whole jobs, each with its confirmation.
type pace struct {
	r                     *rig
	asked, done, refused  atomic.Int64
	outside, outsideBound atomic.Int64 // under way; the most there were
	mu                    sync.Mutex
	took                  []time.Duration
	failed                []string
}

func (p *pace) one(ctx context.Context, id string) {
	p.asked.Add(1)
	start := time.Now()
	a, err := p.r.ask(ctx, http.MethodPost, p.r.public+"/v1/kill/jobs", map[string]any{"id": id, "stamps": []int{1}, "tell": false})
	took := time.Since(start)
	switch {
	case err == nil && (a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests):
		p.refused.Add(1)
		return
	case err == nil && a.status != http.StatusAccepted:
		err = fmt.Errorf("answered %d: %v", a.status, a.body)
	case err == nil:
		_, err = p.r.insist(ctx, p.r.public+"/v1/kill/confirmations", map[string]any{"id": id})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed = append(p.failed, id+": "+err.Error())
		return
	}
	p.took = append(p.took, took)
	p.done.Add(1)
}

// capacity is how many jobs a second are carried out to their ends where 32 ask as
// fast as they are answered.
func (r *rig) capacity(length time.Duration) float64 {
	r.t.Helper()
	p := &pace{r: r}
	var wg sync.WaitGroup
	start := time.Now()
	for c := range 32 {
		wg.Go(func() {
			for i := 0; time.Since(start) < length; i++ {
				ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
				p.one(ctx, fmt.Sprintf("peak-%d-%d", c, i))
				cancel()
			}
		})
	}
	wg.Wait()
	r.ended()
	if len(p.failed) > 0 {
		r.t.Fatalf("%d jobs failed at the peak, the first: %s", len(p.failed), p.failed[0])
	}
	return float64(p.done.Load()) / time.Since(start).Seconds()
}

// ended waits until nothing moves.
func (r *rig) ended() {
	r.t.Helper()
	r.until(120*time.Second, "all runs to end", func() bool {
		time.Sleep(200 * time.Millisecond) // who asks for them reads the whole journal
		var list runList
		err := r.get(r.admin+"/runs?state=queued&state=running&state=waiting&state=undoing&limit=1", &list)
		return err == nil && len(list.Runs) == 0
	})
}

// hold asks for jobs at a steady rate, whatever comes back, for a while, and has
// look called every so often.
func (r *rig) hold(rate float64, length, every time.Duration, look func()) *pace {
	p := &pace{r: r}
	var wg sync.WaitGroup
	start := time.Now()
	next := start.Add(every)
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for i := 0; time.Since(start) < length; i++ {
		<-tick.C
		if time.Now().After(next) {
			next = next.Add(every)
			look()
		}
		if n := p.outside.Add(1); n > 1000 { // a capped generator: what it would add is refused
			p.outside.Add(-1)
			p.refused.Add(1)
			continue
		}
		p.outsideBound.Store(max(p.outsideBound.Load(), p.outside.Load()))
		wg.Go(func() {
			defer p.outside.Add(-1)
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			p.one(ctx, fmt.Sprintf("steady-%d", i))
		})
	}
	wg.Wait()
	return p
}

// TestSoak keeps the city at half of what it takes: memory, goroutines and open
// files of each process are at the end what they were once it had warmed up.
func TestSoak(t *testing.T) {
	if *steadyFlag == 0 {
		t.Log("not checked: a soak takes as long as -steady says")
		return
	}
	var r *rig
	var watched []soaked
	if *onFlag == "servers" {
		f := newFleet(t, "content", "RSSMRA80A01L736U", 1, 1, 2)
		f.startAll()
		r = f.rig
		for _, m := range f.members {
			watched = append(watched, soaked{m.name, "http://" + m.admin})
		}
	} else {
		r = newRig(t, binary(t))
		r.await(r.start(), filepath.Join(r.dir, "bus.ready"))
		defer r.stopBus()
		watched = []soaked{{"embedded", r.admin}}
	}
	// Connections of a burst do not stay for the next sample.
	r.client = &http.Client{Timeout: r.client.Timeout, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Second}}
	peak := r.capacity(20 * time.Second)
	samples := map[string][]sample{}
	p := r.hold(peak/2, *steadyFlag, *steadyFlag/100, func() {
		for _, s := range watched {
			samples[s.name] = append(samples[s.name], r.look(s))
		}
	})
	r.ended()
	for _, state := range []string{"failed", "parked"} {
		var list runList
		if err := r.get(r.admin+"/runs?limit=1&state="+state, &list); err != nil || len(list.Runs) > 0 {
			t.Errorf("a run is %s: %v %v", state, list.Runs, err)
		}
	}
	slices.Sort(p.took)
	if len(p.failed) > 0 || p.refused.Load() > 0 || len(p.took) == 0 {
		t.Fatalf("at half of its capacity %d of %d jobs were refused and %d failed: %v", p.refused.Load(), p.asked.Load(), len(p.failed), p.failed[:min(len(p.failed), 3)])
	}
	t.Logf("soak on %s, %s at half of %.0f jobs/s: %d jobs, p50 %s, p99 %s, at most %d under way%s", *onFlag, *steadyFlag, peak, p.done.Load(),
		p.took[len(p.took)/2].Round(10*time.Microsecond), p.took[len(p.took)*99/100].Round(10*time.Microsecond), p.outsideBound.Load(), r.size())
	for _, s := range watched {
		if n := len(samples[s.name]); n < 20 {
			t.Fatalf("%s: %d samples are too few", s.name, n)
		}
		figures, grown := flat(s.name, samples[s.name])
		t.Logf("soak of %s: %s", s.name, strings.Join(figures, "; "))
		for _, g := range grown {
			t.Error(g)
		}
	}
}

// size is what the embedded store takes on the disk; "" where there is none.
func (r *rig) size() string {
	var all int64
	_ = filepath.WalkDir(filepath.Join(r.dir, "bus"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if i, err := d.Info(); err == nil {
				all += i.Size()
			}
		}
		return nil // a file that is gone has no size
	})
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("; %d MiB in the data folder", all>>20)
}

// flat compares the second and the last fifth, and says what grew: of memory the
// medians; of goroutines and files, which come and go with connections, the lowest,
// for what leaks is there at all times.
func flat(name string, all []sample) (figures, grown []string) {
	fifth := len(all) / 5
	for _, of := range []struct {
		what  string
		value func(sample) float64
		place int     // among the sorted of a fifth
		slack float64 // beside a quarter more
	}{
		{"MiB of heap", func(s sample) float64 { return s.heap }, fifth / 2, 8},
		{"MiB resident", func(s sample) float64 { return s.resident }, fifth / 2, 16},
		{"goroutines", func(s sample) float64 { return s.goroutines }, 0, 32},
		{"open files", func(s sample) float64 { return s.files }, 0, 16},
	} {
		figure := func(part []sample) float64 {
			part = slices.SortedFunc(slices.Values(part), func(a, b sample) int { return cmp.Compare(of.value(a), of.value(b)) })
			return of.value(part[of.place])
		}
		early, late := figure(all[fifth:2*fifth]), figure(all[len(all)-fifth:])
		figures = append(figures, fmt.Sprintf("%.0f, then %.0f %s", early, late, of.what))
		if late > 1.25*early+of.slack {
			grown = append(grown, fmt.Sprintf("%s grows from %.0f to %.0f %s", name, early, late, of.what))
		}
	}
	return figures, grown
}

// The judge of the soak sees what grows slowly.
func TestASoakSeesGrowth(t *testing.T) {
	still := sample{heap: 30, resident: 80, goroutines: 200, files: 100}
	all := slices.Repeat([]sample{still}, 100)
	if _, grown := flat("still", all); len(grown) > 0 {
		t.Error(grown)
	}
	for i := range all {
		f := float64(i) / 100
		all[i] = sample{heap: 30 + 40*f, resident: 80 + 80*f, goroutines: 200 + 200*f, files: 100 + 100*f}
	}
	if _, grown := flat("leak", all); len(grown) != 4 {
		t.Errorf("of four that grow these are seen: %v", grown)
	}
}
