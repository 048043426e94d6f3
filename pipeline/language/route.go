// Package language turns route files into checked routes: YAML with positions,
// schemas as types, every expression compiled in the exact environment of its
// step, and lint (one file a rule). What it returns is immutable; the engine
// only walks it.
package language

import (
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Route is a checked, immutable, versioned program.
type Route struct {
	Name   string
	Label  int    // the file's `version`
	Digest string // hex SHA-256 of the route file, schemas and operation descriptions it uses
	About  string
	Owner  string
	File   string

	From       []Trigger
	Req        *schema.Schema // nil: the route takes nothing
	Resp       *schema.Schema // nil: not declared
	Subject    []*expression.Expr
	Purpose    string
	Allow      *expression.Expr // nil: everybody
	Once       *expression.Expr
	OrderBy    *expression.Expr
	Limit      *Limit
	SLO        *SLO
	Priority   int           // 0 high, 1 normal, 2 low
	Within     time.Duration // default 10 s
	Patience   time.Duration // default 24 h
	Zone       *time.Location
	Keep       Span // after the end; default 90 days
	Steps      []*Step
	CalledOnly bool // `route: any` is its only trigger

	// Facts that the compiler found.
	Safe   bool         // no effect, wait, delay or order: never durable
	Pipe   bool         // semantics 4.3: only emits, none but safe steps after the first
	Result *schema.Type // type of the top-level `set` named result, or of the reply
	Waits  []WaitShape  // every (event type, shape) that a step waits for
	Calls  []string     // full names of the operations it calls, sorted
	Routes []string     // routes it calls or starts

	Source Source

	deps deps // what its check rested on
}

// Source is what the store keeps so that a live run's version can be compiled
// again without the files.
type Source struct {
	Route      string            `json:"route"` // the file's text
	File       string            `json:"file"`
	Schemas    map[string]string `json:"schemas"`    // by name, as read
	Operations map[string]string `json:"operations"` // canonical JSON of each description
	Routes     map[string]string `json:"routes"`     // digests of called routes
}

// WaitShape is an event type with the sorted `event.` paths of an equality key.
type WaitShape struct{ Type, Shape string }

// TriggerKind is the word under `from`.
type TriggerKind string

const (
	HTTP   TriggerKind = "http"
	Event  TriggerKind = "event"
	Cron   TriggerKind = "cron"
	Every  TriggerKind = "every"
	Queue  TriggerKind = "queue"
	Called TriggerKind = "route"
)

// Trigger is one way in which a run begins.
type Trigger struct {
	Kind    TriggerKind
	Method  string        // HTTP
	Path    string        // HTTP: "/v1/x/{id}"
	Headers []string      // HTTP: header names whose values land in req, lower-case with _ for -
	Type    string        // Event: its type
	Cron    string        // Cron: five fields
	Every   time.Duration // Every
	Pos     yamldoc.Pos

	Broker   string   // Queue: its name in the configuration
	Queue    string   // Queue: one that others declare; "" with Exchange
	Exchange string   // Queue: theirs, to which a queue of ours is bound
	Keys     []string // Queue: routing keys of that binding
}

// Source names what a queue trigger takes from, as its author would.
func (t Trigger) Source() string {
	if t.Exchange == "" {
		return t.Broker + "/" + t.Queue
	}
	return t.Broker + "/" + t.Exchange + " " + strings.Join(t.Keys, " ")
}

// SLO is what the route promises; the dashboards and alerts hold it against it.
type SLO struct {
	P50, P95, P99 time.Duration // 0: no promise
	Success       float64       // share of runs that don't fail, 0 to 1; 0: no promise
}

// Limit bounds a route (semantics 11.3).
type Limit struct {
	Rate     float64 // a second
	InFlight int
	Per      *expression.Expr // nil: for the whole route
}

// Span is a duration whose days and weeks are calendar days (semantics 5.5):
// Days are added in the city's zone, then Elapsed.
type Span struct {
	Days    int
	Elapsed time.Duration
}

// Word is a step kind.
type Word string

const (
	Call   Word = "call"
	Start  Word = "start"
	SetW   Word = "set"
	Check  Word = "check"
	Switch Word = "switch"
	Each   Word = "each"
	AllW   Word = "all"
	Emit   Word = "emit"
	ReplyW Word = "reply"
	Wait   Word = "wait"
	Delay  Word = "delay"
)

// Step is one step. Exactly the fields of its Word are set beside the common ones.
type Step struct {
	Word Word
	Path string // below its block: its `as`, else kind:operation, #2 for a repetition
	As   string
	Pos  yamldoc.Pos
	Note string

	If      *expression.Expr
	Timeout time.Duration // 0: the connector's
	Retry   int           // attempts, 0: the connector's
	Errors  map[string]*Outcome
	Else    *Outcome // check, wait
	Undo    *Undo
	Commit  bool
	Type    *schema.Type // of the result

	Operation *connectors.Operation // call of a connector
	Target    string                // call: "anagrafe.residence"; call/start of a route: its name
	Route     *Route                // call of a route; the version is pinned with this one's
	With      *Value                // call, start, emit, reply
	Sets      []Named               // set, in order
	Cond      *expression.Expr      // check; wait: the whole `where`
	Cases     []Case                // switch
	Otherwise []*Step               // switch's else; nil with none
	List      *expression.Expr      // each
	Item      string                // each
	Index     string                // each; "" if not named
	Parallel  int                   // each: 1..100
	Need      int                   // each, all: 0 all, -1 any, n
	Steps     []*Step               // each
	Branches  []Branch              // all, in file order
	EventType string                // emit, wait
	Status    int                   // reply
	SayExpr   *expression.Expr      // reply: `say: =expr`
	Say       string                // reply: message key, "" if none
	Key       []KeyPart             // wait: sorted by event path
	Shape     string                // wait: the sorted paths, joined by ","
	Rest      *expression.Expr      // wait: what of `where` is not in the key; nil if nothing
	For       Span                  // wait: zero is no time-out
	Span      Span                  // delay with a literal
	Until     *expression.Expr      // delay with an expression: an instant or a period
}

// Named is a name and its value.
type Named struct {
	Name  string
	Value *Value
}

// Case of a switch.
type Case struct {
	If    *expression.Expr
	Steps []*Step
}

// Branch of an all.
type Branch struct {
	Name  string
	Steps []*Step
}

// KeyPart is one `event.PATH == X` of a wait's key.
type KeyPart struct {
	Path  string // "event.iuv" is "iuv"
	Value *expression.Expr
}

// End is what an outcome does.
type End string

const (
	Use      End = "use"
	Skip     End = "skip"
	Stop     End = "stop"
	ReplyEnd End = "reply"
	Cancel   End = "cancel"
	EndName  End = "end"
	Fail     End = "fail"
	Park     End = "park"
)

// Outcome stands under `else` or in `errors`.
type Outcome struct {
	End     End
	Reason  string           // stop, cancel, end, fail, park
	Status  int              // reply
	Say     string           // reply: message key
	SayExpr *expression.Expr // reply: `say: =expr`
	Value   *Value           // use: the value; reply: `with`
	Pos     yamldoc.Pos
}

// Undo stands beside an effect.
type Undo struct {
	None      string // the documented reason that there is none
	Operation *connectors.Operation
	Target    string
	EventType string // undo by emitting the opposite
	With      *Value
	If        *expression.Expr
	Pos       yamldoc.Pos
}

// Value is a YAML value with expressions in it, compiled.
type Value struct {
	Expr    *expression.Expr
	Literal any
	Fields  []Named // a map, in file order
	Items   []*Value
	IsMap   bool
	IsList  bool
	Type    *schema.Type
	Target  *schema.Type // what it must fit; decides what becomes of a nil property
	Pos     yamldoc.Pos
}

// EventType is a schema in schemas/events.
type EventType struct {
	Name   string
	Schema *schema.Schema
}

// Purpose of config/purposes.yaml.
type Purpose struct {
	Name       string
	Text       map[string]string // by language
	LegalBasis string
	Keep       Span
}

// City is the checked content of one folder: what serve, lint and test share.
type City struct {
	Routes     map[string]*Route
	Events     map[string]*EventType
	Purposes   map[string]*Purpose
	Messages   map[string]map[string]string // key -> language -> sentence
	Cfg        map[string]any               // cfg.x
	CfgType    *schema.Type
	Schemas    *schema.Set
	Connectors map[string]connectors.Description
	Zone       *time.Location
	Files      map[string]string // content hash by file, for incremental reload

	memo *memo // what Reload needs of this load
}

// FaultNames of the engine that cannot stand under `errors:`.
var notNameable = [...]fault.Kind{fault.Unknown, fault.Internal}
