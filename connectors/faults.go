package connectors

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// HTTPFault is a declared fault with how an HTTP answer is recognised as it.
type HTTPFault struct {
	Fault
	Status int    // 0: any status of the kind
	Code   string // the problem body's `code`; "" is not looked at
	when   *expression.Expr
}

// FaultList is all declared faults of an operation, in file order.
type FaultList []HTTPFault

// Describe returns the part that the contract knows.
func (l FaultList) Describe() []Fault {
	fs := make([]Fault, len(l))
	for i, f := range l {
		fs[i] = f.Fault
	}
	return fs
}

// Name finds which declared fault an answer is, and gives f its name and kind.
// kind is what the status says by itself (httpclient.FaultOf).
func (l FaultList) Name(f *fault.Error, status int, body any) {
	for i := range l {
		d := &l[i]
		switch {
		case d.Status != 0 && d.Status != status, d.Status == 0 && d.Kind != f.Kind:
			continue
		case d.Code != "" && d.Code != codeOf(body):
			continue
		case d.when != nil:
			v, err := d.when.Eval(&expression.Env{Vars: map[string]any{"status": status, "body": body, "code": codeOf(body)}})
			if ok, _ := v.(bool); err != nil || !ok {
				continue
			}
		}
		f.Name, f.Kind = d.Name, d.Kind
		f.Detail = "the system behind answered " + strconv.Itoa(status) + " (" + d.Name + ")"
		return
	}
}

func codeOf(body any) string {
	m, _ := body.(map[string]any)
	s, _ := m["code"].(string)
	return s
}

// ReadFaults reads an operation's `faults`:
//
//	faults: [conflict, not_found]                      # kinds, by their own names
//	faults:
//	  slot_taken: 409                                  # a status
//	  slot_taken: conflict                             # any answer of the kind
//	  slot_taken: {status: 409, code: slot_taken, kind: conflict, about: ...}
//	  slot_taken: {status: 409, when: body.reason == "taken"}
//
// kindOf tells the kind that a status has by itself, nil where it is no fault.
func ReadFaults(n *yamldoc.Node, kindOf func(status int) fault.Kind) (l FaultList, ps []yamldoc.Problem) {
	if n.IsNull() {
		return nil, nil
	}
	bad := func(at *yamldoc.Node, format string, args ...any) {
		ps = append(ps, at.Problem("fault", fmt.Sprintf(format, args...)))
	}
	kind := func(at *yamldoc.Node, word string) (fault.Kind, bool) {
		k := fault.Kind(word)
		if k.Valid() && k.Row().Nameable {
			return k, true
		}
		hint := ""
		if s := yamldoc.Suggest(word, kindWords()); s != "" {
			hint = fmt.Sprintf("; did you mean %q?", s)
		}
		bad(at, "%q is not a kind of fault that may be named%s", word, hint)
		return "", false
	}
	switch n.Kind {
	case yamldoc.List:
		for _, it := range n.Items {
			if it.Kind != yamldoc.Scalar {
				bad(it, "a list of faults holds kinds only; write a map to name a fault of the system's own")
			} else if k, ok := kind(it, it.Text); ok {
				l = append(l, HTTPFault{Fault: Fault{Name: it.Text, Kind: k}})
			}
		}
		return l, ps
	case yamldoc.Scalar:
		bad(n, "`faults` is a map such as {slot_taken: 409}, or a list of kinds")
		return nil, ps
	}
	for _, p := range n.Pairs {
		f := HTTPFault{Fault: Fault{Name: p.Key.Text}}
		if k := fault.Kind(f.Name); k == fault.Unknown || k == fault.Internal {
			bad(p.Key, "%q can't be named: what is unknown is resolved by the engine (semantics 3.4)", f.Name)
			continue
		}
		if p.Value.Kind == yamldoc.Scalar {
			if st, err := strconv.Atoi(p.Value.Text); err == nil {
				f.Status = st
			} else if k, ok := kind(p.Value, p.Value.Text); ok {
				f.Kind = k
			} else {
				continue
			}
		} else {
			var v struct {
				Status int    `yaml:"status"`
				Kind   string `yaml:"kind"`
				Code   string `yaml:"code"`
				When   string `yaml:"when"`
				About  string `yaml:"about"`
			}
			if vp := p.Value.Decode(&v); len(vp) > 0 {
				ps = append(ps, vp...)
				continue
			}
			f.Status, f.Code, f.Summary = v.Status, v.Code, v.About
			if v.Kind != "" {
				k, ok := kind(p.Value.Get("kind"), v.Kind)
				if !ok {
					continue
				}
				f.Kind = k
			}
			if v.When != "" {
				e, eps := expression.Compile(v.When, whenScope(), expression.Options{Want: &schema.Type{Kind: schema.Bool}})
				for _, ep := range eps {
					ps = append(ps, yamldoc.Problem{Pos: p.Value.Get("when").At(ep.Offset), Rule: ep.Rule, Message: ep.Message})
				}
				if e == nil {
					continue
				}
				f.when = e
			}
		}
		if f.Status != 0 {
			if f.Status < 400 || f.Status > 599 {
				bad(p.Value, "the status of a fault is between 400 and 599, not %d", f.Status)
				continue
			}
			if f.Kind == "" {
				f.Kind = kindOf(f.Status)
			}
		}
		if f.Kind == "" {
			bad(p.Value, "say which answer %q is: a status, a kind, or both", f.Name)
			continue
		}
		if !f.Kind.Row().Nameable {
			bad(p.Value, "%d leaves the outcome of an effect unknown, so it can't be named; say `kind` if the contract says that nothing was done", f.Status)
			continue
		}
		l = append(l, f)
	}
	return l, ps
}

func whenScope() *expression.Scope {
	open := func() *schema.Type { return &schema.Type{Kind: schema.Any} }
	return expression.NewScope(map[string]*schema.Type{"status": {Kind: schema.Int}, "body": open(), "code": {Kind: schema.String}})
}

func kindWords() []string {
	var ws []string
	for _, r := range fault.Table() {
		if r.Nameable {
			ws = append(ws, string(r.Kind))
		}
	}
	return ws
}

// StatusOf is a status that stands for a kind, for emulators.
func StatusOf(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Denied:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Rejected:
		return http.StatusPreconditionFailed
	case fault.Throttled:
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}
