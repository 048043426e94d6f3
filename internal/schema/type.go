package schema

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
	Period              // a calendar or elapsed duration inside expressions (days(3)); in JSON an ISO 8601 string
	Unknown             // inference gave up: an error wherever it is read
)

// Type is what the compiler knows of a value: the checked part of a schema, or
// what inference found for an expression. Types are immutable once made. A Type
// made from a recursive schema is cyclic: walk it with a bound.
type Type struct {
	Kind     Kind
	Nullable bool              // null is a legal value
	Optional bool              // the name or property may be absent; reading it needs ?., ?? or a check
	Enum     []any             // legal values, nil if free
	Literal  bool              // Enum is what literals of an expression can be, not what a schema allows
	Fields   map[string]*Field // Object: declared properties
	Order    []string          // Object: property names in declared order, for docs and mocks
	Open     bool              // Object: further properties are allowed; their type is Extra
	Strict   bool              // Object: additionalProperties is false, so a value with others is refused
	Extra    *Type             // Object: type of further properties; nil with Open means Any
	Items    *Type             // Array: type of each element; nil means Any; Kind Null without Nullable: surely empty
	Limits   *Limits           // String, Int, Number: pattern, bounds and format that a literal is held to; nil if none
	Format   string            // "cents", "date", "date-time", "uri", ...
	Personal bool              // x-personal: true on this value or on the object that holds it
	Title    string            // for messages: the schema's or operation's name
}

// Field is a declared property. Its value may be absent unless Required.
type Field struct {
	Type     *Type
	Required bool
	About    string
}

// MayBeNil says whether reading the value without ?. ?? or a check is an error.
func (t *Type) MayBeNil() bool { return t != nil && (t.Nullable || t.Optional || t.Kind == Null) }

// NonNil returns t as it is once a check has shown that it is there.
func (t *Type) NonNil() *Type {
	if t == nil || !t.Nullable && !t.Optional {
		return t
	}
	c := *t
	c.Nullable, c.Optional = false, false
	return &c
}

// AsOptional returns t as it is where it may be absent.
func (t *Type) AsOptional() *Type {
	if t == nil || t.Optional {
		return t
	}
	c := *t
	c.Optional = true
	return &c
}

// ListOf returns the type of a list of t.
func ListOf(t *Type) *Type { return &Type{Kind: Array, Items: t} }

// ObjectOf returns the type of a closed object with the fields in their order.
// A property whose type MayBeNil is not required.
func ObjectOf(names []string, types map[string]*Type) *Type {
	t := &Type{Kind: Object, Fields: make(map[string]*Field, len(types)), Order: names}
	for n, ft := range types {
		t.Fields[n] = &Field{Type: ft, Required: !ft.MayBeNil()}
	}
	return t
}
