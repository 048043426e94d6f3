// Package expression owns expr-lang: it checks an expression in the exact
// environment of its step, infers its type, compiles it to Go closures where it
// is simple and to an expr program otherwise, and evaluates it within bounds.
package expression

import (
	"time"

	"github.com/dime-bus/dime/internal/schema"
)

// Scope is what an expression may name and the type of each name.
// A Scope is immutable; With and Narrow return new ones.
type Scope struct {
	names  map[string]*schema.Type
	parent *Scope
}

// Env is what an expression sees when it is evaluated.
type Env struct {
	Vars      map[string]any            // every name of the scope that is set; absent means nil
	Now       func() time.Time          // the clock at evaluation
	Zone      *time.Location            // the city's zone
	MayActFor func(taxCode string) bool // caller.may_act_for; nil means only oneself
	Random    func() float64            // random(); nil outside set and with
	UUID      func() string             // uuid()
}

// Problem is one thing wrong with an expression.
type Problem struct {
	Offset  int    // in bytes from the expression's first byte
	Rule    string // "type", "nil", "enum", "bool", "syntax", "cents", "bounds", "name"
	Message string // what, and what to do ("did you mean ...")
}

// Expr is a checked, compiled expression; immutable and safe for concurrent use.
type Expr struct {
	Source string
	Type   *schema.Type
	eval   func(*Env) (any, error)
}

// Eval evaluates within bounds (250 ms, 32 MiB). Errors are fault.Internal.
func (e *Expr) Eval(env *Env) (any, error) { return e.eval(env) }
