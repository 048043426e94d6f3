// Package step knows what each step of a route does: one file a kind, named by
// its word. Build compiles a checked route into a chain of plain values once;
// running it is walking the chain. The outside, the journal and the caller are
// reached through Effects alone, so that the same steps serve a live run, a
// resumed one and the collection of what must be undone.
//
// Resuming is running again by path: a step whose path has a Memory takes what
// is recorded and evaluates nothing (semantics 6.1); the walk goes live behind
// the last record.
package step

import (
	"context"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// Step is one compiled step.
type Step interface {
	// Path is the step's path below its block.
	Path() string
	// Run walks the step. The error is a control error (the run was fenced,
	// cancelled, dropped, or its journal failed) and passes through all blocks; a
	// fault is an Outcome of kind End.
	Run(ctx context.Context, f *Frame) (Outcome, error)
}

// Kind says how the walk goes on.
type Kind uint8

const (
	Go   Kind = iota // to the next step, with Value
	Rest             // nothing blocks: the run rests until Wake or an event
	End              // the run ends, by Ending
)

// Outcome is what a step came to.
type Outcome struct {
	Kind   Kind
	Value  any
	Wake   time.Time // Rest: zero if only an event or a person wakes it
	Ending *Ending   // End
}

// Ending is how a run ends (semantics 3). With Fault set nobody handled it.
type Ending struct {
	End    language.End
	Reason string
	Status int // reply
	Body   any
	Say    string
	Fault  *fault.Error
	Path   string // of the step that ended it
	// Also are the steps that ended other items of the blocks that could not meet
	// their need: a replay runs those again too.
	Also []string
	// Doubt: parked because an effect's outcome is not known.
	Doubt bool
}

// Failed says whether an each or all takes it as the failure of one item.
func (e *Ending) Failed() bool { return e.Fault != nil || e.End == language.Fail }

// Memory is what the journal knows of a path.
type Memory struct {
	Skipped bool
	Done    bool // Value holds
	Value   any
	Case    int   // switch: index of the case that ran; -1 else
	List    []any // each: its list
	In      any   // call of a route: its request

	Failed  *fault.Error // an effect's recorded outcome, or an item's failure
	At      []string     // an item's failure: the steps that failed it
	Begun   bool         // an effect whose intent is stored (Done or Failed: and its outcome)
	Undone  bool
	Winners []string // all: the branches that met its need

	Resting bool // a rest is open
	Expired bool // wait: its time was over
	Joined  bool
}

// Note is a record in memory; it rides with the run's next commit.
type Note struct {
	Path     string
	Skip     bool
	Value    any
	HasValue bool
	Case     int
	HasCase  bool
	List     []any
	HasList  bool
	In       any
	Winners  []string
	Failed   *fault.Error
	At       []string // with Failed: the steps that failed the item
	Joined   bool
	Attempts int
	Took     time.Duration
}

// Effects is what a Frame offers a step; the only way to the outside.
type Effects interface {
	// Between is asked before each step: a person's cancel, a caller who left
	// before the first commit, a lost lease.
	Between(ctx context.Context) error
	// Recall tells what the journal knows of a path; nil if nothing.
	Recall(path string) *Memory
	// Collecting is true while the walk only gathers what must be undone: nothing
	// is executed, and a step without a Memory halts its branch.
	Collecting() bool
	// Note keeps a record in memory.
	Note(n Note)
	// Accept makes the run durable and shows run.accepted_at in the frame.
	Accept(ctx context.Context, f *Frame) error
	// Arm tells the collection of an effect that may have to be undone, with what
	// its undo sees.
	Arm(f *Frame, s *language.Step, path string, m *Memory)
	// Passed says that a step with `commit: true` has succeeded.
	Passed(path string)

	// Call makes one operation's call: guard, intent, attempts, outcome. A nil
	// Memory or one without Begun starts it; one that is Begun without outcome is
	// resolved by semantics 7.
	Call(ctx context.Context, f *Frame, s *language.Step, path string, args map[string]any, m *Memory) (Outcome, error)
	// Defer lets the step rest on the ladder if patience allows; else it returns
	// the End by the fault.
	Defer(ctx context.Context, s *language.Step, path string, flt *fault.Error) (Outcome, error)
	CallerWaits() bool

	// Emit and Start return a *fault.Error for what cannot be said, else control errors.
	Emit(ctx context.Context, path, eventType string, body any) error
	// Start puts a request for another route into the outbox; the id is its run's.
	Start(ctx context.Context, path, route string, req any) (id string, err error)
	Reply(ctx context.Context, path string, status int, body any, say string) error
	Wait(ctx context.Context, f *Frame, s *language.Step, path string, m *Memory) (Outcome, error)
	Delay(ctx context.Context, f *Frame, s *language.Step, path string, m *Memory) (Outcome, error)

	// Fork runs fn(0..n-1) at once and returns when all have.
	Fork(n int, fn func(i int))
	// UndoBelow undoes what happened under a prefix and closes its open waits.
	UndoBelow(ctx context.Context, prefix string) (Outcome, error)
	// Vars are the first names of a called route's scope.
	Vars(route *language.Route, req any) map[string]any
}

// Frame is where a step stands: its block's prefix and the names it sees.
type Frame struct {
	Fx     Effects
	Prefix string
	Env    *expression.Env
	Sub    *Sub // inside a called route; nil in the run's own

	weight *int // bytes of the names in scope; nil where they are not counted

	stop func() bool // an all whose need is met: start no further step
}

// Sub is a called route's call.
type Sub struct {
	Replied bool
	Value   any
	Status  int
}

// At is the full path of a step of this block.
func (f *Frame) At(rel string) string {
	if f.Prefix == "" {
		return rel
	}
	return f.Prefix + rel
}

// below is a frame of an inner block that shares the names of this one.
func (f *Frame) below(prefix string) *Frame {
	g := *f
	g.Prefix = prefix + "/"
	return &g
}

// private is a frame of an inner block whose names end with it.
func (f *Frame) private(prefix string, extra int) *Frame {
	g := f.below(prefix)
	env := *f.Env
	env.Vars = make(map[string]any, len(f.Env.Vars)+extra+2)
	for k, v := range f.Env.Vars {
		env.Vars[k] = v
	}
	g.Env = &env
	if f.weight != nil {
		n := *f.weight
		g.weight = &n
	}
	return g
}

// Program is a compiled route.
type Program struct {
	Route *language.Route
	steps sequence
	// ByPath finds a step by its path without item numbers: "notices/sent".
	ByPath map[string]*language.Step
}

// Build compiles a checked route.
func Build(r *language.Route) *Program {
	p := &Program{Route: r, ByPath: map[string]*language.Step{}}
	p.steps = build(r.Steps)
	index(p.ByPath, "", r.Steps)
	return p
}

// Run walks the whole route.
func (p *Program) Run(ctx context.Context, f *Frame) (Outcome, error) {
	f.scope(f.Env.Vars["req"])
	return p.steps.run(ctx, f)
}

func index(m map[string]*language.Step, prefix string, steps []*language.Step) {
	for _, s := range steps {
		path := prefix + s.Path
		m[path] = s
		for _, c := range s.Cases {
			index(m, path+"/", c.Steps)
		}
		index(m, path+"/", s.Otherwise)
		index(m, path+"/", s.Steps)
		for _, b := range s.Branches {
			index(m, path+"/"+b.Name+"/", b.Steps)
		}
		if s.Word == language.Call && s.Route != nil {
			index(m, path+"/", s.Route.Steps)
		}
	}
}

// Plain removes item numbers from a path: "notices[3]/sent" is "notices/sent".
func Plain(path string) string {
	if !strings.Contains(path, "[") {
		return path
	}
	var b strings.Builder
	in := false
	for _, c := range path {
		switch {
		case c == '[':
			in = true
		case c == ']':
			in = false
		case !in:
			b.WriteRune(c)
		}
	}
	return b.String()
}

type sequence []Step

// run walks steps in order; the value is the last one's.
func (q sequence) run(ctx context.Context, f *Frame) (Outcome, error) {
	var last Outcome
	for _, s := range q {
		if f.stop != nil && f.stop() {
			return Outcome{Kind: Rest}, nil
		}
		if err := f.Fx.Between(ctx); err != nil {
			return Outcome{}, err
		}
		out, err := s.Run(ctx, f)
		if err != nil || out.Kind != Go {
			return out, err
		}
		last = out
	}
	return last, nil
}

func build(steps []*language.Step) sequence {
	q := make(sequence, 0, len(steps))
	for _, s := range steps {
		n := &node{s: s, reads: readsAccepted(s), undoable: s.Undo != nil && s.Undo.None == ""}
		switch s.Word {
		case language.Call:
			if s.Route != nil {
				n.body = subroute{s, build(s.Route.Steps)}
			} else {
				n.body = call{s}
			}
		case language.Start:
			n.body = start{s}
		case language.SetW:
			n.body = set{s}
		case language.Check:
			n.body = check{s}
		case language.Switch:
			w := switchStep{s: s, otherwise: build(s.Otherwise)}
			for _, c := range s.Cases {
				w.cases = append(w.cases, build(c.Steps))
			}
			n.body = w
		case language.Each:
			n.body = each{s, build(s.Steps)}
		case language.AllW:
			a := all{s: s}
			for _, b := range s.Branches {
				a.branches = append(a.branches, build(b.Steps))
			}
			n.body = a
		case language.Emit:
			n.body = emit{s}
		case language.ReplyW:
			n.body = reply{s}
		case language.Wait:
			n.body = wait{s}
		case language.Delay:
			n.body = delay{s}
		default:
			n.body = unbuilt{s}
		}
		q = append(q, n)
	}
	return q
}

// unbuilt is a word that this engine does not know: the language refuses it, so
// that only a route made by hand comes here.
type unbuilt struct{ s *language.Step }

func (u unbuilt) run(context.Context, *Frame, string, *Memory) (Outcome, error) {
	return failing(fault.New(fault.Internal, "step %q is of the unknown kind %q", u.s.Path, u.s.Word)), nil
}

func failing(flt *fault.Error) Outcome {
	return Outcome{Kind: End, Ending: &Ending{Fault: flt}}
}
