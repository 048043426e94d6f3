package language

import (
	"github.com/dime-bus/dime/internal/expression"
)

// Eval builds the value. A nil for a property that the target does not require
// is left out, also where there is no target; for a required nullable one it is
// null (route-language, "Types run through it"). What it returns may share
// literals with v and must not be changed. Errors are the fault internal.
func (v *Value) Eval(env *expression.Env) (any, error) {
	switch {
	case v == nil:
		return nil, nil
	case v.Expr != nil:
		return v.Expr.Eval(env)
	case v.IsMap:
		m := make(map[string]any, len(v.Fields))
		for i := range v.Fields {
			f := &v.Fields[i]
			x, err := f.Value.Eval(env)
			if err != nil {
				return nil, err
			}
			if x == nil && !v.requires(f.Name) {
				continue
			}
			m[f.Name] = x
		}
		return m, nil
	case v.IsList:
		l := make([]any, len(v.Items))
		for i, it := range v.Items {
			x, err := it.Eval(env)
			if err != nil {
				return nil, err
			}
			l[i] = x
		}
		return l, nil
	}
	return v.Literal, nil
}

func (v *Value) requires(property string) bool {
	if v.Target == nil {
		return false
	}
	f := v.Target.Fields[property]
	return f != nil && f.Required
}

// Exprs calls f for every expression in v, in file order.
func (v *Value) Exprs(f func(*expression.Expr)) {
	switch {
	case v == nil:
	case v.Expr != nil:
		f(v.Expr)
	default:
		for i := range v.Fields {
			v.Fields[i].Value.Exprs(f)
		}
		for _, it := range v.Items {
			it.Exprs(f)
		}
	}
}
