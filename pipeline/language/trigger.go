package language

import (
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

var (
	triggerWords  = []string{"http", "headers", "event", "cron", "every", "queue", "route"}
	laterTriggers = []string{"file", "webhook"}
	httpMethods   = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	maxEvery      = 366 * 24 * time.Hour
	// Paths that the bus itself answers.
	reservedPaths = []string{"/v1/runs", "/v1/partners", "/v1/kb"}
)

// triggers reads `from`: facts about the route, several at once are allowed.
func (c *compiler) triggers(n *yamldoc.Node) {
	from := n.Get("from")
	if from == nil {
		c.add(n.Key("route"), "field", "`from` is missing: say what begins a run, for instance {http: POST /v1/x} or {route: any}")
		return
	}
	if from.Kind != yamldoc.Map || len(from.Pairs) == 0 {
		c.add(from, "type", "`from` is a map such as {http: POST /v1/x}, {event: a.b}, {cron: \"0 7 * * *\"}, {every: 5m} or {route: any}")
		return
	}
	headers := c.headers(from)
	for _, p := range from.Pairs {
		for _, v := range one(p.Value) {
			t := Trigger{Pos: v.Pos}
			switch k := p.Key.Text; k {
			case "headers":
				continue
			case "http":
				c.http(v, &t, headers)
			case "event":
				t.Kind, t.Type = Event, v.Text
				if c.event(v, v.Text) == nil {
					continue
				}
			case "cron":
				t.Kind, t.Cron = Cron, v.Text
				if _, err := clock.ParseCron(v.Text); err != nil {
					c.add(v, "type", "`cron`: %v", err)
				}
			case "every":
				t.Kind = Every
				d, err := ParseElapsed(v.Text)
				if err == nil && d < time.Second {
					c.add(v, "type", "`every`: at least 1s")
				} else if err == nil && d > maxEvery {
					c.add(v, "type", "`every`: at most a year (8784h); write a date as `cron`")
				} else if err != nil {
					c.add(v, "type", "`every`: %s", err)
				}
				t.Every = d
			case "queue":
				c.queue(v, &t)
			case "route":
				t.Kind = Called
				if v.Text != "any" {
					c.add(v, "type", "`route` under `from` can only be any: other routes may call this one")
				}
			default:
				switch {
				case contains(laterTriggers, k):
					c.add(p.Key, "later", "the trigger `%s` is not yet available", k)
				default:
					c.add(p.Key, "field", "unknown trigger %q%s", k, orKnown(k, triggerWords))
				}
				continue
			}
			c.r.From = append(c.r.From, t)
		}
	}
	if headers != nil && from.Get("http") == nil {
		c.add(from.Key("headers"), "field", "`headers` belongs to `http`, which is not here")
	}
	c.r.CalledOnly = len(c.r.From) == 1 && c.r.From[0].Kind == Called
	c.fits(from)
}

func one(n *yamldoc.Node) []*yamldoc.Node {
	if n.Kind == yamldoc.List {
		return n.Items
	}
	return []*yamldoc.Node{n}
}

func contains(words []string, w string) bool {
	for _, x := range words {
		if x == w {
			return true
		}
	}
	return false
}

func orKnown(word string, known []string) string {
	if s := schema.DidYouMean(word, known); s != "" {
		return s
	}
	return "; known are " + strings.Join(known, ", ")
}

func (c *compiler) headers(from *yamldoc.Node) []string {
	n := from.Get("headers")
	if n == nil {
		return nil
	}
	var names []string
	for _, h := range one(n) {
		name := strings.ReplaceAll(strings.ToLower(h.Text), "-", "_")
		if h.Kind != yamldoc.Scalar || !identifier.MatchString(name) {
			c.add(h, "type", "`headers` is a list of header names such as [If-Match]")
			continue
		}
		names = append(names, name)
		c.param(h, "header "+h.Text, name)
	}
	return names
}

// http reads "POST /v1/x/{id}".
func (c *compiler) http(n *yamldoc.Node, t *Trigger, headers []string) {
	t.Kind, t.Headers = HTTP, headers
	method, path, ok := strings.Cut(n.Text, " ")
	if n.Kind != yamldoc.Scalar || !ok || path != strings.TrimSpace(path) {
		c.add(n, "type", "`http` is a method and a path such as POST /v1/x/{id}")
		return
	}
	t.Method, t.Path = method, path
	if !contains(httpMethods, method) {
		c.add(n, "http", "unknown method %q%s", method, orKnown(method, httpMethods))
	}
	at := *n
	at.Pos = n.At(len(method) + 1)
	if !strings.HasPrefix(path, "/v1/") {
		c.add(&at, "http", "the path %q must begin with /v1/", path)
		return
	}
	for _, r := range reservedPaths {
		if path == r || strings.HasPrefix(path, r+"/") {
			c.add(&at, "http", "%s belongs to the bus itself: choose another path", r)
		}
	}
	seen := map[string]bool{}
	for _, seg := range strings.Split(path[1:], "/") {
		name, isParam := strings.CutPrefix(seg, "{")
		if isParam {
			var closed bool
			name, closed = strings.CutSuffix(name, "}")
			if !closed || !identifier.MatchString(name) || seen[name] {
				c.add(&at, "http", "%q is not a parameter: write each as {name}, once", seg)
				continue
			}
			seen[name] = true
			c.param(&at, "path parameter "+name, name)
			continue
		}
		if seg == "" || strings.ContainsAny(seg, "{}?#%*\\ ") || seg == "." || seg == ".." {
			c.add(&at, "http", "the path %q is not plain: write segments of letters, digits and - between single slashes, and {name} for parameters", path)
			return
		}
	}
}

// param checks that what HTTP puts into req is declared there.
func (c *compiler) param(n *yamldoc.Node, what, name string) {
	t := c.r.Req.Type()
	switch {
	case t == nil && c.h.badReq:
	case t == nil:
		c.add(n, "http", "the %s lands in req, so declare it: `req` is missing", what)
	case t.Kind == schema.Object && t.Fields[name] == nil && !t.Open:
		c.add(n, "http", "the %s lands in req, but %s has no field %q%s", what, c.r.Req.Name, name, schema.DidYouMean(name, t.Order))
	case t.Kind == schema.Object && t.Fields[name] == nil:
		c.add(n, "http", "the %s lands in req, but %s does not declare %q", what, c.r.Req.Name, name)
	}
}

// fits checks that what every trigger brings fits the schema of req (semantics 2.2).
func (c *compiler) fits(from *yamldoc.Node) {
	if c.r.Req == nil {
		return
	}
	for i := range c.r.From {
		t := &c.r.From[i]
		var brings *schema.Type
		switch t.Kind {
		case Event:
			if e := c.l.events[t.Type]; e != nil {
				brings = e.Schema.Type()
			}
		case Cron, Every:
			brings = scheduled()
		}
		if brings == nil {
			continue
		}
		for _, m := range schema.Assignable(brings, c.r.Req.Type()) {
			c.problems = append(c.problems, yamldoc.Problem{Pos: t.Pos, Rule: m.Rule,
				Message: "what `" + string(t.Kind) + "` brings does not fit req (" + c.r.Req.Name + "): " + m.Message})
		}
	}
}

// event resolves an event type; it reports one that does not exist.
func (c *compiler) event(n *yamldoc.Node, name string) *EventType {
	if n.Kind != yamldoc.Scalar || name == "" {
		c.add(n, "type", "an event type such as certificate.issued is expected here, not %s", n.What())
		return nil
	}
	e := c.l.events[name]
	if e == nil && c.l.files[schemasDir+"/events/"+name+".json"] != nil {
		return nil // its own problems are reported with the file
	}
	if e == nil {
		c.add(n, "event", "there is no event type %q: schemas/events/%s.json does not exist%s", name, name, schema.DidYouMean(name, sortedKeys(c.l.events)))
		return nil
	}
	c.deps.schemas["events/"+name] = e.Schema
	return e
}
