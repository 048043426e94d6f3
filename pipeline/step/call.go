package step

import (
	"context"
	"fmt"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/pipeline/language"
)

// call asks one operation of a connector [request-reply, content enricher].
type call struct{ s *language.Step }

func (c call) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	if m != nil && m.Begun && c.s.Operation.Effect != connectors.Safe && f.Fx.Collecting() {
		f.Fx.Arm(f, c.s, path, m)
	}
	switch {
	case m == nil || m.Resting && !m.Begun:
	case m.Done:
		return Outcome{Value: m.Value}, nil
	case m.Failed != nil:
		return f.Fx.Call(ctx, f, c.s, path, nil, m)
	case f.Fx.Collecting():
		return Outcome{Kind: Rest}, nil
	case m.Begun:
		return f.Fx.Call(ctx, f, c.s, path, nil, m)
	}
	if f.Fx.Collecting() {
		return Outcome{Kind: Rest}, nil
	}
	args, flt := arguments(c.s, f)
	if flt != nil {
		return failing(flt), nil
	}
	return f.Fx.Call(ctx, f, c.s, path, args, m)
}

func arguments(s *language.Step, f *Frame) (map[string]any, *fault.Error) {
	v, err := s.With.Eval(f.Env)
	if err != nil {
		return nil, fault.From(err)
	}
	args, ok := v.(map[string]any)
	if v != nil && !ok {
		return nil, fault.New(fault.Internal, "`with` of %q is not an object", s.Path)
	}
	if args == nil {
		args = map[string]any{}
	}
	if flt := Fitting(args, "`with` of "+s.Path); flt != nil {
		return nil, flt
	}
	if flt := Fits(s.Operation.In, args, "`with` of "+s.Path); flt != nil {
		return nil, flt
	}
	return args, nil
}

// Fits checks a value against a schema; the fault is `invalid`, was not sent and
// never shows the value.
func Fits(sc *schema.Schema, v any, what string) *fault.Error {
	if sc == nil {
		return nil
	}
	vs := sc.Validate(v)
	if len(vs) == 0 {
		return nil
	}
	return &fault.Error{Kind: fault.Invalid, Pointer: vs[0].Pointer,
		Detail: fmt.Sprintf("%s does not fit %s: at %q %s", what, sc.Name, vs[0].Pointer, vs[0].Message)}
}

// subroute runs another route inside this run (semantics 5.10): its own scope,
// one journal, one undo chain; its reply is the result.
type subroute struct {
	s     *language.Step
	steps sequence
}

func (c subroute) run(ctx context.Context, f *Frame, path string, m *Memory) (Outcome, error) {
	r := c.s.Route
	if m != nil && m.Joined && !f.Fx.Collecting() {
		return Outcome{Value: m.Value}, nil
	}
	var req any
	g := f.below(path)
	if m != nil {
		req = m.In
	} else {
		v, err := c.s.With.Eval(f.Env)
		if err != nil {
			return failing(fault.From(err)), nil
		}
		if v == nil && r.Req != nil {
			v = map[string]any{}
		}
		if flt := Fits(r.Req, v, "`with` of "+c.s.Path); flt != nil {
			return failing(flt), nil
		}
		if flt := Fitting(v, "`with` of "+c.s.Path); flt != nil {
			return failing(flt), nil
		}
		req = v
	}
	env := *f.Env
	env.Vars = f.Fx.Vars(r, req)
	g.Env = &env
	g.Sub = &Sub{}
	g.scope(req)
	if m == nil {
		if r.Allow != nil {
			ok, err := truth(r.Allow, g.Env)
			if err != nil {
				return failing(fault.From(err)), nil
			}
			if !ok {
				return failing(fault.New(fault.Denied, "route %s does not allow this caller", r.Name)), nil
			}
		}
		f.Fx.Note(Note{Path: path, In: req})
	}
	out, err := c.steps.run(ctx, g)
	if err != nil || out.Kind == Rest {
		return out, err
	}
	if out.Kind == End {
		var stop bool
		if out, stop = c.ended(g, out); stop {
			return out, nil
		}
	}
	v := g.Env.Vars["result"]
	if g.Sub.Replied {
		v = g.Sub.Value
		if flt := replied(r.Name, g.Sub.Status); flt != nil {
			return failing(flt), nil
		}
	}
	f.Fx.Note(Note{Path: path, Value: v, HasValue: true, Joined: true})
	return Outcome{Value: v}, nil
}

// ended turns the called route's end into its result or a fault of the call.
func (c subroute) ended(g *Frame, out Outcome) (Outcome, bool) {
	e := out.Ending
	switch {
	case e.Fault != nil, e.End == language.Park:
		return out, true
	case e.End == language.ReplyEnd:
		g.Sub.Replied, g.Sub.Value, g.Sub.Status = true, e.Body, e.Status
	case e.End == language.Cancel:
		return failing(fault.New(fault.Rejected, "route %s cancelled: %s", c.s.Target, e.Reason)), true
	case e.End == language.Fail:
		return failing(fault.New(fault.Internal, "route %s failed: %s", c.s.Target, e.Reason)), true
	case e.End == language.EndName:
		if !g.Sub.Replied {
			g.Sub.Replied, g.Sub.Value, g.Sub.Status = true, map[string]any{"end": e.Reason}, 200
		}
	}
	return out, false
}

func replied(route string, status int) *fault.Error {
	switch {
	case status >= 500:
		return fault.New(fault.Internal, "route %s answered %d", route, status)
	case status >= 400:
		return fault.New(fault.Rejected, "route %s answered %d", route, status)
	}
	return nil
}
