package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/dime-bus/dime/bench/control"
	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/all"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/pipeline/language"
)

// benchLint: checking 1,000 routes against only parsing the same YAML.
func benchLint(e *env) ([]Row, error) {
	content, err := w1Content(e, "lint", "http://127.0.0.1:9/")
	if err != nil {
		return nil, err
	}
	if err := manyRoutes(content, 1000); err != nil {
		return nil, err
	}
	fsys := os.DirFS(content)
	schemas, _ := schema.Load(fsys, "schemas")
	cs, problems := all.Build(fsys, all.Deps{Schemas: schemas})
	if len(problems) > 0 {
		return nil, fmt.Errorf("bench/w1: %v", problems)
	}
	descriptions := map[string]connectors.Description{}
	for name, c := range cs {
		descriptions[name] = c.Describe()
	}
	files, err := filepath.Glob(filepath.Join(content, "routes", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var lint, parse []float64
	for range e.rounds {
		start := time.Now()
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			var n yaml.Node
			if err := yaml.Unmarshal(b, &n); err != nil {
				return nil, err
			}
		}
		parse = append(parse, time.Since(start).Seconds())
		start = time.Now()
		city, problems := language.Load(fsys, language.Options{Connectors: descriptions})
		lint = append(lint, time.Since(start).Seconds())
		if len(problems) > 0 || len(city.Routes) != 1000 {
			return nil, fmt.Errorf("linting: %d routes, problems: %v", len(city.Routes), problems[:min(len(problems), 3)])
		}
	}
	return []Row{
		cost("lint_vs_parse", "s for 1,000 routes", median(lint), median(parse), 6),
		cost("lint_1000_routes", "s", median(lint), 2, 1),
	}, nil
}

// benchReload: from writing one changed file among 1,000 to its effect, under
// load; no request may fail.
func benchReload(e *env) ([]Row, error) {
	backend, err := startControl(e, "backend")
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	content, err := w1Content(e, "reload", backend.url)
	if err != nil {
		return nil, err
	}
	if err := manyRoutes(content, 1000); err != nil {
		return nil, err
	}
	p, err := startDime(e, content, content+"-data")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	var stop atomic.Bool
	loadErr := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if _, err := load(p.url+"/v1/reshape", 2, 200*time.Millisecond, control.Sample, control.CheckReply); err != nil {
				loadErr <- err
				return
			}
		}
		loadErr <- nil
	}()
	file := filepath.Join(content, "routes", "reshape-500.yaml")
	var took []float64
	for i := range max(e.rounds, 3) {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s := string(b)
		at := strings.Index(s, "POST /v1/reshape-500")
		end := at + strings.IndexByte(s[at:], '\n')
		path := fmt.Sprintf("/v1/reshape-500-%d", i)
		s = s[:at] + "POST " + path + s[end:]
		s = strings.Replace(s, fmt.Sprintf("version: %d\n", i+1), fmt.Sprintf("version: %d\n", i+2), 1)
		if err := os.WriteFile(file+".new", []byte(s), 0o644); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := os.Rename(file+".new", file); err != nil {
			return nil, err
		}
		for {
			resp, err := http.Post(p.url+path, "application/json", strings.NewReader(string(control.Sample(1))))
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
			if time.Since(start) > 20*time.Second {
				return nil, fmt.Errorf("the change had no effect in 20 s: status %d: %s", resp.StatusCode, p.stderr.String())
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(start).Seconds()*1000)
	}
	stop.Store(true)
	if err := <-loadErr; err != nil {
		return nil, fmt.Errorf("a request failed during reload: %w", err)
	}
	return []Row{cost("reload_one_of_1000", "ms", median(took), 200, 1)}, nil
}

// benches lists the measurements in the order of the table.
func benches() []bench {
	return []bench{
		{"w1", benchW1},
		{"timeline", benchTimeline},
		{"queue", benchQueue},
		{"latency", benchQueueLatency},
		{"broker", benchBroker},
		{"broker_latency", benchBrokerLatency},
		{"w2", benchW2},
		{"workers", benchWorkers},
		{"overload", benchOverload},
		{"accept", benchAccept},
		{"journal", benchJournal},
		{"postgres", benchPostgresJournal},
		{"lint", benchLint},
		{"reload", benchReload},
		{"growth", benchGrowth},
		{"start", benchStart},
		{"node", benchNode},
	}
}
