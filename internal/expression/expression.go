// Package expression owns expr-lang: it checks an expression in the exact
// environment of its step, infers its type, compiles it to Go closures and
// evaluates it within bounds (trust.md, "Expressions").
//
// The grammar is expr's; its parser is used as it is. Inference and evaluation
// are ours: expr's checker loses types at `??`, `first()`, map literals and
// mixed branches, and its VM has neither a deadline nor a bound on strings. A
// differential fuzz test holds the evaluation equal to expr's VM.
package expression

import (
	"time"

	"github.com/dime-bus/dime/internal/schema"
)

// Env is what an expression sees when it is evaluated.
type Env struct {
	Vars      map[string]any                     // every name of the scope that is set; absent means nil
	Now       func() time.Time                   // the clock at evaluation; nil is the machine's
	Zone      *time.Location                     // the city's zone; nil is UTC
	MayActFor func(taxCode string) (bool, error) // caller.may_act_for; nil means only oneself
	Random    func() float64                     // random(); nil outside set and with
	UUID      func() string                      // uuid()
}

// Problem is one thing wrong with an expression.
type Problem struct {
	Offset  int    // in bytes from the expression's first byte
	Rule    string // "type", "nil", "enum", "bool", "syntax", "cents", "bounds", "name", "where"
	Message string // what, and what to do ("did you mean ...")
}

// Options of a compilation.
type Options struct {
	// Want is what the place needs: a Bool for allow, check, if and the cases of
	// switch; the target's type for an argument. nil takes anything. With a Want of
	// Kind Time or Period, Eval gives time.Time or Period; in every other place
	// instants and periods come out as RFC 3339 and ISO 8601 strings.
	Want *schema.Type
	// AllowRandom lets random() and uuid() in: only set and with (semantics 2.6).
	AllowRandom bool
}

// Expr is a checked, compiled expression; immutable and safe for concurrent use.
type Expr struct {
	Source string
	Type   *schema.Type // never nil; literals carry themselves as Enum with Literal set
	eval   func(*Env) (any, error)

	refs, paths         []string
	trueFacts, falsFact []string
	valuePath           []string // if e is nothing but a path: it and all on the way to it
	literal             bool
}

// Eval evaluates within bounds (250 ms, 32 MiB). The result is nil, bool, int,
// float64, string, []any or map[string]any (and time.Time or Period where
// Options.Want said so). Errors are *fault.Error of Kind Internal, whose message
// names the expression and never a value; or what MayActFor failed with.
func (e *Expr) Eval(env *Env) (any, error) { return e.eval(env) }

// Refs are the root names that e reads, sorted: "req", "position".
func (e *Expr) Refs() []string { return e.refs }

// Paths are the dotted paths that e reads, sorted: "req.tax_code", "run.accepted_at".
func (e *Expr) Paths() []string { return e.paths }

// IsLiteral says whether e reads no name and calls no clock or chance.
func (e *Expr) IsLiteral() bool { return e.literal }

// TrueFacts are the dotted paths that are surely not nil where e is true; give
// them to Scope.Narrow for what stands behind a `check` or inside an `if`.
func (e *Expr) TrueFacts() []string { return e.trueFacts }

// FalseFacts are the paths that are surely not nil where e is false.
func (e *Expr) FalseFacts() []string { return e.falsFact }
