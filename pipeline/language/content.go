package language

import (
	"slices"
	"strings"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Languages that every sentence for citizens exists in.
var languages = []string{"it", "en", "de", "fr"}

// document parses one of the configuration files; nil if absent or unreadable.
func (l *loader) document(file string) *yamldoc.Node {
	b, ok := l.files[file]
	if !ok {
		return nil
	}
	n, ps := yamldoc.Parse(file, b)
	l.problems = append(l.problems, ps...)
	if n != nil && n.Kind != yamldoc.Map {
		l.problems = append(l.problems, n.Problem("type", "the file is a map, not "+n.What()))
		return nil
	}
	return n
}

// readCfg checks the section `cfg` of dime.yaml against its schema.
func (l *loader) readCfg() {
	l.cfgType = &schema.Type{Kind: schema.Object, Title: "cfg"}
	l.city.Cfg = map[string]any{}
	var s *schema.Schema
	if b, ok := l.files[cfgFile]; ok {
		var err error
		if s, err = schema.CompileBytes("cfg", b); err != nil {
			l.problems = append(l.problems, at(cfgFile, "schema", err.Error()))
			l.cfgType = anyType
			return
		}
		l.cfgType = s.Type()
	}
	n := l.document(dimeFile)
	cfg := n.Get("cfg")
	if cfg == nil {
		if s != nil && len(s.Validate(map[string]any{})) > 0 {
			pos := at(dimeFile, "required", "")
			for _, v := range s.Validate(map[string]any{}) {
				pos.Message = "section `cfg`: " + v.Message
				l.problems = append(l.problems, pos)
			}
		}
		return
	}
	if s == nil {
		l.problems = append(l.problems, n.Key("cfg").Problem("schema", cfgFile+" is missing: it says what `cfg` holds"))
		return
	}
	c := &compiler{l: l}
	v := c.value(cfg, nil, l.cfgType)
	l.problems = append(l.problems, c.problems...)
	if len(c.problems) > 0 {
		return
	}
	x, err := v.Eval(nil)
	m, ok := x.(map[string]any)
	if err != nil || !ok {
		return
	}
	for _, bad := range s.Validate(m) {
		l.problems = append(l.problems, byPointer(cfg, bad.Pointer).Problem("type", bad.Message))
	}
	l.city.Cfg = m
}

// byPointer finds the node under an RFC 6901 pointer, or the nearest around it.
func byPointer(n *yamldoc.Node, pointer string) *yamldoc.Node {
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for _, seg := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		seg = unescape.Replace(seg)
		next := n.Get(seg)
		if n.Kind == yamldoc.List {
			for i, it := range n.Items {
				if seg == itoa(i) {
					next = it
				}
			}
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// readPurposes reads NAME: {text: {it, en, de, fr}, legal_basis, keep}.
func (l *loader) readPurposes() {
	n := l.document(purposesFile)
	if n == nil {
		return
	}
	c := &compiler{l: l}
	for _, p := range n.Pairs {
		v := p.Value
		if v.Kind != yamldoc.Map {
			c.add(v, "type", "a purpose is {text: {it, en, de, fr}, legal_basis, keep}, not %s", v.What())
			continue
		}
		c.problems = append(c.problems, v.Unknown("text", "legal_basis", "keep")...)
		pu := &Purpose{Name: p.Key.Text, LegalBasis: c.text(v, "legal_basis"), Keep: c.span(v, "keep")}
		if pu.LegalBasis == "" && v.Get("legal_basis") == nil {
			c.add(p.Key, "purpose", "`legal_basis` is missing")
		}
		if t := v.Get("text"); t == nil {
			c.add(p.Key, "purpose", "`text` is missing: what citizens read, in it, en, de, fr")
		} else {
			pu.Text = c.sentences(t, t)
		}
		l.purposes[pu.Name] = pu
	}
	l.problems = append(l.problems, c.problems...)
}

// readMessages reads KEY: {it, en, de, fr}; all four are required.
func (l *loader) readMessages() {
	n := l.document(messagesFile)
	if n == nil {
		return
	}
	c := &compiler{l: l}
	for _, p := range n.Pairs {
		l.messages[p.Key.Text] = c.sentences(p.Value, p.Key)
	}
	l.problems = append(l.problems, c.problems...)
}

// sentences reads one sentence in the four languages; missing ones are reported at place.
func (c *compiler) sentences(n, place *yamldoc.Node) map[string]string {
	out := map[string]string{}
	if n.Kind != yamldoc.Map {
		c.add(n, "message", "one sentence a language is expected: {it: ..., en: ..., de: ..., fr: ...}")
		return out
	}
	c.problems = append(c.problems, n.Unknown(languages...)...)
	var missing []string
	for _, lang := range languages {
		f := n.Get(lang)
		if f == nil || strings.TrimSpace(f.Text) == "" {
			missing = append(missing, lang)
			continue
		}
		out[lang] = f.Text
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		c.add(place, "message", "the sentence is missing in %s: citizens read it in it, en, de and fr", strings.Join(missing, ", "))
	}
	return out
}
