package language

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // calendar days must be right where the machine has no zone database

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/expression"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Options of Load, Reload and Recompile.
type Options struct {
	Connectors map[string]connectors.Description // by name
	Zone       *time.Location                    // the city's; nil is Europe/Rome

	// What a route has that says no `within` and no `patience`; zero is 10 s and
	// 24 h (semantics 3, 4.1). They are the same for every load of a process.
	Within, Patience time.Duration

	// Brokers are the names of other people's brokers that `from: queue` may use.
	Brokers []string

	// Yields says of a route file that, where it and another have one name or one
	// path, it is the wrong one: what the binary ships yields to the city's own.
	// nil: the later by name is the wrong one.
	Yields func(file string) bool

	// For Recompile only. City lends what is read live (cfg) and what a started
	// route takes; nil checks neither. Version fetches the source of a called
	// route by its digest; nil refuses a version that calls routes.
	City    *City
	Version func(digest string) (Source, error)
}

var routeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Places of the city's content below its folder.
const (
	routesDir    = "routes"
	schemasDir   = "schemas"
	dimeFile     = "config/dime.yaml"
	cfgFile      = "config/cfg.schema.json"
	purposesFile = "config/purposes.yaml"
	messagesFile = "config/messages.yaml"
)

// Load reads and checks a whole city. All problems of all files come back at
// once, sorted; the City holds the routes that are sound, so that lint can go on,
// while serve refuses a city with any problem that is not a warning.
func Load(fsys fs.FS, o Options) (*City, []yamldoc.Problem) { return Reload(nil, fsys, o) }

// Reload is Load that checks again only the files that changed since prev and
// the routes that refer to what changed. prev itself is left as it is; nil loads
// everything.
func Reload(prev *City, fsys fs.FS, o Options) (*City, []yamldoc.Problem) {
	l := newLoader(o)
	l.prev = prev
	l.content(fsys)
	l.readRoutes()
	l.reuse()
	for _, file := range sortedKeys(l.byFile) {
		h := l.byFile[file]
		if h.state == fresh && l.heads[h.name] == h {
			l.compiled(h.name)
		} else if h.state == fresh {
			l.check(h) // a second route of the same name: its own problems are told too
		}
	}
	city := l.city
	for name, h := range l.heads {
		if h.sound {
			city.Routes[name] = h.route
		}
		l.problems = append(l.problems, h.found...)
	}
	for _, h := range l.byFile {
		if l.heads[h.name] != h {
			l.problems = append(l.problems, h.found...)
		}
	}
	l.sharedPaths()
	return city, yamldoc.Sort(l.problems)
}

// Refused says whether any of the problems is more than a warning.
func Refused(ps []yamldoc.Problem) bool {
	return slices.ContainsFunc(ps, func(p yamldoc.Problem) bool { return !p.Warning })
}

// loader is one load: what every route of it shares.
type loader struct {
	city       *City
	prev       *City
	zone       *time.Location
	yields     func(string) bool
	brokers    []string
	within     time.Duration
	patience   time.Duration
	connectors map[string]connectors.Description
	ops        map[string]*connectors.Operation // by full name
	opNames    []string
	schemas    *schema.Set
	given      map[string]*schema.Schema // Recompile: schemas of the kept source
	events     map[string]*EventType
	purposes   map[string]*Purpose
	messages   map[string]map[string]string
	cfgType    *schema.Type
	files      map[string][]byte
	fsys       fs.FS // nil in Recompile
	byFile     map[string]*head
	heads      map[string]*head // by route name
	stack      []string         // routes being compiled, for circles
	lenient    bool             // Recompile: what is only looked up live is not judged
	problems   []yamldoc.Problem
}

// head is a route file before its steps are compiled: enough for what refers to it.
type head struct {
	file     string
	name     string
	node     *yamldoc.Node
	text     string
	req      *schema.Schema
	badReq   bool // `req` names no schema: what reads it is not judged
	timed    bool // a timer starts it: req is {at}
	problems []yamldoc.Problem
	after    *expression.Scope // what the steps see: `allow` held

	state state
	route *Route
	sound bool
	found []yamldoc.Problem
}

type state uint8

const (
	fresh state = iota
	inProgress
	done
)

// memo is what Reload needs of a load.
type memo struct {
	byFile map[string]*head // sound routes only
	clean  bool             // the schemas had no problem
}

func newLoader(o Options) *loader {
	zone := o.Zone
	if zone == nil {
		zone, _ = time.LoadLocation("Europe/Rome") // embedded by time/tzdata
	}
	l := &loader{
		zone: zone, yields: o.Yields, brokers: o.Brokers, within: cmp.Or(o.Within, 10*time.Second), patience: cmp.Or(o.Patience, 24*time.Hour), connectors: o.Connectors, ops: map[string]*connectors.Operation{},
		files: map[string][]byte{}, byFile: map[string]*head{}, heads: map[string]*head{},
		events: map[string]*EventType{}, purposes: map[string]*Purpose{}, messages: map[string]map[string]string{},
	}
	for name, d := range o.Connectors {
		for _, op := range d.Operations {
			l.ops[name+"."+op.Name] = op
		}
	}
	l.opNames = sortedKeys(l.ops)
	if l.yields == nil {
		l.yields = func(string) bool { return false }
	}
	l.city = &City{
		Routes: map[string]*Route{}, Connectors: o.Connectors, Zone: zone, Files: map[string]string{},
		memo: &memo{byFile: map[string]*head{}},
	}
	return l
}

func (l *loader) operationNames() []string { return l.opNames }

func (l *loader) schemaNamed(name string) *schema.Schema {
	if l.given != nil {
		return l.given[name]
	}
	if l.schemas == nil {
		return nil
	}
	return l.schemas.Get(name)
}

func (l *loader) schemaNames() []string {
	if l.given != nil {
		return sortedKeys(l.given)
	}
	if l.schemas == nil {
		return nil
	}
	return l.schemas.Names()
}

func sortedKeys[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

// read takes a file in, with its hash; absent files are nil.
func (l *loader) read(fsys fs.FS, file string) []byte {
	b, err := fs.ReadFile(fsys, file)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.problems = append(l.problems, at(file, "file", "reading the file: "+err.Error()))
		}
		return nil
	}
	sum := sha256.Sum256(b)
	l.city.Files[file] = hex.EncodeToString(sum[:])
	l.files[file] = b
	return b
}

// unchanged says whether a file is what it was in prev, absence included.
func (l *loader) unchanged(file string) bool {
	return l.prev != nil && l.prev.Files[file] == l.city.Files[file]
}

func at(file, rule, message string) yamldoc.Problem {
	return yamldoc.Problem{Pos: yamldoc.Pos{File: file, Line: 1, Column: 1}, Rule: rule, Message: message}
}

// walk reads every file below dir whose name pick accepts.
func (l *loader) walk(fsys fs.FS, dir string, pick func(file string) bool) []string {
	var files []string
	err := fs.WalkDir(fsys, dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && pick(file) {
			l.read(fsys, file)
			files = append(files, file)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.problems = append(l.problems, at(dir, "file", "reading the folder: "+err.Error()))
	}
	return files
}

// content reads all files and checks those that are not routes.
func (l *loader) content(fsys fs.FS) {
	l.fsys = fsys
	for _, f := range []string{dimeFile, cfgFile, purposesFile, messagesFile} {
		l.read(fsys, f)
	}
	same := l.prev != nil
	schemas := l.walk(fsys, schemasDir, func(f string) bool { return strings.HasSuffix(f, ".json") })
	for _, f := range schemas {
		same = same && l.unchanged(f)
	}
	if same {
		n := 0
		for f := range l.prev.Files {
			if strings.HasPrefix(f, schemasDir+"/") {
				n++
			}
		}
		same = n == len(schemas) && l.prev.memo.clean
	}
	if same {
		l.schemas, l.events = l.prev.Schemas, l.prev.Events
	} else {
		set, ps := schema.Load(fsys, schemasDir)
		l.problems = append(l.problems, ps...)
		l.schemas = set
		for _, name := range set.Names() {
			if ev, ok := strings.CutPrefix(name, "events/"); ok {
				l.events[ev] = &EventType{Name: ev, Schema: set.Get(name)}
			}
		}
		l.city.memo.clean = len(ps) == 0
	}
	if same {
		l.city.memo.clean = true
	}
	l.readCfg()
	l.readPurposes()
	l.readMessages()
	l.city.Schemas, l.city.Events = l.schemas, l.events
	l.city.Purposes, l.city.Messages, l.city.CfgType = l.purposes, l.messages, l.cfgType

	l.walk(fsys, routesDir, func(f string) bool {
		if strings.HasSuffix(f, ".yml") {
			l.problems = append(l.problems, at(f, "file", "route files end in .yaml: rename it"))
		}
		return strings.HasSuffix(f, ".yaml") && !strings.HasSuffix(f, ".test.yaml")
	})
}

// readRoutes parses the route files that changed and the heads of all.
func (l *loader) readRoutes() {
	for _, file := range l.ownFirst(sortedKeys(l.files), func(f string) string { return f }) {
		if !strings.HasPrefix(file, routesDir+"/") {
			continue
		}
		h := l.kept(file)
		if h == nil {
			h = l.parse(file, l.files[file])
		}
		if h == nil {
			continue
		}
		l.byFile[file] = h
		if first := l.heads[h.name]; first != nil {
			l.problems = append(l.problems, h.nameNode().Problem("route", "there is a route "+h.name+" in "+first.file+" already"))
			continue
		}
		l.heads[h.name] = h
	}
}

// ownFirst moves what yields behind the rest, so that of two it is the second.
func (l *loader) ownFirst(names []string, file func(string) string) []string {
	slices.SortStableFunc(names, func(a, b string) int {
		ya, yb := l.yields(file(a)), l.yields(file(b))
		switch {
		case ya == yb:
			return 0
		case ya:
			return 1
		}
		return -1
	})
	return names
}

func (h *head) nameNode() *yamldoc.Node {
	if v := h.node.Get("route"); v != nil {
		return v
	}
	return &yamldoc.Node{Pos: yamldoc.Pos{File: h.file, Line: 1, Column: 1}}
}

// parse reads one route file as far as others need it; nil if it has no name.
func (l *loader) parse(file string, b []byte) *head {
	n, ps := yamldoc.Parse(file, b)
	if n == nil {
		l.problems = append(l.problems, ps...)
		return nil
	}
	h := &head{file: file, node: n, text: string(b), problems: ps}
	name := n.Get("route")
	switch {
	case n.Kind != yamldoc.Map:
		l.problems = append(l.problems, n.Problem("field", "a route file is a map that begins with route: NAME"))
		return nil
	case name == nil:
		at := *n
		if len(n.Pairs) > 0 {
			at = *n.Pairs[0].Key
		}
		l.problems = append(l.problems, at.Problem("field", "`route` is missing: a route file begins with route: NAME"))
		h.name = file // nobody can refer to it, but its steps are checked all the same
	case name.Kind != yamldoc.Scalar || !routeName.MatchString(name.Text):
		l.problems = append(l.problems, name.Problem("name", "a route's name is made of small letters, digits and -, and begins with a letter"))
		h.name = file
	default:
		h.name = name.Text
	}
	if f := n.Get("req"); f != nil && f.Kind == yamldoc.Scalar {
		h.req = l.schemaNamed(f.Text)
		if h.req == nil {
			h.badReq = true
		}
		if h.req == nil && l.files[schemasDir+"/"+f.Text+".json"] == nil {
			h.problems = append(h.problems, f.Problem("schema", "there is no schema schemas/"+f.Text+".json"+schema.DidYouMean(f.Text, l.schemaNames())))
		}
	} else if f != nil {
		h.badReq = true
		h.problems = append(h.problems, f.Problem("type", "`req` names a schema below schemas/, such as certificates/residence-request"))
	} else if from := n.Get("from"); from != nil {
		h.timed = from.Get("cron") != nil || from.Get("every") != nil
		if ev := from.Get("event"); ev != nil && from.Get("http") == nil && !h.timed {
			if e := l.events[firstText(ev)]; e != nil {
				h.req = e.Schema // an event alone brings its own type
			} else {
				h.badReq = true
			}
		}
	}
	return h
}

func firstText(n *yamldoc.Node) string {
	if list := one(n); len(list) > 0 {
		return list[0].Text
	}
	return ""
}

// compiled returns the checked route of that name, compiling it if need be. It
// may have problems; sound tells. nil with a chain: the name is being compiled,
// so the routes call each other in a circle.
func (l *loader) compiled(name string) (r *Route, chain []string) {
	h := l.heads[name]
	switch h.state {
	case inProgress:
		i := slices.Index(l.stack, name)
		return nil, append(slices.Clone(l.stack[max(i, 0):]), name)
	case done:
		return h.route, nil
	}
	l.stack = append(l.stack, name)
	l.check(h)
	l.stack = l.stack[:len(l.stack)-1]
	return h.route, nil
}

// check compiles h and keeps what was found.
func (l *loader) check(h *head) {
	h.state = inProgress
	c := &compiler{l: l, h: h}
	h.route = c.compile()
	h.route.deps = c.deps
	h.found = c.problems
	h.sound = !Refused(c.problems) && !h.badReq && routeName.MatchString(h.name)
	for _, name := range h.route.Routes {
		if t := l.heads[name]; t != nil && t.state == done && !t.sound {
			h.sound = false // what it refers to is refused, and told there
		}
	}
	h.state = done
	if h.sound {
		h.route.Source, h.route.Digest = sourceOf(h)
		l.city.memo.byFile[h.file] = h
	}
	h.node = nil // the AST is all that is needed from here
}

func (l *loader) sound(name string) bool { return l.heads[name] != nil && l.heads[name].sound }
