package city

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// Fault is a switch and how it stands.
type Fault struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
}

const latencyWord = ".latency."

// Faults lists every switch that there is, those that are on among them.
func (c *City) Faults() []Fault {
	on := *c.on.Load()
	var fs []Fault
	for _, n := range c.faultNames() {
		fs = append(fs, Fault{n, on[n]})
	}
	for _, n := range slices.Sorted(maps.Keys(on)) {
		if !slices.ContainsFunc(fs, func(f Fault) bool { return f.Name == n }) {
			fs = append(fs, Fault{n, true})
		}
	}
	return fs
}

func (c *City) faultNames() []string {
	var ns []string
	sides := *c.sides.Load()
	for _, name := range c.Names() {
		for _, f := range sides[name].Faults() {
			ns = append(ns, name+"."+f)
		}
		ns = append(ns, name+latencyWord+"200ms")
	}
	return ns
}

// Switch turns a fault on or off. Names are CONNECTOR.OPERATION.FAULT,
// CONNECTOR.no-dedupe and CONNECTOR.latency.DURATION; one latency of a connector
// replaces another. An unknown name is an error that suggests the nearest.
func (c *City) Switch(name string, on bool) error {
	if err := c.known(name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := maps.Clone(c.faults)
	if i := strings.Index(name, latencyWord); i > 0 {
		maps.DeleteFunc(next, func(n string, _ bool) bool { return strings.HasPrefix(n, name[:i]+latencyWord) })
	}
	if on {
		next[name] = true
	} else {
		delete(next, name)
	}
	return c.store(next)
}

// Calm turns every fault off.
func (c *City) Calm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store(map[string]bool{})
}

func (c *City) known(name string) error {
	names := c.faultNames()
	if slices.Contains(names, name) {
		return nil
	}
	if connector, d, ok := strings.Cut(name, latencyWord); ok {
		if slices.Contains(c.Names(), connector) {
			if dur, err := time.ParseDuration(d); err != nil || dur <= 0 || dur > time.Minute {
				return fmt.Errorf("%q is no latency: write a duration up to a minute, as in %s.latency.200ms", d, connector)
			}
			return nil
		}
	}
	if s := yamldoc.Suggest(name, names); s != "" {
		return fmt.Errorf("there is no fault %q; did you mean %q?", name, s)
	}
	return fmt.Errorf("there is no fault %q; they are CONNECTOR.OPERATION.FAULT, CONNECTOR.no-dedupe and CONNECTOR.latency.200ms", name)
}

// store keeps the switches, on disk too; c.mu is held.
func (c *City) store(next map[string]bool) error {
	if c.cfg.Data != "" {
		b, err := json.Marshal(slices.Sorted(maps.Keys(next)))
		if err != nil {
			return err
		}
		file := c.faultsFile()
		if err := os.WriteFile(file+".new", b, 0o600); err != nil {
			return fmt.Errorf("keeping the switched faults: %w", err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			return fmt.Errorf("keeping the switched faults: %w", err)
		}
	}
	c.faults = next
	c.publish()
	return nil
}

func (c *City) publish() {
	on := maps.Clone(c.faults)
	c.on.Store(&on)
}

func (c *City) faultsFile() string { return filepath.Join(c.cfg.Data, "faults.json") }

func (c *City) loadFaults() error {
	b, err := os.ReadFile(c.faultsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var on []string
	if err := json.Unmarshal(b, &on); err != nil {
		return err
	}
	for _, n := range on {
		c.faults[n] = true
	}
	return nil
}

func (c *City) switched(name string) bool { return (*c.on.Load())[name] }

func (c *City) latency(connector string) time.Duration {
	for n := range *c.on.Load() {
		if d, ok := strings.CutPrefix(n, connector+latencyWord); ok {
			dur, _ := time.ParseDuration(d)
			return dur
		}
	}
	return 0
}

func (c *City) getFaults(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, c.Faults())
}

func (c *City) putFault(w http.ResponseWriter, r *http.Request) { c.turn(w, r, true) }

func (c *City) deleteFault(w http.ResponseWriter, r *http.Request) { c.turn(w, r, false) }

func (c *City) turn(w http.ResponseWriter, r *http.Request, on bool) {
	name := r.PathValue("name")
	if err := c.Switch(name, on); err != nil {
		refuse(w, http.StatusNotFound, err.Error())
		return
	}
	c.cfg.Log.Info("switched a fault of the virtual city", "fault", name, "on", on)
	writeJSON(w, http.StatusOK, Fault{name, on})
}

func (c *City) deleteFaults(w http.ResponseWriter, _ *http.Request) {
	if err := c.Calm(); err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, []Fault{})
}
