package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// readAnswers finds the success and the declared refusals.
func (o *operation) readAnswers(d *document) error {
	rs := o.op.Get("responses")
	o.refused = map[int]map[string]any{}
	if rs.IsNull() || rs.Kind != yamldoc.Map {
		d.warn(o.op, "%s declares no responses; any 2xx without a body is taken", o.name)
		o.answer.status = 204
		return nil
	}
	var ok []int
	byStatus := map[int]*yamldoc.Node{}
	for _, p := range rs.Pairs {
		st, err := statusOf(p.Key.Text)
		if err != nil {
			if !strings.HasPrefix(p.Key.Text, "x-") && p.Key.Text != "default" {
				d.warn(p.Key, "%q is no status; the answer is ignored", p.Key.Text)
			}
			continue
		}
		byStatus[st] = p.Value
		if st < 300 {
			ok = append(ok, st)
		}
	}
	slices.Sort(ok)
	for _, st := range sortedInts(byStatus) {
		if st >= 400 {
			if s := d.refusal(byStatus[st]); s != nil {
				o.refused[st] = s
			}
		}
	}
	switch {
	case len(ok) > 0:
		o.answer.status = ok[0]
		if len(ok) > 1 {
			d.warn(rs, "%s has several successes; the result is that of %d", o.name, ok[0])
		}
		return o.success(d, byStatus[ok[0]])
	case rs.Get("default") != nil && !hasRedirect(byStatus):
		o.answer.status = 200
		return o.success(d, rs.Get("default"))
	}
	for _, st := range sortedInts(byStatus) {
		if st >= 300 && st < 400 {
			o.answer = answerShape{status: st, redirect: true}
			o.out = map[string]any{"type": "object", "additionalProperties": false, "required": []any{"status"},
				"properties": map[string]any{"status": map[string]any{"type": "integer"}, "location": map[string]any{"type": "string"}}}
			return nil
		}
	}
	d.warn(rs, "%s declares no success; any 2xx without a body is taken", o.name)
	o.answer.status = 204
	return nil
}

func hasRedirect(m map[int]*yamldoc.Node) bool {
	for st := range m {
		if st >= 300 && st < 400 {
			return true
		}
	}
	return false
}

func sortedInts(m map[int]*yamldoc.Node) []int { return slices.Sorted(maps.Keys(m)) }

func statusOf(s string) (int, error) {
	if len(s) == 3 && strings.EqualFold(s[1:], "XX") && s[0] >= '1' && s[0] <= '5' {
		return int(s[0]-'0') * 100, nil
	}
	st, err := strconv.Atoi(s)
	if err != nil || st < 100 || st > 599 {
		return 0, fmt.Errorf("no status")
	}
	return st, nil
}

func (o *operation) success(d *document, n *yamldoc.Node) error {
	n, err := d.deref(n)
	if err != nil {
		return err
	}
	content := n.Get("content")
	if content.IsNull() || content.Kind != yamldoc.Map || len(content.Pairs) == 0 || o.answer.status == 204 || o.method == "HEAD" {
		return nil
	}
	_, m, enc := media(content)
	o.answer.enc = enc
	switch enc {
	case jsonBody:
		c := d.converter(answer)
		s := c.whole(c.schema(m.Get("schema"), 1))
		if c.err != nil {
			return c.err
		}
		o.out = s.(map[string]any)
	case textBody:
		o.out = map[string]any{"type": "string"}
	case binaryBody:
		o.out = map[string]any{"type": "object", "additionalProperties": false, "required": []any{contentArg, typeArg},
			"properties": map[string]any{contentArg: map[string]any{"type": "string"}, typeArg: map[string]any{"type": "string"}}}
	default:
		return fmt.Errorf("its answer is %s, which can't be read here", strings.Join(content.Keys(), ", "))
	}
	return nil
}

// refusal is the schema of an error answer, nil if it has none or a faulty one:
// it is used to play the far side, never to judge it.
func (d *document) refusal(n *yamldoc.Node) map[string]any {
	n, err := d.deref(n)
	if err != nil {
		return nil
	}
	_, m, enc := media(n.Get("content"))
	if enc != jsonBody {
		return nil
	}
	c := d.converter(answer)
	s := c.whole(c.schema(m.Get("schema"), 1))
	if c.err != nil {
		return nil
	}
	return s.(map[string]any)
}
