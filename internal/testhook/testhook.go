// Package testhook is what the kill and chaos tests ask of the binary by environment
// variables that are not configuration: they are not documented, and `dime serve`
// logs that they are set.
package testhook

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/hasty"
	"github.com/dime-bus/dime/internal/store"
)

// The kill test (test/kill) must know which record a kill interrupted, must be able
// to die at a chosen one, and needs controls that fail.
const (
	probeFileEnv = "DIME_TEST_PROBE"     // file that holds the kinds of the last commit's records and whether it had ended
	killAtEnv    = "DIME_TEST_KILL_AT"   // KIND[@PATH]:before|after:N: SIGKILL oneself there
	noIntentEnv  = "DIME_TEST_NO_INTENT" // "1": leave intents out (the controls must fail)
	hastyEnv     = "DIME_TEST_HASTY"     // "confirms" or "acks": do not wait for them
)

// Probe returns the engine's Probe, or nil if nobody asked for one.
func Probe(getenv func(string) string) (func([]store.Record, string), error) {
	file, at := getenv(probeFileEnv), getenv(killAtEnv)
	if file == "" && at == "" {
		return nil, nil
	}
	p := &probe{}
	if file != "" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the probe file: %w", err)
		}
		p.file = f
	}
	if at != "" {
		kind, rest, _ := strings.Cut(at, ":")
		when, count, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(count)
		if err != nil || when != "before" && when != "after" {
			return nil, fmt.Errorf("%s=%q must be KIND[@PATH]:before|after:N", killAtEnv, at)
		}
		kind, p.path, _ = strings.Cut(kind, "@")
		p.kind, p.when, p.left = store.Kind(kind), when, n
	}
	return p.commit, nil
}

type probe struct {
	mu   sync.Mutex
	file *os.File
	kind store.Kind
	path string // "" for any
	when string
	left int
}

func (p *probe) commit(rs []store.Record, when string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		var kinds []string
		for _, r := range rs {
			if !slices.Contains(kinds, string(r.Kind)) {
				kinds = append(kinds, string(r.Kind))
			}
		}
		// One write of a fixed size: a kill leaves the line before or after, never half.
		if _, err := p.file.WriteAt(fmt.Appendf(nil, "%-100s %-8s\n", strings.Join(kinds, "+"), when), 0); err != nil {
			p.file = nil
		}
	}
	here := func(r store.Record) bool { return r.Kind == p.kind && (p.path == "" || r.Path == p.path) }
	if p.left > 0 && when == p.when && slices.ContainsFunc(rs, here) {
		if p.left--; p.left == 0 {
			// Not os.Exit: nothing of ours may run any more, as in a power cut.
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {}
		}
	}
}

// NoIntent says whether intents are left out.
func NoIntent(getenv func(string) string) bool { return getenv(noIntentEnv) == "1" }

// Bus is b, or a hasty one if somebody asked for it.
func Bus(getenv func(string) string, b bus.Bus) bus.Bus {
	what := getenv(hastyEnv)
	if what == "" {
		return b
	}
	return hasty.Bus{Bus: b, Confirms: what == "confirms", Acks: what == "acks"}
}
