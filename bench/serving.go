package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dime-bus/dime/bench/control"
)

// w1Content copies bench/w1 and points its backend at url.
func w1Content(e *env, name, url string) (string, error) {
	dir := filepath.Join(e.dir, name)
	if err := copyTree(filepath.Join("bench", "w1"), dir); err != nil {
		return "", fmt.Errorf("copying bench/w1: %w", err)
	}
	f := filepath.Join(dir, "config", "connectors", "backend.yaml")
	b, err := os.ReadFile(f)
	if err != nil {
		return "", err
	}
	b = []byte(strings.Replace(string(b), "http://127.0.0.1:9/", url, 1))
	return dir, os.WriteFile(f, b, 0o644)
}

const w1Connections = 32

// round is one interleaved round: requests a second and processor time a request.
func round(p *process, path string, length time.Duration) (perSecond, cpuMicros float64, err error) {
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	n, err := load(p.url+path, w1Connections, length, control.Sample, control.CheckReply)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(start)
	after, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	return float64(n) / took.Seconds(), float64((after - before).Microseconds()) / float64(max(n, 1)), nil
}

// benchW1: HTTP POST of 1 KiB -> reshape ten fields -> HTTP backend -> reshape ->
// reply, 32 connections, against the same by hand. Validation of both bodies and
// the timeline are on.
func benchW1(e *env) ([]Row, error) {
	backend, err := startControl(e, "backend")
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	hand, err := startControl(e, "handwritten", backend.url)
	if err != nil {
		return nil, err
	}
	defer hand.stop()
	content, err := w1Content(e, "w1", backend.url)
	if err != nil {
		return nil, err
	}
	ours, err := startDime(e, content, filepath.Join(e.dir, "w1-data"))
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	var a, b, ca, cb []float64
	for i := range e.rounds + 1 {
		ra, ua, err := round(ours, "/v1/reshape", e.length)
		if err != nil {
			return nil, fmt.Errorf("dime: %w", err)
		}
		rb, ub, err := round(hand, "/", e.length)
		if err != nil {
			return nil, fmt.Errorf("control: %w", err)
		}
		if i > 0 || e.rounds == 1 { // the first round warms both up
			a, b, ca, cb = append(a, ra), append(b, rb), append(ca, ua), append(cb, ub)
		}
	}
	return []Row{
		rate("w1_reshape_vs_hand_written", "requests/s", median(a), median(b), 0.75),
		cost("w1_cpu_vs_hand_written", "us/request", median(ca), median(cb), 2),
	}, nil
}

// benchTimeline: the same load with the timeline's ring switched off.
func benchTimeline(e *env) ([]Row, error) {
	backend, err := startControl(e, "backend")
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	content, err := w1Content(e, "timeline", backend.url)
	if err != nil {
		return nil, err
	}
	on, err := startDime(e, content, filepath.Join(e.dir, "timeline-on"))
	if err != nil {
		return nil, err
	}
	defer on.stop()
	off, err := startDime(e, content, filepath.Join(e.dir, "timeline-off"), "--timeline=0")
	if err != nil {
		return nil, err
	}
	defer off.stop()
	a, b, err := interleave(e, on, "/v1/reshape", off, "/v1/reshape")
	if err != nil {
		return nil, err
	}
	return []Row{rate("timeline_on_vs_off", "requests/s", a, b, 0.90)}, nil
}

// interleave returns the medians of requests/s of two servers.
func interleave(e *env, p *process, pathP string, q *process, pathQ string) (float64, float64, error) {
	var a, b []float64
	for i := range e.rounds + 1 {
		ra, _, err := round(p, pathP, e.length)
		if err != nil {
			return 0, 0, err
		}
		rb, _, err := round(q, pathQ, e.length)
		if err != nil {
			return 0, 0, err
		}
		if i > 0 || e.rounds == 1 {
			a, b = append(a, ra), append(b, rb)
		}
	}
	return median(a), median(b), nil
}

// manyRoutes adds copies of the reshape route until the folder has n.
func manyRoutes(content string, n int) error {
	src, err := os.ReadFile(filepath.Join(content, "routes", "reshape.yaml"))
	if err != nil {
		return err
	}
	for i := 1; i < n; i++ {
		s := strings.Replace(string(src), "route: reshape", fmt.Sprintf("route: reshape-%d", i), 1)
		s = strings.Replace(s, "POST /v1/reshape", fmt.Sprintf("POST /v1/reshape-%d", i), 1)
		if err := os.WriteFile(filepath.Join(content, "routes", fmt.Sprintf("reshape-%d.yaml", i)), []byte(s), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// benchGrowth: processor time a request with 10 and with 1,000 routes.
func benchGrowth(e *env) ([]Row, error) {
	backend, err := startControl(e, "backend")
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	servers := map[int]*process{}
	for _, n := range []int{10, 1000} {
		content, err := w1Content(e, fmt.Sprintf("routes-%d", n), backend.url)
		if err != nil {
			return nil, err
		}
		if err := manyRoutes(content, n); err != nil {
			return nil, err
		}
		p, err := startDime(e, content, content+"-data")
		if err != nil {
			return nil, err
		}
		defer p.stop()
		servers[n] = p
	}
	cpu := map[int][]float64{}
	for i := range e.rounds + 1 {
		for _, n := range []int{10, 1000} {
			_, us, err := round(servers[n], "/v1/reshape", e.length)
			if err != nil {
				return nil, err
			}
			if i > 0 || e.rounds == 1 {
				cpu[n] = append(cpu[n], us)
			}
		}
	}
	return []Row{cost("routes_10_vs_1000", "us/request", median(cpu[1000]), median(cpu[10]), 1.10)}, nil
}

// benchStart: cold start to ready and idle memory with the shipped city.
func benchStart(e *env) ([]Row, error) {
	var starts, mems []float64
	for i := range max(e.rounds, 3) {
		p, err := startDime(e, ".", filepath.Join(e.dir, fmt.Sprintf("start-%d", i)), "--city", "embedded")
		if err != nil {
			return nil, err
		}
		time.Sleep(2 * time.Second) // idle, not starting
		m, err := p.memory()
		p.stop()
		if err != nil {
			return nil, err
		}
		starts, mems = append(starts, p.ready.Seconds()*1000), append(mems, m)
	}
	return []Row{
		cost("cold_start", "ms", median(starts), 300, 1),
		cost("idle_memory", "MiB", median(mems), 60, 1),
	}, nil
}
