package routetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/crash"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
	"github.com/dime-bus/dime/pipeline/step"
)

// maxAlarms bounds how often a case's clock may jump: a route that never comes
// to rest must not hang the runner.
const maxAlarms = 10_000

// variant is one way of running a case.
type variant struct {
	name       string // "" for the only one
	sequential bool   // send: one after the other instead of all together
	truthful   bool   // a person settles the doubts that a crash left, by what the far side says
	crash      *point // where the process dies; nil: nowhere
}

// session runs one variant of one case.
type session struct {
	c        *Case
	route    *language.Route // as the file has it
	city     *language.City  // what the engine runs: see stage
	seed     uint64
	horizon  time.Time
	v        variant
	noIntent bool

	clock    *clock.Virtual
	start    time.Time
	last     time.Time // of the last thing that happened
	world    *world
	base     *sqlite.Store
	store    *crash.Store
	recorder *recorder
	deaths   deaths
	engine   *run.Engine
	life     int

	hangUp    context.CancelFunc // cuts the callers' connections
	mu        sync.Mutex
	asked     []<-chan run.Answer  // by request; nil where nobody waits
	told      map[int]<-chan error // by request without a caller, until it was taken
	answers   []*answered          // by request; nil while one is on its way
	replayed  bool
	comebacks int
	cancels   bool // a person's cancel is still to come
	notes     []string
}

// play runs the variant and returns what it came to.
func play(ctx context.Context, st *stage, c *Case, v variant, o Options) (*observed, *session, error) {
	clk := clock.NewVirtual(c.at)
	s := &session{
		c: c, route: st.route, city: st.city, seed: seedOf(c, o), v: v,
		clock: clk, start: c.at, last: c.at, horizon: c.at.Add(o.Horizon),
		told: map[int]<-chan error{}, noIntent: o.noIntent,
	}
	s.world = newWorld(c, st.city, st.facts, clk, s.seed)
	var err error
	s.base, err = sqlite.Open(ctx, sqlite.Options{Path: sqlite.Memory, Clock: clk, Worker: "test", Readers: 1,
		MasterKey: []byte("a master key of route tests only"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, fmt.Errorf("opening the test's store: %w", err)
	}
	defer func() { _ = s.base.Close() }() // in memory: nothing can be lost
	s.deaths.wanted = v.crash
	if err := s.boot(ctx, crash.Plan{Seen: s.seen, Crashed: func(crash.Commit) { s.hear() }}); err != nil {
		return nil, nil, err
	}
	defer s.stop()
	if s.c.cancel != nil {
		s.cancels = true
		clk.At(s.c.cancel.After(c.at, s.world.zone()), s.cancelAll)
	}
	first := c.send
	if v.sequential {
		first = 1
	}
	for range first {
		s.send()
	}
	if err := s.drive(ctx); err != nil {
		return nil, nil, err
	}
	obs, err := s.observe(ctx)
	return obs, s, err
}

func seedOf(c *Case, o Options) uint64 {
	switch {
	case c.Seed != 0:
		return c.Seed
	case o.Seed != 0:
		return o.Seed
	}
	return 1
}

// boot starts an engine on the store, as a process does.
func (s *session) boot(ctx context.Context, plan crash.Plan) error {
	s.mu.Lock()
	s.life++
	s.mu.Unlock()
	s.hangUp = func() {}
	s.recorder = &recorder{Store: s.base, world: s.world}
	s.store = crash.Wrap(s.recorder, plan)
	var err error
	s.engine, err = run.New(run.Config{
		Store: s.store, Bus: s.world, Clock: s.clock, Worker: fmt.Sprintf("test-%d", s.life),
		Log: slog.New(slog.DiscardHandler), BaseURL: func() string { return "https://test.example" },
		Do: s.world.do, Random: s.world.float, UUID: s.world.uuid,
		Mandates: s.mandates, AllowRelabel: true, NoSchedule: true, UnsafeNoIntent: s.noIntent,
	})
	if err != nil {
		return fmt.Errorf("building the test's engine: %w", err)
	}
	if err := s.engine.Swap(s.city); err != nil {
		return fmt.Errorf("putting %s into the test's engine: %w", s.route.Name, err)
	}
	if err := s.engine.Start(ctx); err != nil {
		return fmt.Errorf("starting the test's engine: %w", err)
	}
	return nil
}

// mandates is the register of mandates: it holds the one that the case's caller
// names, and no other.
func (s *session) mandates(_ context.Context, deputy, principal, _ string) (bool, error) {
	c := s.c.caller
	return c != nil && c.TaxCode == deputy && c.ActingFor == principal && c.Mandate != "", nil
}

// seen counts a commit of the first life and ends it at the wanted one. What was
// answered until then was answered.
func (s *session) seen(c crash.Commit) {
	if s.deaths.saw(c) {
		s.recorder.refuse.Store(!s.v.crash.after)
		s.store.Kill()
	}
}

func (s *session) stop() {
	s.hangUp()
	s.engine.Stop()
}

// send asks once more; hear books the answer when it has come.
func (s *session) send() {
	s.mu.Lock()
	s.asked = append(s.asked, nil)
	s.answers = append(s.answers, nil)
	i := len(s.asked) - 1
	s.mu.Unlock()
	s.ask(i)
}

// ask sends the case's request, the same each time, by the trigger of the case.
func (s *session) ask(i int) {
	r := run.Request{Route: s.route.Name, Req: s.c.req, Caller: s.c.caller, Trigger: string(s.c.trigger.Kind)}
	if s.c.calledIn() {
		ctx, hangUp := context.WithCancel(context.Background())
		before := s.hangUp
		s.hangUp = func() { before(); hangUp() }
		ch := s.engine.Ask(ctx, r)
		s.mu.Lock()
		s.asked[i] = ch
		s.mu.Unlock()
		return
	}
	// A message's id, or the scheduled instant: the same when it comes again.
	r.Key = "test-message"
	if r.Caller == nil {
		r.Caller = &identity.Caller{Kind: "event", Subject: s.c.trigger.Type}
		if s.c.trigger.Kind != language.Event {
			r.Caller = &identity.Caller{Kind: "timer", Subject: s.route.Name}
		}
		if s.c.trigger.Kind == language.Queue {
			r.Caller = &identity.Caller{Kind: "event", Subject: s.c.trigger.Source()}
		}
	}
	ch := s.engine.Trigger(context.Background(), r)
	s.mu.Lock()
	s.told[i] = ch
	s.mu.Unlock()
}

// calledIn says whether somebody waits for the answer.
func (c *Case) calledIn() bool {
	return c.trigger.Kind == language.HTTP || c.trigger.Kind == language.Called
}

// hear books the answers that have come.
func (s *session) hear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, ch := range s.asked {
		if ch == nil || s.answers[i] != nil {
			continue
		}
		select {
		case a := <-ch:
			if s.comeBack(i, a) {
				continue
			}
			s.answers[i] = &answered{Answer: a}
		default:
		}
	}
	for i, ch := range s.told {
		select {
		case err := <-ch:
			delete(s.told, i)
			if err == nil {
				s.answers[i] = &answered{cut: true} // nobody waits for an answer
			} else {
				s.clock.At(s.clock.Now().Add(time.Second), func() { s.again(i) })
			}
		default:
		}
	}
}

// comeBack says whether the caller, whose connection a crash cut before, was told
// to ask again later (semantics 4.6: the first is being undone); s.mu is held.
func (s *session) comeBack(i int, a run.Answer) bool {
	const most = 100
	wait, err := strconv.Atoi(a.Header["Retry-After"])
	if s.life == 1 || a.Status != 503 || err != nil || s.comebacks >= most {
		return false
	}
	s.comebacks++
	s.asked[i] = nil
	s.clock.At(s.clock.Now().Add(time.Duration(wait)*time.Second), func() { s.ask(i) })
	return true
}

// again brings a message that was not taken.
func (s *session) again(i int) {
	s.mu.Lock()
	open := s.answers[i] == nil && s.told[i] == nil
	s.mu.Unlock()
	if open && !s.store.Dead() {
		s.ask(i)
	}
}

// drive lets time pass until nothing more can happen.
func (s *session) drive(ctx context.Context) error {
	for alarms := 0; ; {
		if err := s.settle(ctx); err != nil {
			return err
		}
		s.last = s.clock.Now()
		if s.store.Dead() {
			if err := s.restart(ctx); err != nil {
				return err
			}
			continue
		}
		s.hear()
		if s.v.sequential && len(s.asked) < s.c.send && s.allAnswered() {
			s.send()
			continue
		}
		over, err := s.over(ctx)
		if err != nil {
			return err
		}
		next, any := s.clock.Next()
		if over || !any || next.After(s.horizon) {
			acted, err := s.person(ctx)
			if err != nil {
				return err
			}
			if acted {
				continue
			}
			return nil
		}
		if alarms++; alarms > maxAlarms {
			s.note("the case was stopped after %d alarms of the clock: the route never comes to rest", maxAlarms)
			return nil
		}
		s.clock.Advance(next)
	}
}

// settle waits until all counted work rests.
func (s *session) settle(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.clock.Settle(); close(done) }()
	select {
	case <-done:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *session) note(format string, args ...any) {
	s.mu.Lock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
	s.mu.Unlock()
}

func (s *session) allAnswered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.Contains(s.answers, nil)
}

// over says whether every request was answered and every run has ended or waits
// for a person.
func (s *session) over(ctx context.Context) (bool, error) {
	if !s.allAnswered() || s.cancels {
		return false, nil
	}
	alive, err := s.base.Find(ctx, store.Filter{States: []store.State{store.Queued, store.Running, store.Waiting, store.Undoing}, Limit: 1})
	if err != nil {
		return false, fmt.Errorf("looking for living runs: %w", err)
	}
	return len(alive) == 0, nil
}

// restart plays the next process on the same store: what the world holds goes
// on, callers whose connection was cut ask again as callers do.
func (s *session) restart(ctx context.Context) error {
	s.stop()
	if err := s.settle(ctx); err != nil {
		return err
	}
	var err error
	if s.base, err = s.base.Reopen(ctx); err != nil {
		return fmt.Errorf("opening the store again after the crash: %w", err)
	}
	if err := s.boot(ctx, crash.Plan{}); err != nil {
		return err
	}
	existing, err := s.base.Find(ctx, store.Filter{Route: s.route.Name, Limit: s.c.send + 1})
	if err != nil {
		return fmt.Errorf("looking for the run after the crash: %w", err)
	}
	lost := len(s.asked) - len(existing) // requests of which nothing is left
	clear(s.told)
	for i := range s.answers {
		if s.answers[i] != nil {
			continue
		}
		again := s.route.Once != nil || !s.c.calledIn()
		if !again && lost > 0 {
			// Nothing happened: whoever asked sees a cut connection and asks anew.
			again, lost = true, lost-1
		}
		if again {
			s.ask(i)
			continue
		}
		s.answers[i] = &answered{cut: true}
	}
	return nil
}

// cancelAll is a person who cancels every living run of the route.
func (s *session) cancelAll() {
	ctx := context.Background()
	s.cancels = false
	alive, err := s.base.Find(ctx, store.Filter{Route: s.route.Name, States: []store.State{
		store.Queued, store.Running, store.Waiting, store.Undoing, store.Parked}})
	if err != nil {
		s.note("cancelling: %v", err)
		return
	}
	if len(alive) == 0 {
		s.note("cancel: no run was alive %s after the request", s.clock.Now().Sub(s.start))
	}
	for _, r := range alive {
		if _, err := s.engine.Cancel(ctx, s.base.PublicID(r.ID), run.Act{As: "test", Reason: "the test cancels"}); err != nil && !errors.Is(err, crash.ErrCrashed) {
			s.note("cancel: %v", err)
		}
	}
}

// person does what the case has a person do once all rests; it says whether
// anything was done.
func (s *session) person(ctx context.Context) (bool, error) {
	if s.v.truthful {
		if acted, err := s.settleDoubts(ctx); acted || err != nil {
			return acted, err
		}
	}
	if s.c.replay == nil || s.replayed {
		return false, nil
	}
	s.replayed = true
	stuck, err := s.base.Find(ctx, store.Filter{Route: s.route.Name, States: []store.State{store.Failed, store.Parked}})
	if err != nil {
		return false, fmt.Errorf("looking for the run to replay: %w", err)
	}
	if len(stuck) == 0 {
		s.note("replay: no run failed or parked, so there is nothing to replay")
		return false, nil
	}
	for _, r := range stuck {
		switch how := s.c.replay.how; {
		case how == "on" && r.State == store.Failed:
			s.note("replay: `on` lets a parked run go on where it rests, and the run failed: write `whole` or `from PATH`")
			return false, nil
		case how == "whole" && r.State == store.Parked:
			s.note("replay: `whole` starts a failed run again, and the run is parked: write `on` or `from PATH`")
			return false, nil
		}
		if _, err := s.engine.Replay(ctx, s.base.PublicID(r.ID), s.act()); err != nil {
			if errors.Is(err, crash.ErrCrashed) || s.store.Dead() {
				s.replayed = s.hasPerson(ctx, r.ID)
				return true, nil
			}
			s.note("replay: %v", err)
		}
	}
	return true, nil
}

// settleDoubts plays the person who asks the far side what became of an effect
// that can be neither repeated nor looked up, and states it (semantics 7).
func (s *session) settleDoubts(ctx context.Context) (acted bool, err error) {
	parked, err := s.base.Find(ctx, store.Filter{Route: s.route.Name, States: []store.State{store.Parked}})
	if err != nil {
		return false, fmt.Errorf("looking for runs in doubt: %w", err)
	}
	for _, r := range parked {
		if r.Reason != doubtReason {
			continue
		}
		_, rs, err := s.base.Load(ctx, r.ID)
		if err != nil {
			return false, fmt.Errorf("loading a run in doubt: %w", err)
		}
		path, target, key := doubtOf(rs)
		result, happened := s.world.lookUp(target, key)
		_, err = s.engine.Resolve(ctx, s.base.PublicID(r.ID), run.Act{As: "test", Reason: "the far side was asked",
			Path: path, Happened: &happened, Result: result})
		if err != nil && !s.store.Dead() {
			s.note("settling the doubt that the crash left about %s: %v", path, err)
			return false, nil
		}
		acted = true
	}
	return acted, nil
}

const doubtReason = "unknown"

// doubtOf finds the effect over which a run is parked.
func doubtOf(rs []store.Record) (path, target, key string) {
	for i := len(rs) - 1; i >= 0; i-- {
		switch r := rs[i]; {
		case r.Kind == store.End && path == "":
			path = r.Path
		case (r.Kind == store.Intent || r.Kind == store.UndoIntent) && r.Path == path && path != "":
			v, err := schema.DecodeJSON(r.Body)
			if err != nil {
				return path, "", ""
			}
			m, _ := v.(map[string]any)
			target, _ = m["target"].(string)
			key, _ = m["key"].(string)
			return path, target, key
		}
	}
	return path, "", ""
}

func (s *session) act() run.Act {
	return run.Act{As: "test", Reason: "the test replays", From: s.c.replay.path}
}

// hasPerson says whether the journal holds the replay that a crash interrupted.
func (s *session) hasPerson(ctx context.Context, id store.RunID) bool {
	_, rs, err := s.base.Load(ctx, id)
	return err == nil && slices.ContainsFunc(rs, func(r store.Record) bool { return r.Kind == store.Person })
}

// observe gathers what `then` is compared with.
func (s *session) observe(ctx context.Context) (*observed, error) {
	o := &observed{world: s.world, crashed: s.life > 1, asked: s.c.calledIn()}
	for i, a := range s.answers {
		if a == nil {
			s.note("request %d was never answered", i+1)
			a = &answered{}
		}
		o.answers = append(o.answers, *a)
	}
	runs, err := s.engine.Runs(ctx, run.Filter{Route: s.route.Name, Limit: 1000})
	if err != nil {
		return nil, fmt.Errorf("listing the runs: %w", err)
	}
	slices.Reverse(runs)
	for _, r := range runs {
		d, err := s.engine.Show(ctx, r.Run)
		if err != nil {
			return nil, fmt.Errorf("showing run %s: %w", r.Run, err)
		}
		o.runs = append(o.runs, d)
		if d.Durable {
			if err := s.undone(ctx, r.Run, o); err != nil {
				return nil, err
			}
		}
		o.results = append(o.results, s.result(ctx, d, o))
	}
	s.world.mu.Lock()
	o.complaint = append(slices.Clone(s.world.complaint), s.notes...)
	s.world.mu.Unlock()
	return o, nil
}

// undone reads from a run's journal what was undone, in order.
func (s *session) undone(ctx context.Context, public string, o *observed) error {
	id, err := s.base.ParseID(public)
	if err != nil {
		return fmt.Errorf("reading the id of run %s: %w", public, err)
	}
	_, rs, err := s.base.Load(ctx, id)
	if err != nil {
		return fmt.Errorf("loading run %s: %w", public, err)
	}
	byPath := map[string]string{}
	walk(s.route.Steps, "", func(st *language.Step, path string) {
		if st.Undo != nil {
			byPath[path] = st.Undo.Target + st.Undo.EventType
		}
	})
	for _, r := range rs {
		if r.Kind != store.UndoOutcome || r.Fault != "" {
			continue
		}
		v, err := schema.DecodeJSON(r.Body)
		if err != nil && len(r.Body) > 0 {
			return fmt.Errorf("reading an undo of run %s: %w", public, err)
		}
		body, _ := v.(map[string]any)
		if body["skip"] == true {
			continue
		}
		name, _ := body["target"].(string)
		if name == "" {
			name = byPath[step.Plain(r.Path)]
		}
		if name != "" {
			o.undone = append(o.undone, name)
		}
	}
	return nil
}

// result is what the owner of a run sees; of a run that was never durable it is
// what the caller got.
func (s *session) result(ctx context.Context, d run.Detail, o *observed) any {
	if v, err := s.engine.View(ctx, d.Run, s.c.caller); err == nil {
		return v.Result
	}
	for _, a := range o.answers {
		if a.Run == d.Run {
			return a.Body
		}
	}
	return nil
}
