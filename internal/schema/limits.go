package schema

import "sync"

// Limits is what a schema asks of a single value beyond its kind and its words.
// It is held against literals, which a route or a test writes down for good;
// what expressions give is judged when it is there.
type Limits struct {
	keywords map[string]any
	once     sync.Once
	rule     *Schema
}

var limiting = [...]string{"pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}

func limitsOf(m map[string]any, k Kind) *Limits {
	if k != String && k != Int && k != Number {
		return nil
	}
	kept := map[string]any{}
	for _, w := range limiting {
		if v, ok := m[w]; ok {
			kept[w] = v
		}
	}
	if f, ok := m["format"].(string); ok && f != "cents" {
		kept["format"] = f
	}
	if len(kept) == 0 {
		return nil
	}
	return &Limits{keywords: kept}
}

// against says what is wrong with v; "" if nothing.
func (l *Limits) against(v any) string {
	l.once.Do(func() {
		// A document whose limits do not compile is reported with its file.
		l.rule, _ = Compile("limits", l.keywords)
	})
	if bad := l.rule.Validate(v); len(bad) > 0 {
		return bad[0].Message
	}
	return ""
}
