package openapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
)

// play is one run of an operation's rules.
type play struct {
	e       *Emulator
	vars    map[string]any
	env     expression.Env
	from    map[string]string // name of a row -> its collection
	changes []change
}

func (e *Emulator) play(vars map[string]any) *play {
	p := &play{e: e, vars: vars, from: map[string]string{}}
	p.env = expression.Env{Vars: vars, Now: e.cfg.Clock.Now, Zone: e.cfg.Zone}
	return p
}

// run follows the steps. The changes are made at once and are the caller's to
// write or to revert.
func (r *rule) run(e *Emulator, call *caller, args map[string]any, key string) (reply, []change, error) {
	vars := e.vars(args)
	if key != "" {
		vars["key"] = key
	}
	p := e.play(vars)
	for i := range r.steps {
		s := &r.steps[i]
		if s.cond != nil {
			v, err := s.cond.Eval(&p.env)
			if err != nil {
				return reply{}, p.changes, err
			}
			if v != true {
				if s.as != "" {
					if _, set := vars[s.as]; !set {
						vars[s.as] = nil
					}
				}
				continue
			}
		}
		out, err := p.step(s)
		if err != nil {
			return reply{}, p.changes, fmt.Errorf("step %d (%s): %w", i+1, s.kind, err)
		}
		if out != nil {
			if out.status == 0 {
				out.status = call.answer.status
			}
			if out.status < 300 {
				out.body = fitTo(out.body, call.outSchema.Type(), 0)
				if call.outSchema == nil {
					out.body = nil
				}
			}
			return *out, p.changes, nil
		}
	}
	return reply{status: call.answer.status}, p.changes, nil
}

func (p *play) step(s *ruleStep) (*reply, error) {
	switch s.kind {
	case "find", "list":
		rows, err := p.rows(s)
		if err != nil {
			return nil, err
		}
		if s.kind == "list" {
			l := make([]any, len(rows))
			for i, r := range rows {
				l[i] = r
			}
			p.vars[s.as] = l
			return nil, nil
		}
		if len(rows) == 0 {
			p.vars[s.as] = nil
			if s.refuse != nil {
				return s.refuse.reply(), nil
			}
			return nil, nil
		}
		p.vars[s.as] = rows[0]
		p.from[s.as] = s.collection
	case "refuse":
		return s.refuse.reply(), nil
	case "set":
		for _, k := range sortedKeys(s.fields) {
			v, err := p.value(s.fields[k])
			if err != nil {
				return nil, err
			}
			p.vars[k] = v
		}
	case "insert":
		return nil, p.insert(s)
	case "update", "delete":
		return nil, p.change(s)
	case "answer":
		v, err := p.value(s.answer)
		if err != nil {
			return nil, err
		}
		return &reply{status: s.status, body: v}, nil
	}
	return nil, nil
}

func (f *refusal) reply() *reply {
	r := problem(f.status, f.code, f.detail)
	if f.detail == "" {
		r.body.(map[string]any)["detail"] = http.StatusText(f.status)
	}
	return &r
}

// rows selects by key, by equal fields and by `where`, in order.
func (p *play) rows(s *ruleStep) ([]map[string]any, error) {
	col := p.e.mem.collection(s.collection)
	if s.key != nil {
		k, err := p.value(s.key)
		if err != nil {
			return nil, err
		}
		row, ok := col.rows[joined(k, "")]
		if !ok || k == nil {
			return nil, nil
		}
		return p.filter(s, []map[string]any{row})
	}
	by := map[string]any{}
	for k, x := range s.by {
		v, err := p.value(x)
		if err != nil {
			return nil, err
		}
		by[k] = v
	}
	var rows []map[string]any
next:
	for _, id := range col.order {
		row := col.rows[id]
		for k, v := range by {
			if row[k] != v {
				continue next
			}
		}
		rows = append(rows, row)
	}
	return p.filter(s, rows)
}

func (p *play) filter(s *ruleStep, rows []map[string]any) ([]map[string]any, error) {
	if s.where != nil {
		var kept []map[string]any
		for _, row := range rows {
			p.vars["row"] = row
			v, err := s.where.Eval(&p.env)
			delete(p.vars, "row")
			if err != nil {
				return nil, err
			}
			if v == true {
				kept = append(kept, row)
				if s.kind == "find" && s.orderBy == "" {
					break
				}
			}
		}
		rows = kept
	}
	if s.orderBy != "" {
		field, sign := s.orderBy, 1
		if field[0] == '-' {
			field, sign = field[1:], -1
		}
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, func(a, b map[string]any) int { return sign * compare(a[field], b[field]) })
	}
	if s.limit > 0 && len(rows) > s.limit {
		rows = rows[:s.limit]
	}
	return rows, nil
}

func compare(a, b any) int {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(joined(a, ","), joined(b, ","))
}

func (p *play) insert(s *ruleStep) error {
	col := p.e.mem.collection(s.collection)
	p.vars["number"] = fmt.Sprintf("%06d", col.count+1)
	defer delete(p.vars, "number")
	row := make(map[string]any, len(s.fields))
	for _, k := range sortedKeys(s.fields) {
		v, err := p.value(s.fields[k])
		if err != nil {
			return err
		}
		row[k] = v
	}
	id := joined(row[p.e.state.key(s.collection)], "")
	if id == "" {
		return fmt.Errorf("the row has no %s", p.e.state.key(s.collection))
	}
	before := col.put(id, row)
	if before == nil {
		col.count++
	}
	p.changes = append(p.changes, change{Collection: s.collection, ID: id, Row: row, before: before, added: before == nil})
	p.vars[s.as], p.from[s.as] = row, s.collection
	return nil
}

// change replaces or deletes a found row; rows are never changed in place, for
// earlier answers share them.
func (p *play) change(s *ruleStep) error {
	row, ok := p.vars[s.target].(map[string]any)
	name := p.from[s.target]
	if !ok || name == "" {
		return fmt.Errorf("no row was found under the name %s", s.target)
	}
	col := p.e.mem.collection(name)
	id := joined(row[p.e.state.key(name)], "")
	if s.kind == "delete" {
		p.changes = append(p.changes, change{Collection: name, ID: id, before: row})
		col.remove(id)
		return nil
	}
	after := maps.Clone(row)
	for _, k := range sortedKeys(s.fields) {
		v, err := p.value(s.fields[k])
		if err != nil {
			return err
		}
		after[k] = v
	}
	col.put(id, after)
	p.changes = append(p.changes, change{Collection: name, ID: id, Row: after, before: row})
	p.vars[s.target] = after
	return nil
}

func (s *stateFile) key(collection string) string {
	for _, c := range s.collections {
		if c.name == collection {
			return c.key
		}
	}
	return "id"
}

func (p *play) value(v *value) (any, error) {
	switch v.kind {
	case 'e':
		if v.expr == nil {
			return nil, fmt.Errorf("an expression of the rule did not compile")
		}
		return v.expr.Eval(&p.env)
	case 'f':
		m := make(map[string]any, len(v.fields))
		for _, k := range sortedKeys(v.fields) {
			x, err := p.value(v.fields[k])
			if err != nil {
				return nil, err
			}
			m[k] = x
		}
		return m, nil
	case 'i':
		l := make([]any, len(v.items))
		for i, it := range v.items {
			x, err := p.value(it)
			if err != nil {
				return nil, err
			}
			l[i] = x
		}
		return l, nil
	case 'a':
		return p.e.cfg.Clock.Now().Add(v.after).UTC().Format(time.RFC3339), nil
	case 'd':
		return p.daysAfter(v)
	}
	return v.literal, nil
}

// daysAfter is a date so many days after another, or after today.
func (p *play) daysAfter(v *value) (any, error) {
	n, err := p.value(v.days)
	if err != nil {
		return nil, err
	}
	days, ok := n.(int)
	if !ok {
		return nil, fmt.Errorf("after_days is a whole number")
	}
	day := p.e.cfg.Clock.Now().In(p.e.cfg.Zone)
	if v.from != nil {
		x, err := p.value(v.from)
		if err != nil {
			return nil, err
		}
		if day, err = time.Parse(time.DateOnly, joined(x, "")); err != nil {
			return nil, fmt.Errorf("from is no date: %w", err)
		}
	}
	return day.AddDate(0, 0, days).Format(time.DateOnly), nil
}

// fitTo leaves out of an answer what its closed schema does not have, and nulls
// that it does not allow: rows may know more than they show.
func fitTo(v any, t *schema.Type, depth int) any {
	if t == nil || depth > 64 {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		if t.Kind != schema.Object || t.Open || len(t.Fields) == 0 {
			return v
		}
		out := make(map[string]any, len(v))
		for k, f := range t.Fields {
			x, ok := v[k]
			if !ok || x == nil && !f.Type.Nullable {
				continue
			}
			out[k] = fitTo(x, f.Type, depth+1)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = fitTo(x, t.Items, depth+1)
		}
		return out
	}
	return v
}

// seedRows makes the rows as they are at the emulator's start.
func (e *Emulator) seedRows(m *memory) error {
	for _, c := range e.state.collections {
		col := m.collection(c.name)
		for _, v := range c.rows {
			if err := e.seedRow(col, c.key, v, e.vars(nil)); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		if c.citizens {
			if err := e.seedCitizens(col, c.key); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		for _, g := range c.generate {
			if err := e.generate(col, c.key, g); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// seedCitizens makes a row of every citizen, with the fields of citizens.Person.
func (e *Emulator) seedCitizens(col *collection, key string) error {
	register := citizens.New(e.cfg.Seed)
	if e.cfg.Citizens != nil {
		register = e.cfg.Citizens()
	}
	b, err := json.Marshal(register.All())
	if err != nil {
		return fmt.Errorf("writing the citizens as rows: %w", err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(b, &rows); err != nil {
		return fmt.Errorf("reading the citizens as rows: %w", err)
	}
	for _, row := range rows {
		id := joined(row[key], "")
		if id == "" {
			return fmt.Errorf("a citizen has no %s", key)
		}
		col.put(id, row)
	}
	return nil
}

func (e *Emulator) seedRow(col *collection, key string, v *value, vars map[string]any) error {
	x, err := e.play(vars).value(v)
	if err != nil {
		return err
	}
	row, ok := x.(map[string]any)
	if !ok {
		return fmt.Errorf("a row is a map")
	}
	id := joined(row[key], "")
	if id == "" {
		return fmt.Errorf("a row has no %s", key)
	}
	col.put(id, row)
	return nil
}

// generate makes the product of the dimensions, days and times; Saturdays and
// Sundays are left out.
func (e *Emulator) generate(col *collection, key string, g generator) error {
	combos := []map[string]any{{}}
	for _, d := range g.dims {
		var next []map[string]any
		for _, c := range combos {
			for _, v := range d.values {
				m := maps.Clone(c)
				m[d.name] = v
				next = append(next, m)
			}
		}
		combos = next
		if len(combos) > 100_000 {
			return fmt.Errorf("a generator makes at most 100,000 rows")
		}
	}
	today := e.cfg.Clock.Now().In(e.cfg.Zone)
	times := g.times
	if len(times) == 0 {
		times = []string{"09:00"}
	}
	if g.days == 0 {
		for _, c := range combos {
			vars := e.vars(nil)
			maps.Copy(vars, c)
			if err := e.seedRow(col, key, g.row, vars); err != nil {
				return err
			}
		}
		return nil
	}
	for n := range g.days {
		day := today.AddDate(0, 0, n+1)
		if wd := day.Weekday(); wd == time.Saturday || wd == time.Sunday {
			continue
		}
		for _, c := range combos {
			for _, t := range times {
				start, err := time.ParseInLocation("2006-01-02 15:04", day.Format(time.DateOnly)+" "+t, e.cfg.Zone)
				if err != nil {
					return fmt.Errorf("%q is no time of day: %w", t, err)
				}
				vars := e.vars(nil)
				maps.Copy(vars, c)
				vars["date"], vars["time"] = day.Format(time.DateOnly), t
				vars["starts_at"] = start.Format(time.RFC3339)
				vars["ends_at"] = start.Add(time.Duration(g.minutes) * time.Minute).Format(time.RFC3339)
				if err := e.seedRow(col, key, g.row, vars); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
