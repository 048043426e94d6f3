package yamldoc

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// readable says whether yaml.v3 can read src at all.
func readable(src string) error {
	return decodeNode(yaml.NewDecoder(strings.NewReader(src)), new(yaml.Node))
}

// Decode reads a map into a struct by its `yaml:"name"` tags, reporting every
// unknown field ("did you mean"), missing one (`yaml:"name,required"`) and wrong
// type at its place. Understood: string, bool, int, float64, time.Duration
// (`1m30s`), *Node (as it is), any, slices, map[string]T, structs and pointers to
// them. A string takes the text as written, whatever YAML would guess.
func (n *Node) Decode(into any) []Problem {
	d := decoder{}
	d.decode(n, reflect.ValueOf(into).Elem(), "")
	return Sort(d.problems)
}

type decoder struct{ problems []Problem }

func (d *decoder) add(n *Node, rule, format string, args ...any) {
	d.problems = append(d.problems, n.Problem(rule, fmt.Sprintf(format, args...)))
}

var (
	nodeType     = reflect.TypeFor[*Node]()
	durationType = reflect.TypeFor[time.Duration]()
)

func (d *decoder) decode(n *Node, v reflect.Value, field string) {
	name := "the value"
	if field != "" {
		name = "`" + field + "`"
	}
	switch v.Type() {
	case nodeType:
		v.Set(reflect.ValueOf(n))
		return
	case durationType:
		dur, err := time.ParseDuration(n.Text)
		if n.Kind != Scalar || err != nil {
			d.add(n, "type", "%s must be a duration such as 500ms, 2s or 5m", name)
			return
		}
		v.SetInt(int64(dur))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if n.IsNull() {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), field)
	case reflect.Struct:
		d.structure(n, v, name)
	case reflect.Map:
		if n.IsNull() {
			return
		}
		if n.Kind != Map {
			d.add(n, "type", "%s must be a map, not %s", name, n.What())
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for _, p := range n.Pairs {
			e := reflect.New(v.Type().Elem()).Elem()
			d.decode(p.Value, e, p.Key.Text)
			v.SetMapIndex(reflect.ValueOf(p.Key.Text).Convert(v.Type().Key()), e)
		}
	case reflect.Slice:
		if n.IsNull() {
			return
		}
		if n.Kind != List {
			d.add(n, "type", "%s must be a list, not %s", name, n.What())
			return
		}
		for _, it := range n.Items {
			e := reflect.New(v.Type().Elem()).Elem()
			d.decode(it, e, field)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Interface:
		if x := n.any(&d.problems); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.scalar(n, v, name)
	}
}

func (d *decoder) structure(n *Node, v reflect.Value, name string) {
	if n.Kind != Map {
		if !n.IsNull() {
			d.add(n, "type", "%s must be a map, not %s", name, n.What())
			return
		}
	}
	t := v.Type()
	var known []string
	fields := map[string]int{}
	for i := range t.NumField() {
		tag, opts, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if tag == "" || tag == "-" {
			continue
		}
		known = append(known, tag)
		fields[tag] = i
		if opts == "required" && n.Get(tag).IsNull() {
			d.add(n, "field", "`%s` is missing", tag)
		}
	}
	for _, p := range n.Pairs {
		i, ok := fields[p.Key.Text]
		if !ok {
			d.problems = append(d.problems, p.Key.Problem("field", UnknownField(p.Key.Text, known)))
			continue
		}
		d.decode(p.Value, v.Field(i), p.Key.Text)
	}
}

func (d *decoder) scalar(n *Node, v reflect.Value, name string) {
	if n.Kind != Scalar {
		d.add(n, "type", "%s must be a single value, not %s", name, n.What())
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Text)
	case reflect.Bool:
		x, msg := n.Value(WantBool)
		b, ok := x.(bool)
		if !ok {
			if msg == "" {
				msg = name + " must be true or false"
			}
			d.add(n, "type", "%s", msg)
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		x, msg := n.Value(WantInt)
		i, ok := x.(int)
		if !ok {
			if msg == "" {
				msg = name + " must be a whole number"
			}
			d.add(n, "type", "%s", msg)
			return
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		x, msg := n.Value(WantNumber)
		switch f := x.(type) {
		case int:
			v.SetFloat(float64(f))
		case float64:
			v.SetFloat(f)
		default:
			if msg == "" {
				msg = name + " must be a number"
			}
			d.add(n, "type", "%s", msg)
		}
	default:
		d.add(n, "type", "%s can't be read into %s", name, v.Type())
	}
}

// Unknown reports every key of n that is not among known, rule "field".
func (n *Node) Unknown(known ...string) []Problem {
	var ps []Problem
	if n == nil || n.Kind != Map {
		return nil
	}
next:
	for _, p := range n.Pairs {
		for _, k := range known {
			if k == p.Key.Text {
				continue next
			}
		}
		ps = append(ps, p.Key.Problem("field", UnknownField(p.Key.Text, known)))
	}
	return ps
}

// UnknownField is the message for a key that is not among known.
func UnknownField(key string, known []string) string {
	if s := Suggest(key, known); s != "" {
		return fmt.Sprintf("unknown field %q; did you mean %q?", key, s)
	}
	return fmt.Sprintf("unknown field %q; known are %s", key, strings.Join(known, ", "))
}

// Marshal writes plain values as YAML with two spaces of indentation and sorted keys.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	return b.Bytes(), nil
}
