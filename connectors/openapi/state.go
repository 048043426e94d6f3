package openapi

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// stateFile is NAME.state.yaml beside the document: rows, and for each operation
// the rules by which the far side answers.
//
//	collections:
//	  slots:
//	    key: id
//	    rows: [{id: a, office: b}]
//	    generate:                       # rows for the coming working days
//	      - days: 30
//	        times: ["09:00", "09:30"]
//	        minutes: 30
//	        for: {office: [anagrafe-venezia]}
//	        row: {id: =office + "-" + date + "-" + time, starts_at: =starts_at}
//	  people: {key: tax_code, citizens: true}   # those of the virtual city, as it lists them
//	operations:
//	  hold:
//	    - find: slots
//	      key: =args.slot
//	      as: slot
//	      else: {status: 404, code: no_slot}
//	    - refuse: {status: 409, code: slot_taken}
//	      if: slot.hold != nil
//	    - insert: holds
//	      as: hold
//	      row: {id: ="H-" + number, slot: =slot.id, expires_at: {after: 15m}}
//	    - update: slot
//	      set: {hold: =hold.id}
//	    - answer: =hold
//
// Steps are find, list, refuse, insert, update, delete, set and answer; each may
// carry `if`. Expressions see args, key (the Idempotency-Key), now, today,
// yesterday, year, number (of the row being inserted) and the names set by earlier steps; `where` sees row
// too. An answer leaves out what the document's schema does not have.
type stateFile struct {
	file        string
	collections []seedCollection
	rules       map[string]*rule
}

type seedCollection struct {
	name     string
	key      string
	rows     []*value
	generate []generator
	citizens bool
}

type generator struct {
	days    int
	times   []string
	minutes int
	dims    []dimension
	row     *value
}

// maxGenerated rows of one generator, which lie in memory.
const maxGenerated = 1_000_000

type dimension struct {
	name   string
	values []any
}

// rule is what one operation does.
type rule struct{ steps []ruleStep }

type ruleStep struct {
	kind       string
	cond       *expression.Expr
	collection string
	target     string // update, delete: the name of a found row
	as         string
	key        *value
	by         map[string]*value
	where      *expression.Expr
	orderBy    string
	limit      int
	fields     map[string]*value // row, set
	refuse     *refusal          // refuse; find's else
	answer     *value
	status     int
}

type refusal struct {
	status       int
	code, detail string
}

// value is a YAML value with expressions in it.
type value struct {
	expr    *expression.Expr
	literal any
	fields  map[string]*value
	items   []*value
	after   time.Duration // {after: 15m}
	days    *value        // {after_days: 60}, from {from: =date}
	from    *value
	kind    byte // e l f i a d
}

func (c *Connector) readState() (*stateFile, []yamldoc.Problem) {
	file := path.Join(path.Dir(c.docFile), c.desc.Name+".state.yaml")
	b, err := fs.ReadFile(c.fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []yamldoc.Problem{{Pos: yamldoc.Pos{File: file, Line: 1, Column: 1}, Rule: "state", Message: fmt.Sprintf("reading the file: %v", err)}}
	}
	n, ps := yamldoc.Parse(file, b)
	if n == nil {
		return nil, ps
	}
	r := stateReader{problems: ps, keys: map[string]string{}}
	var f struct {
		Collections *yamldoc.Node `yaml:"collections"`
		Operations  *yamldoc.Node `yaml:"operations"`
	}
	r.problems = append(r.problems, n.Decode(&f)...)
	s := &stateFile{file: file, rules: map[string]*rule{}}
	if f.Collections != nil {
		for _, p := range f.Collections.Pairs {
			s.collections = append(s.collections, r.collection(p))
		}
	}
	if f.Operations != nil {
		for _, p := range f.Operations.Pairs {
			if c.calls[p.Key.Text] == nil {
				r.bad(p.Key, "operation", "%s", c.unknown(p.Key.Text))
				continue
			}
			s.rules[p.Key.Text] = r.rule(p.Value)
		}
	}
	return s, yamldoc.Sort(r.problems)
}

type stateReader struct {
	problems []yamldoc.Problem
	keys     map[string]string // collection -> key field
}

func (r *stateReader) bad(n *yamldoc.Node, rule, format string, args ...any) {
	r.problems = append(r.problems, n.Problem(rule, fmt.Sprintf(format, args...)))
}

func anyType() *schema.Type { return &schema.Type{Kind: schema.Any} }

func textType() *schema.Type { return &schema.Type{Kind: schema.String} }

func builtins() map[string]*schema.Type {
	return map[string]*schema.Type{"args": anyType(), "key": textType(), "now": textType(), "today": textType(), "yesterday": textType(), "year": textType()}
}

func (r *stateReader) collection(p yamldoc.Pair) seedCollection {
	s := seedCollection{name: p.Key.Text}
	var f struct {
		Key      string          `yaml:"key,required"`
		Citizens bool            `yaml:"citizens"`
		Rows     []*yamldoc.Node `yaml:"rows"`
		Generate []*yamldoc.Node `yaml:"generate"`
	}
	r.problems = append(r.problems, p.Value.Decode(&f)...)
	s.key, s.citizens = f.Key, f.Citizens
	r.keys[s.name] = f.Key
	sc := expression.NewScope(builtins())
	for _, n := range f.Rows {
		s.rows = append(s.rows, r.value(n, sc))
	}
	for _, n := range f.Generate {
		var g struct {
			Days    int           `yaml:"days"`
			Times   []string      `yaml:"times"`
			Minutes int           `yaml:"minutes"`
			For     *yamldoc.Node `yaml:"for"`
			Row     *yamldoc.Node `yaml:"row,required"`
		}
		r.problems = append(r.problems, n.Decode(&g)...)
		if g.Row == nil {
			continue
		}
		if g.Days < 0 || g.Days > 366 || len(g.Times) > 200 {
			r.bad(n, "bounds", "a generator makes rows for at most 366 days of 200 times")
			continue
		}
		inner := sc
		for _, name := range []string{"date", "time", "starts_at", "ends_at"} {
			inner = inner.With(name, textType())
		}
		x := generator{days: g.Days, times: g.Times, minutes: g.Minutes}
		if g.For != nil {
			for _, d := range g.For.Pairs {
				l, ok := anyOf(d.Value, yamldoc.WantAny).([]any)
				if !ok {
					r.bad(d.Value, "type", "`for` names lists of values")
					continue
				}
				x.dims = append(x.dims, dimension{d.Key.Text, l})
				inner = inner.With(d.Key.Text, anyType())
			}
		}
		rows := max(1, g.Days) * max(1, len(g.Times))
		for _, d := range x.dims {
			if rows *= max(1, len(d.values)); rows > maxGenerated {
				break
			}
		}
		if rows > maxGenerated {
			r.bad(n, "bounds", "a generator makes at most %d rows: days x times x the values under for", maxGenerated)
			continue
		}
		x.row = r.value(g.Row, inner)
		s.generate = append(s.generate, x)
	}
	return s
}

func (r *stateReader) rule(n *yamldoc.Node) *rule {
	if n.Kind != yamldoc.List {
		r.bad(n, "type", "an operation's rules are a list of steps, not %s", n.What())
		return nil
	}
	sc := expression.NewScope(builtins())
	var out rule
	for _, it := range n.Items {
		s, as := r.step(it, sc)
		out.steps = append(out.steps, s)
		for _, name := range as {
			sc = sc.With(name, anyType())
		}
	}
	return &out
}

// step reads one step and tells the names that it sets.
func (r *stateReader) step(n *yamldoc.Node, sc *expression.Scope) (s ruleStep, names []string) {
	var f struct {
		Find    string                   `yaml:"find"`
		List    string                   `yaml:"list"`
		Insert  string                   `yaml:"insert"`
		Update  string                   `yaml:"update"`
		Delete  string                   `yaml:"delete"`
		Refuse  *yamldoc.Node            `yaml:"refuse"`
		Answer  *yamldoc.Node            `yaml:"answer"`
		Set     map[string]*yamldoc.Node `yaml:"set"`
		If      *yamldoc.Node            `yaml:"if"`
		As      string                   `yaml:"as"`
		Key     *yamldoc.Node            `yaml:"key"`
		By      map[string]*yamldoc.Node `yaml:"by"`
		Where   *yamldoc.Node            `yaml:"where"`
		OrderBy string                   `yaml:"order_by"`
		Limit   int                      `yaml:"limit"`
		Row     map[string]*yamldoc.Node `yaml:"row"`
		Else    *yamldoc.Node            `yaml:"else"`
		Status  int                      `yaml:"status"`
	}
	r.problems = append(r.problems, n.Decode(&f)...)
	s = ruleStep{as: f.As, orderBy: f.OrderBy, limit: f.Limit, status: f.Status}
	if st := n.Get("status"); st != nil && (f.Status < 200 || f.Status > 299) {
		r.bad(st, "value", "an answer's status is between 200 and 299; what is refused is written under refuse")
	}
	if f.If != nil {
		s.cond = r.boolean(f.If, sc)
	}
	inner := sc
	switch {
	case f.Find != "":
		s.kind, s.collection = "find", f.Find
	case f.List != "":
		s.kind, s.collection = "list", f.List
	case f.Insert != "":
		s.kind, s.collection = "insert", f.Insert
		inner = sc.With("number", textType())
	case f.Update != "":
		s.kind, s.target = "update", f.Update
	case f.Delete != "":
		s.kind, s.target = "delete", f.Delete
	case f.Refuse != nil:
		s.kind, s.refuse = "refuse", r.refusal(f.Refuse)
	case f.Answer != nil:
		s.kind, s.answer = "answer", r.value(f.Answer, sc)
	case f.Set != nil:
		s.kind = "set"
	default:
		r.bad(n, "state", "a step is one of find, list, insert, update, delete, refuse, set, answer")
		return s, nil
	}
	if s.collection != "" {
		if _, ok := r.keys[s.collection]; !ok {
			r.bad(n, "state", "there is no collection %q%s", s.collection, didYouMean(s.collection, sortedKeys(r.keys)))
		}
		if s.as == "" {
			s.as = s.collection
		}
		names = append(names, s.as)
	}
	if s.target != "" && sc.Lookup(s.target) == nil {
		r.bad(n, "name", "no earlier step found a row named %q%s", s.target, didYouMean(s.target, sc.Names()))
	}
	if f.Key != nil {
		s.key = r.value(f.Key, sc)
	}
	if f.Where != nil {
		s.where = r.boolean(f.Where, sc.With("row", anyType()))
	}
	if f.Else != nil {
		s.refuse = r.refusal(f.Else)
	}
	s.by = r.values(f.By, sc)
	if s.kind == "insert" {
		s.fields = r.values(f.Row, inner)
	} else if s.kind == "set" || s.kind == "update" {
		s.fields = r.values(f.Set, sc)
	}
	if s.kind == "set" {
		names = append(names, sortedKeys(f.Set)...)
	}
	return s, names
}

func (r *stateReader) refusal(n *yamldoc.Node) *refusal {
	var f struct {
		Status int    `yaml:"status,required"`
		Code   string `yaml:"code"`
		Detail string `yaml:"detail"`
	}
	r.problems = append(r.problems, n.Decode(&f)...)
	if f.Status < 400 || f.Status > 599 {
		r.bad(n, "value", "a refusal's status is between 400 and 599")
	}
	return &refusal{f.Status, f.Code, f.Detail}
}

func (r *stateReader) values(m map[string]*yamldoc.Node, sc *expression.Scope) map[string]*value {
	if m == nil {
		return nil
	}
	out := make(map[string]*value, len(m))
	for k, n := range m {
		out[k] = r.value(n, sc)
	}
	return out
}

func (r *stateReader) boolean(n *yamldoc.Node, sc *expression.Scope) *expression.Expr {
	return r.expr(n, n.Text, 0, sc, &schema.Type{Kind: schema.Bool})
}

func (r *stateReader) expr(n *yamldoc.Node, src string, offset int, sc *expression.Scope, want *schema.Type) *expression.Expr {
	e, ps := expression.Compile(src, sc, expression.Options{Want: want})
	for _, p := range ps {
		r.problems = append(r.problems, yamldoc.Problem{Pos: n.At(offset + p.Offset), Rule: p.Rule, Message: p.Message})
	}
	return e
}

func (r *stateReader) value(n *yamldoc.Node, sc *expression.Scope) *value {
	switch {
	case n == nil:
		return &value{kind: 'l'}
	case n.Kind == yamldoc.List:
		v := &value{kind: 'i'}
		for _, it := range n.Items {
			v.items = append(v.items, r.value(it, sc))
		}
		return v
	case n.Kind == yamldoc.Map:
		if a := n.Get("after"); a != nil && len(n.Pairs) == 1 {
			d, err := time.ParseDuration(a.Text)
			if err != nil {
				r.bad(a, "type", "`after` is a duration such as 15m")
			}
			return &value{kind: 'a', after: d}
		}
		if d := n.Get("after_days"); d != nil {
			v := &value{kind: 'd', days: r.value(d, sc)}
			if from := n.Get("from"); from != nil {
				v.from = r.value(from, sc)
			}
			return v
		}
		v := &value{kind: 'f', fields: map[string]*value{}}
		for _, p := range n.Pairs {
			v.fields[p.Key.Text] = r.value(p.Value, sc)
		}
		return v
	}
	if src, ok := strings.CutPrefix(n.Text, "="); ok && n.Style != yamldoc.Block {
		return &value{kind: 'e', expr: r.expr(n, src, 1, sc, nil)}
	}
	return &value{kind: 'l', literal: anyOf(n, yamldoc.WantAny)}
}
