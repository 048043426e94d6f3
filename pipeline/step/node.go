package step

import (
	"context"
	"strings"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// body is what a step's word does; node does what all words share.
type body interface {
	run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error)
}

type node struct {
	s        *language.Step
	body     body
	reads    bool // an expression reads run.accepted_at: the run must be durable first
	undoable bool
}

func (n *node) Path() string { return n.s.Path }

// Run is semantics 3: `if`, the word's own work, `errors`, the result under `as`.
func (n *node) Run(ctx context.Context, f *Frame) (Outcome, error) {
	s := n.s
	path := f.At(s.Path)
	m := f.Fx.Recall(path)
	if m == nil {
		if f.Fx.Collecting() {
			return Outcome{Kind: Rest}, nil
		}
		if n.reads {
			if err := f.Fx.Accept(ctx, f); err != nil {
				return Outcome{}, err
			}
		}
		if s.If != nil {
			ok, err := truth(s.If, f.Env)
			if err != nil {
				return n.ended(ctx, f, path, failing(fault.From(err)))
			}
			if !ok {
				f.Fx.Note(Note{Path: path, Skip: true})
				n.name(f, nil)
				return Outcome{}, nil
			}
		}
	} else if m.Skipped {
		n.name(f, nil)
		return Outcome{}, nil
	}
	out, err := n.body.run(ctx, f, path, m)
	if err != nil {
		return out, err
	}
	switch out.Kind {
	case Rest:
		return out, nil
	case End:
		return n.ended(ctx, f, path, out)
	}
	if s.As != "" || s.Word == language.SetW {
		if flt := f.carry(out.Value); flt != nil {
			return n.ended(ctx, f, path, failing(flt))
		}
	}
	n.name(f, out.Value)
	if s.Commit {
		f.Fx.Passed(path)
	}
	return out, nil
}

func (n *node) name(f *Frame, v any) {
	if n.s.As != "" {
		f.Env.Vars[n.s.As] = v
	}
}

// ended applies what the author wrote for a fault, or defers, or lets it end the run.
func (n *node) ended(ctx context.Context, f *Frame, path string, out Outcome) (Outcome, error) {
	e := out.Ending
	if e.Path == "" {
		e.Path = path
	}
	flt := e.Fault
	if flt == nil || e.Path != path {
		return out, nil
	}
	if flt.Kind != fault.Unknown && flt.Kind != fault.Internal {
		if o := n.handler(flt); o != nil {
			out, err := n.apply(ctx, f, path, o)
			if err == nil && out.Kind == Go {
				n.name(f, out.Value)
			}
			return out, err
		}
		// An unhandled transient fault waits on the ladder when nobody waits for us.
		if flt.Kind.Row().Transient && n.s.Word == language.Call && n.s.Route == nil &&
			!f.Fx.Collecting() && !f.Fx.CallerWaits() {
			return f.Fx.Defer(ctx, n.s, path, flt)
		}
	}
	return out, nil
}

// handler looks the fault up: the operation's own name first, then its kind
// (semantics 3.4). There is no catch-all.
func (n *node) handler(flt *fault.Error) *language.Outcome {
	if len(n.s.Errors) == 0 {
		return nil
	}
	if flt.Name != "" {
		if o := n.s.Errors[flt.Name]; o != nil {
			return o
		}
	}
	return n.s.Errors[string(flt.Kind)]
}

// apply carries out an outcome of `errors` or `else`.
func (n *node) apply(ctx context.Context, f *Frame, path string, o *language.Outcome) (Outcome, error) {
	switch o.End {
	case language.Use:
		v, err := o.Value.Eval(f.Env)
		if err != nil {
			return failing(fault.From(err)), nil
		}
		if flt := Fitting(v, "the value of `use` at "+path); flt != nil {
			return n.broken(path, flt), nil
		}
		f.Fx.Note(Note{Path: path, Value: v, HasValue: true})
		return Outcome{Value: v}, nil
	case language.Skip:
		f.Fx.Note(Note{Path: path, Skip: true})
		return Outcome{}, nil
	}
	e := &Ending{End: o.End, Reason: o.Reason, Path: path}
	if o.End == language.ReplyEnd {
		e.Status, e.Say = o.Status, o.Say
		if o.SayExpr != nil {
			v, err := o.SayExpr.Eval(f.Env)
			if err != nil {
				return n.broken(path, err), nil
			}
			e.Say, _ = v.(string)
		}
		if o.Value != nil {
			v, err := o.Value.Eval(f.Env)
			if err != nil {
				return n.broken(path, err), nil
			}
			if flt := Fitting(v, "the answer of "+path); flt != nil {
				return n.broken(path, flt), nil
			}
			e.Body = v
		}
	}
	return Outcome{Kind: End, Ending: e}, nil
}

func (n *node) broken(path string, err error) Outcome {
	return Outcome{Kind: End, Ending: &Ending{Fault: fault.From(err), Path: path}}
}

func truth(e *expression.Expr, env *expression.Env) (bool, error) {
	v, err := e.Eval(env)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fault.New(fault.Internal, "%q is not a boolean", e.Source)
	}
	return b, nil
}

// readsAccepted: reading run.accepted_at commits Accept first (semantics 4.7).
func readsAccepted(s *language.Step) bool {
	found := false
	look := func(e *expression.Expr) {
		if e != nil && strings.Contains(e.Source, "accepted_at") {
			found = true
		}
	}
	look(s.If)
	look(s.Cond)
	look(s.List)
	look(s.Until)
	look(s.Rest)
	s.With.Exprs(look)
	for _, x := range s.Sets {
		x.Value.Exprs(look)
	}
	for _, c := range s.Cases {
		look(c.If)
	}
	for _, k := range s.Key {
		look(k.Value)
	}
	outcome := func(o *language.Outcome) {
		if o != nil {
			look(o.SayExpr)
			o.Value.Exprs(look)
		}
	}
	outcome(s.Else)
	for _, o := range s.Errors {
		outcome(o)
	}
	return found
}
