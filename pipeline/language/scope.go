package language

import (
	"regexp"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// block is a list of steps while it is compiled: what its next step sees, and
// the names it has set (semantics 2).
type block struct {
	up    *block
	scope *expression.Scope
	names map[string]*schema.Type
	at    map[string]*yamldoc.Node // where each name is set
	order []string
	paths map[string]int
	each  bool // inside an each, at any depth
	depth int
	ended bool // the steps before surely ended the run
}

func newBlock(up *block, sc *expression.Scope) *block {
	b := &block{up: up, scope: sc, names: map[string]*schema.Type{}, at: map[string]*yamldoc.Node{}, paths: map[string]int{}}
	if up != nil {
		b.each, b.depth = up.each, up.depth+1
	}
	return b
}

func (b *block) set(name string, t *schema.Type, at *yamldoc.Node) {
	b.scope = b.scope.With(name, t)
	b.at[name] = at
	if _, known := b.names[name]; !known {
		b.order = append(b.order, name)
	}
	b.names[name] = t
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Names of the language itself, which no result may take.
var ownNames = [...]string{"req", "caller", "cfg", "run", "event", "secret", "env"}

// name checks a name that a step is about to set: its form, reserved words, and
// that nothing visible has it already.
func (c *compiler) name(n *yamldoc.Node, b *block) (string, bool) {
	if n.Kind != yamldoc.Scalar || !identifier.MatchString(n.Text) {
		c.add(n, "name", "a name is made of letters, digits and _, and begins with a letter")
		return "", false
	}
	if expression.Reserved(n.Text) {
		c.add(n, "name", "%q is a word of the expression language and can't name a result", n.Text)
		return "", false
	}
	for _, own := range ownNames {
		if own == n.Text {
			c.add(n, "name", "%q means something else in every expression and can't name a result", n.Text)
			return "", false
		}
	}
	if b.scope.Lookup(n.Text) != nil {
		c.add(n, "name", "%q is set already: a name is set once and can't be shadowed", n.Text)
		return "", false
	}
	return n.Text, true
}

// everyName is what the `if` of an undo sees: whatever the run may have set, as
// optional (semantics 7.2). Blocks must be complete.
func everyName(at *expression.Scope, b *block) *expression.Scope {
	for ; b != nil; b = b.up {
		for _, n := range b.order {
			at = at.With(n, b.names[n].AsOptional())
		}
	}
	return at
}

func field(t *schema.Type, required bool) *schema.Field {
	return &schema.Field{Type: t, Required: required}
}

// callerType is what expressions see of who called (route-language, "What
// expressions see"). What not every kind of caller has is optional.
func callerType(optional bool) *schema.Type {
	personal := &schema.Type{Kind: schema.String, Personal: true}
	return &schema.Type{
		Kind: schema.Object, Optional: optional, Title: "caller",
		Order: []string{"kind", "assurance", "tax_code", "organisation", "office", "roles", "acting_for", "mandate", "channel", "language", "subject"},
		Fields: map[string]*schema.Field{
			"kind":         field(&schema.Type{Kind: schema.String, Enum: []any{"citizen", "operator", "desk", "partner", "module", "timer", "event"}}, true),
			"assurance":    field(&schema.Type{Kind: schema.Int, Enum: []any{0, 1, 2, 3}}, true),
			"tax_code":     field(personal, false),
			"organisation": field(stringType, false),
			"office":       field(stringType, false),
			"roles":        field(schema.ListOf(stringType), true),
			"acting_for":   field(personal, false),
			"mandate":      field(stringType, false),
			"channel":      field(stringType, true),
			"language":     field(&schema.Type{Kind: schema.String, Enum: []any{"it", "en", "de", "fr"}}, true),
			"subject":      field(personal, false),
		},
	}
}

func runType() *schema.Type {
	instant := &schema.Type{Kind: schema.Time}
	return &schema.Type{
		Kind: schema.Object, Title: "run",
		Order: []string{"id", "url", "route", "version", "accepted_at", "attempt"},
		Fields: map[string]*schema.Field{
			"id": field(stringType, true), "url": field(stringType, true), "route": field(stringType, true),
			"version": field(intType, true), "accepted_at": field(instant, true), "attempt": field(intType, true),
		},
	}
}

// scheduled is what `req` is where a timer starts the run (semantics 2.2).
func scheduled() *schema.Type {
	return &schema.Type{
		Kind: schema.Object, Title: "the scheduled instant", Order: []string{"at"},
		Fields: map[string]*schema.Field{"at": field(&schema.Type{Kind: schema.String, Format: "date-time"}, true)},
	}
}
