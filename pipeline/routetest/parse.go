package routetest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/step"
)

// Word is one word of the test language, for the reference.
type Word struct {
	Where string // "file", "defaults", "test", "given", "then"
	Name  string
	About string
}

// Words returns the test language's table.
func Words() []Word { return slices.Clone(words[:]) }

var words = [...]Word{
	{"file", "defaults", "`caller req given at seed from` that every test begins with"},
	{"file", "tests", "the list of tests"},
	{"test", "it", "the sentence that the test proves; no two alike in a file"},
	{"test", "caller", "who asks; merged by key over the default; `none` is nobody"},
	{"test", "req", "the request; merged by key over the default; null takes a key away"},
	{"test", "given", "what operations answer and events arrive; merged by name, maps by key"},
	{"test", "from", "the trigger: one of the route's `http event cron every route`; the first of them by default"},
	{"test", "at", "the instant of the request, in the city's zone: \"2026-03-29T01:30\""},
	{"test", "seed", "makes `random()`, `uuid()` and the jitter of retries repeat"},
	{"test", "send", "the same request N times: once all together and, in a second run, one after the other"},
	{"test", "cancel", "a person cancels this long after the request: `10m`"},
	{"test", "replay", "a person replays what failed or parked: `on`, `whole` or `from PATH`"},
	{"test", "crash", "`around each record`: again with a crash before and after each commit of the journal"},
	{"test", "then", "what must hold"},
	{"test", "note", "a remark"},
	{"given", "result", "the answer, where latency or lost stands beside it"},
	{"given", "fault", "a fault word, where latency stands beside it"},
	{"given", "latency", "virtual time before the answer"},
	{"given", "lost", "true: carried out, but the answer never arrives"},
	{"given", "after", "an event arrives this long after the wait began"},
	{"given", "event", "the event's data"},
	{"then", "reply", "`status` and keys of the body"},
	{"then", "called", "attempts by operation, publications by event; {} is none"},
	{"then", "effects", "effects that happened, by operation, event or started route.NAME; {} is none"},
	{"then", "emitted", "data by event (a list: exactly these, in order; a number: how many), or the list of events; {} is none"},
	{"then", "undone", "the list of undo operations and events, in order"},
	{"then", "ended", "done, cancelled, failed, parked, waiting, or the name of an `end`"},
	{"then", "result", "what the owner sees at run.url"},
	{"then", "runs", "how many runs there were"},
}

func wordsOf(where string) []string {
	var ns []string
	for _, w := range words {
		if w.Where == where {
			ns = append(ns, w.Name)
		}
	}
	return ns
}

// File is one test file, checked against its route.
type File struct {
	Path  string
	Route *language.Route
	Cases []*Case
}

// Case is one test.
type Case struct {
	It   string
	Pos  yamldoc.Pos
	Seed uint64

	trigger language.Trigger
	caller  *identity.Caller
	req     any
	given   map[string]*script
	at      time.Time
	send    int
	cancel  *language.Span
	replay  *replay
	crash   bool
	then    *expect
}

// replay is a person's act after the run has come to rest.
type replay struct {
	how  string // "on", "whole", "from"
	path string
	pos  yamldoc.Pos
}

// load reads and checks the test files below paths.
func load(fsys fs.FS, city *language.City, paths []string) ([]*File, []yamldoc.Problem) {
	if len(paths) == 0 {
		paths = []string{"routes"}
	}
	var files []*File
	var ps []yamldoc.Problem
	seen := map[string]bool{}
	for _, p := range paths {
		names, err := testFiles(fsys, p)
		if err != nil {
			if p == "routes" && errors.Is(err, fs.ErrNotExist) {
				continue // a city without routes has no tests either
			}
			ps = append(ps, yamldoc.Problem{Pos: yamldoc.Pos{File: p, Line: 1, Column: 1}, Rule: "file",
				Message: fmt.Sprintf("reading tests: %v", err)})
			continue
		}
		for _, n := range names {
			if seen[n] {
				continue
			}
			seen[n] = true
			f, problems := readFile(fsys, city, n)
			ps = append(ps, problems...)
			if f != nil {
				files = append(files, f)
			}
		}
	}
	slices.SortFunc(files, func(a, b *File) int { return strings.Compare(a.Path, b.Path) })
	return files, yamldoc.Sort(ps)
}

// testFiles lists the test files at or below p; a route's file stands for its tests.
func testFiles(fsys fs.FS, p string) ([]string, error) {
	info, err := fs.Stat(fsys, p)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if !strings.HasSuffix(p, Suffix) && strings.HasSuffix(p, ".yaml") {
			t := strings.TrimSuffix(p, ".yaml") + Suffix
			if _, err := fs.Stat(fsys, t); err != nil {
				return nil, nil //nolint:nilerr // a route without tests
			}
			return []string{t}, nil
		}
		return []string{p}, nil
	}
	var names []string
	err = fs.WalkDir(fsys, p, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(name, Suffix) {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// checker checks one file; problems gather in it.
type checker struct {
	city     *language.City
	route    *language.Route
	facts    *facts
	problems []yamldoc.Problem
}

func (c *checker) add(n *yamldoc.Node, rule, format string, args ...any) {
	c.addAt(n.Pos, rule, format, args...)
}

func (c *checker) addAt(p yamldoc.Pos, rule, format string, args ...any) {
	c.problems = append(c.problems, yamldoc.Problem{Pos: p, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

func readFile(fsys fs.FS, city *language.City, name string) (*File, []yamldoc.Problem) {
	first := yamldoc.Pos{File: name, Line: 1, Column: 1}
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, []yamldoc.Problem{{Pos: first, Rule: "file", Message: fmt.Sprintf("reading the test: %v", err)}}
	}
	doc, ps := yamldoc.Parse(name, b)
	if doc == nil {
		return nil, ps
	}
	beside := strings.TrimSuffix(name, Suffix) + ".yaml"
	route := routeOf(city, beside)
	if route == nil {
		if _, err := fs.Stat(fsys, beside); err != nil {
			ps = append(ps, yamldoc.Problem{Pos: first, Rule: "file",
				Message: fmt.Sprintf("there is no route %s beside this test: a test stands beside its route and has its name", path.Base(beside))})
		}
		return nil, ps // a route that does not compile says so itself
	}
	c := &checker{city: city, route: route, facts: factsOf(city, route), problems: ps}
	return &File{Path: name, Route: route, Cases: c.file(doc)}, c.problems
}

func routeOf(city *language.City, file string) *language.Route {
	for _, r := range city.Routes {
		if path.Clean(r.File) == path.Clean(file) {
			return r
		}
	}
	return nil
}

func (c *checker) file(doc *yamldoc.Node) []*Case {
	if doc.Kind != yamldoc.Map {
		// YAML places an empty document behind the end of its file.
		first := yamldoc.Pos{File: doc.File, Line: 1, Column: 1}
		c.addAt(first, "syntax", "a test file is a map with `defaults` and `tests`, not %s", doc.What())
		return nil
	}
	c.problems = append(c.problems, doc.Unknown(wordsOf("file")...)...)
	def := doc.Get("defaults")
	if !c.isMap(def, "defaults") {
		def = nil
	}
	c.problems = append(c.problems, def.Unknown("caller", "req", "given", "at", "seed", "from")...)
	list := doc.Get("tests")
	if list.IsNull() || list.Kind != yamldoc.List || len(list.Items) == 0 {
		c.add(orNode(list, doc), "syntax", "`tests` must be a list of tests, each beginning with `- it: what it proves`")
		return nil
	}
	if g := def.Get("given"); c.isMap(g, "given") {
		c.names(g)
	}
	its := map[string]int{}
	var cases []*Case
	for _, n := range list.Items {
		if n.Kind != yamldoc.Map {
			c.add(n, "syntax", "a test is a map that begins with `it`, not %s", n.What())
			continue
		}
		k := c.test(n, def)
		if line, twice := its[k.It]; twice && k.It != "" {
			c.add(n.Get("it"), "name", "another test of this file, on line %d, has the same `it`", line)
		}
		its[k.It] = n.Line
		cases = append(cases, k)
	}
	return cases
}

// isMap says whether n is a map that can be read, and complains if it is something else.
func (c *checker) isMap(n *yamldoc.Node, word string) bool {
	if n.IsNull() {
		return false
	}
	if n.Kind != yamldoc.Map {
		c.add(n, "type", "`%s` must be a map, not %s", word, n.What())
		return false
	}
	return true
}

func orNode(n, other *yamldoc.Node) *yamldoc.Node {
	if n != nil {
		return n
	}
	return other
}

func (c *checker) test(n, def *yamldoc.Node) *Case {
	k := &Case{Pos: n.Pos, send: 1}
	c.problems = append(c.problems, n.Unknown(wordsOf("test")...)...)
	if it := n.Get("it"); it.IsNull() || it.Kind != yamldoc.Scalar {
		c.add(orNode(it, n), "syntax", "a test begins with `it: what it proves`")
	} else {
		k.It = it.Text
	}
	or := func(word string) *yamldoc.Node {
		if x := n.Get(word); x != nil {
			return x
		}
		return def.Get(word)
	}
	k.then = c.then(n)
	k.trigger = c.trigger(or("from"))
	k.caller = c.caller(def.Get("caller"), n.Get("caller"))
	k.at = c.instant(or("at"))
	k.req = c.request(k, n, def)
	k.given = c.given(def.Get("given"), n.Get("given"))
	if s := or("seed"); s != nil {
		v, _ := s.Value(yamldoc.WantInt)
		if i, ok := v.(int); ok && i > 0 && s.Kind == yamldoc.Scalar {
			k.Seed = uint64(i)
		} else {
			c.add(s, "type", "`seed` must be a whole number above 0")
		}
	}
	c.acts(k, n)
	return k
}

// acts reads what is done with the request beside sending it.
func (c *checker) acts(k *Case, n *yamldoc.Node) {
	if s := n.Get("send"); s != nil {
		v, _ := s.Value(yamldoc.WantInt)
		if i, ok := v.(int); ok && i >= 1 && i <= 20 {
			k.send = i
		} else {
			c.add(s, "type", "`send` must be a whole number from 1 to 20")
		}
	}
	if s := n.Get("cancel"); s != nil {
		if span, ok := c.span(s, "cancel"); ok {
			k.cancel = &span
		}
	}
	if s := n.Get("crash"); s != nil {
		if s.Text != crashWord {
			c.add(s, "syntax", "`crash` must be `%s`", crashWord)
		}
		k.crash = true
	}
	r := n.Get("replay")
	if r == nil {
		return
	}
	how, p, _ := strings.Cut(r.Text, " ")
	k.replay = &replay{how: how, path: strings.TrimSpace(p), pos: r.Pos}
	switch {
	case r.Kind == yamldoc.Scalar && (r.Text == "on" || r.Text == "whole"):
	case r.Kind == yamldoc.Scalar && how == "from" && k.replay.path != "":
		if !c.facts.paths[step.Plain(k.replay.path)] {
			c.addAt(r.At(strings.Index(r.Text, p)), "name", "the route has no step %q%s", k.replay.path, suggestion(k.replay.path, sortedKeys(c.facts.paths)))
		}
	default:
		c.add(r, "syntax", "`replay` must be `on`, `whole` or `from PATH`")
	}
}

const crashWord = "around each record"

func (c *checker) trigger(n *yamldoc.Node) language.Trigger {
	first := language.Trigger{Kind: language.Called}
	if len(c.route.From) > 0 {
		first = c.route.From[0]
	}
	if n == nil {
		return first
	}
	var kinds []string
	for _, t := range c.route.From {
		if string(t.Kind) == n.Text || t.Kind == language.Event && t.Type == n.Text {
			return t
		}
		kinds = append(kinds, string(t.Kind))
	}
	if n.Text == string(language.Called) {
		return language.Trigger{Kind: language.Called}
	}
	c.add(n, "name", "the route has no trigger %q%s", n.Text, suggestion(n.Text, kinds))
	return first
}

// callerWords are a caller's fields with what a test may say of them.
type callerWords struct {
	Kind         string   `yaml:"kind"`
	Subject      string   `yaml:"subject"`
	Assurance    int      `yaml:"assurance"`
	TaxCode      string   `yaml:"tax_code"`
	Organisation string   `yaml:"organisation"`
	Office       string   `yaml:"office"`
	Roles        []string `yaml:"roles"`
	ActingFor    string   `yaml:"acting_for"`
	Mandate      string   `yaml:"mandate"`
	Channel      string   `yaml:"channel"`
	Language     string   `yaml:"language"`
}

var callerKinds = [...]string{"citizen", "operator", "desk", "partner", "module", "timer", "event"}

func (c *checker) caller(def, own *yamldoc.Node) *identity.Caller {
	n := merge(def, own)
	if n.IsNull() || n.Kind == yamldoc.Scalar && n.Text == "none" {
		return nil
	}
	var w callerWords
	c.problems = append(c.problems, n.Decode(&w)...)
	if n.Kind != yamldoc.Map {
		return nil
	}
	if w.Kind == "" {
		w.Kind = "citizen"
	} else if !slices.Contains(callerKinds[:], w.Kind) {
		c.add(n.Get("kind"), "enum", "there is no caller of kind %q%s", w.Kind, suggestion(w.Kind, callerKinds[:]))
	}
	if w.Assurance < 0 || w.Assurance > 3 {
		c.add(n.Get("assurance"), "enum", "`assurance` is 0, 1, 2 or 3")
	}
	if w.Language != "" && !slices.Contains([]string{"it", "en", "de", "fr"}, w.Language) {
		c.add(n.Get("language"), "enum", "`language` is it, en, de or fr")
	}
	if w.Subject == "" {
		// Who signed in always has a subject: without one the edge answers 401.
		w.Subject = w.TaxCode
		if w.Subject == "" {
			w.Subject = "test-" + w.Kind
		}
	}
	return &identity.Caller{
		Kind: w.Kind, Subject: w.Subject, Assurance: w.Assurance, TaxCode: w.TaxCode, Organisation: w.Organisation,
		Office: w.Office, Roles: w.Roles, ActingFor: w.ActingFor, Mandate: w.Mandate, Channel: w.Channel, Language: w.Language,
	}
}

var instantForms = [...]string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// instant reads the clock's start. The default is a Monday morning in March, far
// from every change of the clocks and every holiday.
func (c *checker) instant(n *yamldoc.Node) time.Time {
	zone := c.route.Zone
	if zone == nil {
		zone = c.city.Zone
	}
	if zone == nil {
		zone = time.UTC
	}
	def := time.Date(2026, 3, 2, 9, 0, 0, 0, zone)
	if n == nil {
		return def
	}
	if n.Kind == yamldoc.Scalar {
		for _, f := range instantForms {
			if t, err := time.ParseInLocation(f, n.Text, zone); err == nil {
				return t.In(zone)
			}
		}
	}
	c.add(n, "type", "`at` must be an instant such as \"2026-03-29T01:30\" (in the city's zone) or \"2026-03-29T00:30:00Z\"")
	return def
}

// request reads the request by the route's schema. One that breaks it is a
// mistake of the test, unless the test is about just that (`reply: {status: 400}`).
func (c *checker) request(k *Case, n, def *yamldoc.Node) any {
	own := n.Get("req")
	doc := merge(def.Get("req"), own)
	timer := k.trigger.Kind == language.Cron || k.trigger.Kind == language.Every
	if doc == nil && timer {
		return map[string]any{"at": k.at.UTC().Format(time.RFC3339)}
	}
	if c.route.Req == nil {
		if doc != nil {
			c.add(orNode(own, doc), "name", "the route takes no request: it has no `req`")
		}
		return nil
	}
	typ := c.route.Req.Type()
	r := &reader{}
	v := r.read(doc, typ)
	c.problems = append(c.problems, r.problems...)
	if k.then.wantsStatus(400) {
		return v
	}
	if doc == nil {
		if v = map[string]any{}; len(c.route.Req.Validate(v)) > 0 {
			c.add(n, "type", "the test has no `req`, and the route needs one that fits schemas/%s.json", c.route.Req.Name)
		}
		return v
	}
	c.fits(doc, v, c.route.Req, "the request")
	return v
}

// span reads a duration; d and w are calendar days (semantics 5.5).
func (c *checker) span(n *yamldoc.Node, word string) (language.Span, bool) {
	s, err := language.ParseSpan(n.Text)
	if n.Kind != yamldoc.Scalar || err != nil {
		c.add(n, "type", "`%s` must be a duration such as 500ms, 2s, 4m, 72h or 3d", word)
		return language.Span{}, false
	}
	return s, true
}
