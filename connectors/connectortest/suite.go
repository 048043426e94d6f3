// Package connectortest is the suite that every connector passes: its
// description is whole, its faults are the right ones, it honours its caller's
// time, and what it claims of its effects is true, with the far side's
// deduplication on and off.
package connectortest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/city"
	"github.com/dime-bus/dime/internal/fault"
)

// NobodysURL is an address where nobody answers: a free port that a test gave back may
// be another's by now.
const NobodysURL = "http://127.0.0.1:1"

// Setup is a connector and its far side, fresh for each test.
type Setup struct {
	Connector connectors.Connector
	City      *city.City
	// Args gives arguments with which the operation can be carried out now; it may
	// call others to get there. Two calls must not give the same.
	Args func(t *testing.T, op string) map[string]any
	// Own are operations that this process carries out by itself: no far side can
	// disturb them, and no ledger shows them.
	Own []string
	// Provoke gives arguments with which the operation ends in a fault that the
	// connector itself finds; nil where the far side brings it about. Optional.
	Provoke func(t *testing.T, op, fault string) map[string]any
	// Nowhere is the same connector at NobodysURL.
	Nowhere connectors.Connector
}

// patience bounds a call that is expected to end by itself.
const patience = 20 * time.Second

// Run runs the suite; setup is called once for each of its tests.
func Run(t *testing.T, setup func(t *testing.T) Setup) {
	t.Run("description", func(t *testing.T) { Describe(t, setup(t).Connector.Describe()) })
	for _, op := range setup(t).Connector.Describe().Operations {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel() // each has a far side of its own, and some only wait
			s := &subject{Setup: setup(t), t: t, name: op.Name}
			s.desc = s.Connector.Describe()
			s.op = s.find(op.Name)
			s.own = slices.Contains(s.Own, op.Name)
			if !s.own || op.Effect != connectors.Safe { // else its effect's found_by shows it
				t.Run("answers", s.answers)
			}
			t.Run("faults", s.faults)
			t.Run("time", s.time)
			if !s.own {
				t.Run("nobody there", s.nobody)
			}
			if s.op.Keyed {
				t.Run("keyed", s.keyed)
			}
			if s.op.FoundBy != "" {
				t.Run("found_by", s.foundBy)
			}
		})
	}
}

// Describe checks that a description leaves nothing open.
func Describe(t *testing.T, d connectors.Description) {
	t.Helper()
	for _, problem := range Incomplete(d) {
		t.Error(problem)
	}
}

// Incomplete lists what a description lacks.
func Incomplete(d connectors.Description) (ps []string) {
	bad := func(format string, args ...any) { ps = append(ps, d.Name+": "+fmt.Sprintf(format, args...)) }
	if d.Name == "" || d.Summary == "" {
		bad("the connector needs a name and a summary")
	}
	if len(d.Operations) == 0 {
		bad("it has no operation")
	}
	byName := map[string]*connectors.Operation{}
	for _, op := range d.Operations {
		if byName[op.Name] != nil {
			bad("%s is there twice", op.Name)
		}
		byName[op.Name] = op
	}
	for _, op := range d.Operations {
		if op.Name == "" || op.Summary == "" || op.Do == nil {
			bad("operation %q needs a name, a summary and a Do", op.Name)
		}
		switch op.Effect {
		case connectors.Safe:
			if op.Keyed || op.FoundBy != "" {
				bad("%s is safe and can't be keyed or found", op.Name)
			}
		case connectors.Writes, connectors.Pays:
		default:
			bad("%s has the effect %q", op.Name, op.Effect)
		}
		if (op.Keyed || op.FoundBy != "") && op.Basis == "" {
			bad("%s does not cite what its claim rests on", op.Name)
		}
		if f := op.FoundBy; f != "" && (byName[f] == nil || byName[f].Effect != connectors.Safe) {
			bad("%s is found by %s, which is no safe operation", op.Name, f)
		}
		for _, f := range op.Faults {
			if f.Name == "" || !f.Kind.Valid() || !f.Kind.Row().Nameable {
				bad("%s declares the fault %q of kind %q", op.Name, f.Name, f.Kind)
			}
		}
		if op.Policy.Timeout <= 0 || op.Policy.Attempts < 1 {
			bad("%s has no timeout or no attempts", op.Name)
		}
	}
	return ps
}

type subject struct {
	Setup
	t    *testing.T
	name string
	desc connectors.Description
	op   *connectors.Operation
	keys int
	own  bool // no far side takes part
}

func (s *subject) find(name string) *connectors.Operation {
	for _, op := range s.desc.Operations {
		if op.Name == name {
			return op
		}
	}
	s.t.Fatalf("no operation %s", name)
	return nil
}

// call prepares a call with a key of its own.
func (s *subject) call(t *testing.T) connectors.Call {
	t.Helper()
	s.keys++
	c := connectors.Call{Args: s.Args(t, s.name), Attempt: 1}
	if s.op.Effect != connectors.Safe {
		c.Key = fmt.Sprintf("%s-%d", strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), s.keys)
		c.GiveUp = time.Now().Add(patience)
	}
	return c
}

func (s *subject) do(t *testing.T, op *connectors.Operation, c connectors.Call) (any, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return op.Do(ctx, c)
}

// fault calls and demands an error that is a *fault.Error.
func (s *subject) fault(t *testing.T, ctx context.Context, c connectors.Call) *fault.Error {
	t.Helper()
	v, err := s.op.Do(ctx, c)
	if err == nil {
		t.Fatalf("answered %v, want a fault", v)
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("the error %v is no *fault.Error", err)
	}
	return f
}

func (s *subject) with(t *testing.T, name string, during func()) {
	t.Helper()
	full := s.desc.Name + "." + name
	if err := s.City.Switch(full, true); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.City.Switch(full, false); err != nil {
			t.Fatal(err)
		}
	}()
	during()
}

// effects counts the ledger's rows of the operation and key, or of any key.
func (s *subject) effects(t *testing.T, key string) int {
	t.Helper()
	es, err := s.City.Effects()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range es {
		if e.Connector == s.desc.Name && e.Operation == s.name && (key == "" || e.Key == key) {
			n++
		}
	}
	return n
}

func (s *subject) answers(t *testing.T) {
	c := s.call(t)
	v, err := s.do(t, s.op, c)
	if err != nil {
		t.Fatalf("with %v: %v", c.Args, err)
	}
	s.fits(t, v)
	if s.op.Effect != connectors.Safe && !s.own && s.effects(t, c.Key) != 1 {
		t.Errorf("the ledger has %d rows of this key, want 1", s.effects(t, c.Key))
	}
}

func (s *subject) fits(t *testing.T, v any) {
	t.Helper()
	if s.op.Out == nil {
		if v != nil {
			t.Errorf("answered %v, but its description says nothing", v)
		}
		return
	}
	for _, w := range s.op.Out.Validate(v) {
		t.Errorf("the answer breaks its own schema at %s: %s", w.Pointer, w.Message)
	}
}

func (s *subject) faults(t *testing.T) {
	effect := s.op.Effect != connectors.Safe
	either := func(safe, writes fault.Kind) fault.Kind {
		if effect {
			return writes
		}
		return safe
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range []struct {
		name string
		kind fault.Kind
		sent bool
	}{
		{"unavailable", fault.Unavailable, false},
		{"throttled", fault.Throttled, false},
		{"server-error", either(fault.Unavailable, fault.Unknown), true},
		{"reset", either(fault.Unavailable, fault.Unknown), true},
		{"late-answer", either(fault.Unavailable, fault.Unknown), true},
		{"contract", fault.Contract, true},
		{"denied", fault.Denied, true},
		{"invalid", fault.Invalid, true},
	} {
		if s.own {
			break
		}
		t.Run(c.name, func(t *testing.T) {
			call := s.call(t)
			s.with(t, s.name+"."+c.name, func() {
				f := s.fault(t, ctx, call)
				if f.Kind != c.kind || f.Sent != c.sent {
					t.Errorf("got %s, sent %v; want %s, sent %v (%v)", f.Kind, f.Sent, c.kind, c.sent, f)
				}
				if c.kind == fault.Contract && len(f.Raw) == 0 && s.op.Out != nil {
					t.Error("a broken contract must keep the raw answer")
				}
				if (c.kind == fault.Throttled || c.name == "unavailable") && f.RetryAfter != time.Second {
					t.Errorf("Retry-After is %v, want 1s", f.RetryAfter)
				}
				if effect {
					want := 0
					if c.name == "late-answer" || c.name == "contract" {
						want = 1
					}
					if got := s.effects(t, call.Key); got != want {
						t.Errorf("the ledger has %d rows, want %d", got, want)
					}
				}
			})
		})
	}
	for _, want := range s.op.Faults {
		t.Run(want.Name, func(t *testing.T) {
			call := s.call(t)
			with := s.with
			if s.Provoke != nil {
				if args := s.Provoke(t, s.name, want.Name); args != nil {
					call.Args, with = args, func(_ *testing.T, _ string, during func()) { during() }
				}
			}
			with(t, s.name+"."+want.Name, func() {
				f := s.fault(t, ctx, call)
				if f.Name != want.Name || f.Kind != want.Kind {
					t.Errorf("got %s (%s), want %s (%s)", f.Name, f.Kind, want.Name, want.Kind)
				}
				if s.effects(t, call.Key) != 0 && effect {
					t.Error("a refusal had an effect")
				}
			})
		})
	}
}

func (s *subject) time(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if f := s.fault(t, gone, s.call(t)); f.Sent {
		t.Errorf("the caller was gone before the call, and yet it was sent: %v", f)
	}
	if s.own {
		return
	}
	// A safe call gets half an answer, an effect none: that is the harder case of each.
	name, want := "hang", fault.Timeout
	if s.op.Effect != connectors.Safe {
		name, want = "timeout", fault.Unknown
	}
	call := s.call(t)
	s.with(t, s.name+"."+name, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if f := s.fault(t, ctx, call); f.Kind != want || !f.Sent {
			t.Errorf("%s: got %s, sent %v; want %s, sent", name, f.Kind, f.Sent, want)
		}
	})
}

func (s *subject) nobody(t *testing.T) {
	if s.Nowhere == nil {
		t.Fatal("Setup.Nowhere is missing")
	}
	call := s.call(t)
	for _, op := range s.Nowhere.Describe().Operations {
		if op.Name != s.name {
			continue
		}
		_, err := s.do(t, op, call)
		if f := fault.From(err); err == nil || f.Kind != fault.Unavailable || f.Sent {
			t.Errorf("got %v; a refused dial is unavailable and surely not sent", err)
		}
	}
}

func (s *subject) keyed(t *testing.T) {
	call := s.call(t)
	first, err := s.do(t, s.op, call)
	if err != nil {
		t.Fatal(err)
	}
	call.Attempt = 2
	again, err := s.do(t, s.op, call)
	if err != nil {
		t.Fatalf("the repetition: %v", err)
	}
	if d := cmp.Diff(first, again); d != "" {
		t.Errorf("the repetition answered otherwise (-first +again):\n%s", d)
	}
	if s.own {
		return
	}
	if n := s.effects(t, call.Key); n != 1 {
		t.Errorf("one key was carried out %d times", n)
	}
	// The control: where the far side breaks its word, the ledger must show it,
	// or this test could not see a connector that loses the key.
	s.with(t, "no-dedupe", func() {
		call := s.call(t)
		before := s.effects(t, "")
		for range 2 {
			if _, err := s.do(t, s.op, call); err != nil && fault.From(err).Kind == fault.Unknown {
				t.Fatal(err)
			}
		}
		arrivals, err := s.City.Arrivals()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, a := range arrivals {
			if a.Operation == s.name && a.Key == call.Key {
				n++
			}
		}
		// What can be found may be looked for before it is sent again: then nothing is
		// sent twice, and nothing else may have been carried out either.
		if looked := s.op.FoundBy != "" && n == 1 && s.effects(t, "") == before+1; n != 2 && !looked {
			t.Errorf("%d requests with the key arrived, want 2", n)
		}
	})
}

// foundBy loses the answer and asks whether the effect happened.
func (s *subject) foundBy(t *testing.T) {
	if s.own {
		s.foundByOwn(t)
		return
	}
	for _, dedupe := range []bool{true, false} {
		t.Run(fmt.Sprintf("dedupe=%v", dedupe), func(t *testing.T) {
			if !dedupe {
				if err := s.City.Switch(s.desc.Name+".no-dedupe", true); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.City.Switch(s.desc.Name+".no-dedupe", false) }()
			}
			found := s.find(s.op.FoundBy)
			call := s.call(t)
			if v, err := s.do(t, found, call); err == nil || fault.From(err).Kind != fault.NotFound {
				t.Fatalf("before the call %s answered %v, %v; want not_found", found.Name, v, err)
			}
			s.with(t, s.name+".late-answer", func() {
				if _, err := s.do(t, s.op, call); err == nil || fault.From(err).Kind != fault.Unknown {
					t.Fatalf("got %v, want unknown", err)
				}
			})
			v, err := s.do(t, found, call)
			if err != nil {
				t.Fatalf("%s does not tell that %s happened: %v", found.Name, s.name, err)
			}
			s.fits(t, v)
			if n := s.effects(t, call.Key); n != 1 {
				t.Errorf("the ledger has %d rows, want 1", n)
			}
		})
	}
}

// foundByOwn asks for what no far side takes part in, before and after.
func (s *subject) foundByOwn(t *testing.T) {
	found, call := s.find(s.op.FoundBy), s.call(t)
	if v, err := s.do(t, found, call); err == nil || fault.From(err).Kind != fault.NotFound {
		t.Fatalf("before the call %s answered %v, %v; want not_found", found.Name, v, err)
	}
	want, err := s.do(t, s.op, call)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.do(t, found, call)
	if err != nil {
		t.Fatalf("%s does not tell that %s happened: %v", found.Name, s.name, err)
	}
	if d := cmp.Diff(want, v); d != "" {
		t.Errorf("%s tells another result (-happened +told):\n%s", found.Name, d)
	}
}
