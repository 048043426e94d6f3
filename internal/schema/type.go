package schema

import "time"

// Kind is the JSON kind of a Type.
type Kind uint8

const (
	Any     Kind = iota // an open schema: anything may be there, reading is not checked
	Null                // only null
	Bool                // Go bool
	Int                 // Go int; money is Int with Format "cents"
	Number              // Go float64
	String              // Go string
	Object              // Go map[string]any
	Array               // Go []any
	Time                // an instant inside expressions (now()); in JSON an RFC 3339 string
	Period              // a duration inside expressions (days(3))
	Unknown             // inference gave up: an error wherever it is read
)

// Type is what the compiler knows of a value: the checked part of a schema, or
// what inference found for an expression. Types are immutable once made.
type Type struct {
	Kind     Kind
	Nullable bool              // null is a legal value
	Optional bool              // the name or property may be absent; reading it needs ?., ?? or a check
	Enum     []any             // legal values, nil if free
	Fields   map[string]*Field // Object: declared properties
	Order    []string          // Object: property names in declared order, for docs and mocks
	Open     bool              // Object: further properties are allowed; their type is Extra
	Extra    *Type             // Object: type of further properties; nil with Open means Any
	Items    *Type             // Array: type of each element; nil means Any
	Format   string            // "cents", "date", "date-time", "uri", ...
	Personal bool              // x-personal: true on this value or on the object that holds it
	Title    string            // for messages: the schema's or operation's name
}

// Field is a declared property.
type Field struct {
	Type     *Type
	Required bool
	About    string
}

// MayBeNil says whether reading the value without ?. ?? or a check is an error.
func (t *Type) MayBeNil() bool { return t != nil && (t.Nullable || t.Optional || t.Kind == Null) }

// compile-time note: instants and periods are these Go types at run time.
var (
	_ time.Time
	_ time.Duration
)
