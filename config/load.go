package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// File is where the configuration stands below the content folder.
const File = "config/dime.yaml"

// Flag is a setting that the command line, the environment (Env) and the file
// know by one name. The command line wins, then the environment, then the file.
type Flag struct {
	Name  string // "ready-file"; `ready_file` in the file
	Env   string // "DIME_READY_FILE"
	Usage string
}

// Flags lists them, for the command line and the reference.
func Flags() []Flag {
	all := []Flag{
		{Name: "listen", Usage: "address of the public face, host:port; port 0 takes a free one"},
		{Name: "admin", Usage: "address of the admin face, host:port, on loopback"},
		{Name: "soap", Usage: "address where national platforms call connectors (pagoPA's node), host:port"},
		{Name: "data", Usage: "folder of the journal and of everything else that is kept"},
		{Name: "roles", Usage: "what this process does, of gateway,worker,timers; by default all"},
		{Name: "store", Usage: "postgres:// URL of the store that several processes share; by default a file in --data"},
		{Name: "store-password", Usage: "reference to its password, env:NAME or file:PATH"},
		{Name: "bus", Usage: "amqp:// or amqps:// URLs of RabbitMQ's nodes, comma-separated; by default the store's own tables"},
		{Name: "bus-password", Usage: "reference to its password, env:NAME or file:PATH"},
		{Name: "city", Usage: "the virtual city: embedded, the URL of a running one, or off"},
		{Name: "ready-file", Usage: "file that gets the URLs once the bus is ready"},
		{Name: "base-url", Usage: "public URL, where it is not that of --listen"},
		{Name: "master-key", Usage: "reference to the key of keys, env:NAME or file:PATH"},
		{Name: "log", Usage: "least level that is logged: debug, info, warn, error"},
	}
	for i := range all {
		all[i].Env = "DIME_" + strings.ToUpper(strings.ReplaceAll(all[i].Name, "-", "_"))
	}
	return all
}

// Load reads File in fsys (a missing file is an empty one), then the environment,
// then the flags that were given (by Flag.Name), and checks the whole. All
// problems are returned, sorted; with any that is not a warning the Config must
// not be used. getenv is os.LookupEnv.
func Load(fsys fs.FS, getenv func(string) (string, bool), flags map[string]string) (Config, []yamldoc.Problem) {
	l := loader{cfg: Default()}
	b, err := fs.ReadFile(fsys, File)
	switch {
	case err == nil:
		root, ps := yamldoc.Parse(File, b)
		l.problems = append(l.problems, ps...)
		if root != nil {
			l.file(root)
		}
	case !errors.Is(err, fs.ErrNotExist):
		l.problems = append(l.problems, yamldoc.Problem{Pos: yamldoc.Pos{File: File, Line: 1, Column: 1}, Rule: "config",
			Message: fmt.Sprintf("it can't be read: %v", err)})
	}
	for _, f := range Flags() {
		if v, ok := getenv(f.Env); ok {
			l.set(f.Name, v, yamldoc.Pos{File: "environment " + f.Env, Line: 1, Column: 1})
		}
		if v, ok := flags[f.Name]; ok {
			l.set(f.Name, v, yamldoc.Pos{File: "flag --" + f.Name, Line: 1, Column: 1})
		}
	}
	// A value that could not be read is zero now: what check says of it is noise.
	read := slices.Clone(l.problems)
	l.check()
	l.problems = slices.DeleteFunc(l.problems, func(p yamldoc.Problem) bool {
		return p.Rule == "config" && slices.ContainsFunc(read, func(q yamldoc.Problem) bool { return q.Rule == "type" && q.Pos == p.Pos })
	})
	return l.cfg, yamldoc.Sort(l.problems)
}

type loader struct {
	cfg      Config
	root     *yamldoc.Node
	places   map[string]yamldoc.Pos // where a flag's value came from
	problems []yamldoc.Problem
}

func (l *loader) add(pos yamldoc.Pos, format string, args ...any) {
	if pos.File == "" {
		pos = yamldoc.Pos{File: File, Line: 1, Column: 1}
	}
	l.problems = append(l.problems, yamldoc.Problem{Pos: pos, Rule: "config", Message: fmt.Sprintf(format, args...)})
}

// set applies one setting that has a flag.
func (l *loader) set(name, v string, pos yamldoc.Pos) {
	if l.places == nil {
		l.places = map[string]yamldoc.Pos{}
	}
	l.places[name] = pos
	c := &l.cfg
	switch name {
	case "listen":
		c.Listen = v
	case "admin":
		c.Admin = v
	case "soap":
		c.Soap = v
	case "data":
		c.Data = v
	case "ready-file":
		c.ReadyFile = v
	case "base-url":
		c.BaseURL = strings.TrimSuffix(v, "/")
	case "log":
		c.Log = v
	case "city":
		switch {
		case v == "embedded" || v == "off":
			c.City = City{Mode: v}
		default:
			c.City = City{Mode: "url", URL: strings.TrimSuffix(v, "/")}
		}
	case "roles":
		c.Roles = split(v)
	case "store":
		c.Store.URLs = split(v)
	case "bus":
		c.Bus.URLs = split(v)
	case "master-key", "store-password", "bus-password":
		s, err := ParseSecret(v)
		if err != nil {
			l.add(pos, "%s: %v", strings.ReplaceAll(name, "-", " "), err)
			return
		}
		*map[string]*Secret{"master-key": &c.MasterKey, "store-password": &c.Store.Password, "bus-password": &c.Bus.Password}[name] = s
	}
}

// split reads a comma-separated list.
func split(v string) []string {
	var out []string
	for _, s := range strings.Split(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (l *loader) file(root *yamldoc.Node) {
	l.root = root
	var d document
	l.problems = append(l.problems, root.Decode(&d)...)
	for name, v := range map[string]*string{"listen": d.Listen, "admin": d.Admin, "soap": d.Soap, "data": d.Data, "city": d.City,
		"ready-file": d.ReadyFile, "base-url": d.BaseURL, "master-key": d.MasterKey, "log": d.Log,
		"store": d.Store, "store-password": d.StorePass, "bus-password": d.BusPass} {
		if v != nil {
			l.set(name, *v, l.at(strings.ReplaceAll(name, "-", "_")))
		}
	}
	for name, list := range map[string][]string{"roles": d.Roles, "bus": d.Bus} {
		if root.Get(name) != nil {
			l.set(name, strings.Join(list, ","), l.at(name))
		}
	}
	take(&l.cfg.Name, d.Name)
	take(&l.cfg.AdminOpen, d.AdminOpen)
	take(&l.cfg.SoapOpen, d.SoapOpen)
	if d.SoapTLS != nil {
		l.cfg.SoapTLS = TLS(*d.SoapTLS)
	}
	if e := d.Engine; e != nil {
		c := &l.cfg.Engine
		if root.Get("engine").Get("ladder") != nil {
			c.Ladder = e.Ladder
		}
		take(&c.FoundBySlack, e.FoundBySlack)
		take(&c.UndoPatience, e.UndoPatience)
		take(&c.Lease, e.Lease)
		take(&c.Renew, e.Renew)
		take(&c.Within, e.Within)
		take(&c.Patience, e.Patience)
		take(&c.Notice, e.Notice)
		take(&c.Drain, e.Drain)
		take(&c.Slots, e.Slots)
		take(&c.Background, e.Background)
		take(&c.Sample, e.Sample)
	}
	if m := d.Limits; m != nil {
		l.size("body", m.Body, &l.cfg.Limits.Body)
		l.size("upload", m.Upload, &l.cfg.Limits.Upload)
		take(&l.cfg.Limits.PerAddress, m.PerAddress)
		take(&l.cfg.Limits.Connections, m.Connections)
		take(&l.cfg.Limits.HeaderWithin, m.HeaderWithin)
		take(&l.cfg.Limits.BodyWithin, m.BodyWithin)
	}
	if d.Tokens != nil {
		l.cfg.Tokens = Tokens(*d.Tokens)
	}
	if d.Documents != nil {
		take(&l.cfg.Documents.Office, d.Documents.Office)
		for i, s := range d.Documents.Seals {
			at := items(root.Get("documents").Get("seals"))[i]
			l.cfg.Documents.Seals = append(l.cfg.Documents.Seals, Seal{l.secret(s.Key, at.Get("key")), l.secret(s.Certificate, at.Get("certificate"))})
		}
	}
	if d.Audit != nil && d.Audit.Witness != nil {
		w, c := d.Audit.Witness, &l.cfg.Audit
		take(&c.File, w.File)
		take(&c.URL, w.URL)
		take(&c.Every, w.Every)
	}
	l.clients(d.Clients)
	l.brokers(d.Brokers)
}

// secret reads a reference; what is empty the decoder has reported.
func (l *loader) secret(ref string, at *yamldoc.Node) Secret {
	if at == nil || ref == "" {
		return Secret{}
	}
	s, err := ParseSecret(ref)
	if err != nil {
		l.add(at.Pos, "%v", err)
	}
	return s
}

func take[T any](into *T, from *T) {
	if from != nil {
		*into = *from
	}
}

// at is the place of a value of the file, by its keys.
func (l *loader) at(keys ...string) yamldoc.Pos {
	n := l.root
	for _, k := range keys {
		n = n.Get(k)
	}
	if n == nil {
		return yamldoc.Pos{}
	}
	return n.Pos
}

// size reads 512KiB, 10MiB, or a number of bytes.
func (l *loader) size(key string, text *string, into *int64) {
	if text == nil {
		return
	}
	digits, unit := *text, int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if d, ok := strings.CutSuffix(*text, suffix); ok {
			digits, unit = strings.TrimSpace(d), u
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 1 || n*unit > 1<<30 {
		l.add(l.at("limits", key), "%q is not a size; write 512KiB or 10MiB, at most 1024MiB", *text)
		return
	}
	*into = n * unit
}

var clientName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func (l *loader) clients(n *yamldoc.Node) {
	if n.IsNull() {
		return
	}
	if n.Kind != yamldoc.Map {
		l.add(n.Pos, "`clients` must be a map of names, not %s", n.What())
		return
	}
	for _, p := range n.Pairs {
		var d clientDoc
		l.problems = append(l.problems, p.Value.Decode(&d)...)
		c := Client{Name: p.Key.Text, Kind: d.Kind, Routes: d.Routes, Publish: d.Publish, Subscribe: d.Subscribe, Pos: p.Key.Pos}
		if !clientName.MatchString(c.Name) {
			l.add(p.Key.Pos, "client name %q must be small letters, digits and `-`, beginning with a letter", c.Name)
		}
		switch c.Kind {
		case "":
			c.Kind = "module"
		case "module", "partner":
		default:
			l.add(p.Value.Get("kind").Pos, "client kind %q is not one of module, partner%s", c.Kind, didYouMean(c.Kind, "module", "partner"))
		}
		c.Secret = l.secret(d.Secret, p.Value.Get("secret"))
		for _, list := range []string{"routes", "publish", "subscribe"} {
			for _, it := range items(p.Value.Get(list)) {
				if i := strings.IndexByte(it.Text, '*'); i >= 0 && i != len(it.Text)-1 || it.Text == "" {
					l.add(it.Pos, "%q: a right is a name, or a beginning followed by one `*`", it.Text)
				}
			}
		}
		l.cfg.Clients = append(l.cfg.Clients, c)
	}
}

func (l *loader) brokers(n *yamldoc.Node) {
	if n.IsNull() {
		return
	}
	if n.Kind != yamldoc.Map {
		l.add(n.Pos, "`brokers` must be a map of names, not %s", n.What())
		return
	}
	for _, p := range n.Pairs {
		var d brokerDoc
		l.problems = append(l.problems, p.Value.Decode(&d)...)
		b := Broker{Name: p.Key.Text, Backend: Backend{URLs: d.URLs}, Pos: p.Key.Pos}
		if !clientName.MatchString(b.Name) {
			l.add(p.Key.Pos, "broker name %q must be small letters, digits and `-`, beginning with a letter", b.Name)
		}
		if at := p.Value.Get("password"); d.Password != nil {
			b.Password = l.secret(*d.Password, at)
		}
		for _, at := range items(p.Value.Get("urls")) {
			if bad := urlProblem(at.Text, "amqp", "amqps"); bad != "" {
				l.add(at.Pos, "%s; its password is a reference in `password`", bad)
			}
		}
		l.cfg.Brokers = append(l.cfg.Brokers, b)
	}
}

// urlProblem judges a backend's URL, without repeating what may hold a password.
func urlProblem(text string, schemes ...string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme):
		return "it must be a URL that begins with " + strings.Join(schemes, ":// or ") + "://"
	case u.User != nil && hasPassword(u):
		return "the URL holds a password; keep it out"
	}
	return ""
}

func items(n *yamldoc.Node) []*yamldoc.Node {
	if n == nil {
		return nil
	}
	return n.Items
}

func didYouMean(word string, candidates ...string) string {
	if s := yamldoc.Suggest(word, candidates); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	return ""
}

// check judges the values, wherever each came from.
func (l *loader) check() {
	c := &l.cfg
	l.address("listen", c.Listen)
	if host := l.address("admin", c.Admin); host != "" && !c.AdminOpen && !loopback(host) {
		l.add(l.places["admin"], "the admin face would listen on %q, beyond loopback; it has no accounts of its own yet: keep it on 127.0.0.1, or say `admin_open: true` where the network guards it", host)
	}
	if host := l.address("soap", c.Soap); host != "" && !c.SoapOpen && c.SoapTLS == (TLS{}) && !loopback(host) {
		l.add(l.places["soap"], "the soap face would listen on %q in plain HTTP, beyond loopback, and whoever reaches it could report payments: give it `soap_tls` with the platform's CA, or say `soap_open: true` where a proxy checks its certificate", host)
	}
	if c.Data == "" {
		l.add(l.places["data"], "`data` is empty; name the folder that keeps the journal")
	}
	l.processes()
	l.gatewayless()
	if c.City.Mode == "url" && !webURL(c.City.URL) {
		l.add(l.places["city"], "city %q is not `embedded`, `off` or an http(s) URL%s", c.City.URL, didYouMean(c.City.URL, "embedded", "off"))
	}
	if c.BaseURL != "" && !webURL(c.BaseURL) {
		l.add(l.places["base-url"], "%q is not an http(s) URL without query and fragment", c.BaseURL)
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, c.Log) {
		l.add(l.places["log"], "log level %q is not one of debug, info, warn, error%s", c.Log, didYouMean(c.Log, levels...))
	}
	if t := c.Tokens; t.JWKS != "" {
		if u, err := url.Parse(t.JWKS); err != nil || u.Host == "" || u.Scheme != "https" {
			l.add(l.at("tokens", "jwks"), "%q is not an https URL", t.JWKS)
		}
	}
	if c.Audit.URL != "" {
		if u, err := url.Parse(c.Audit.URL); err != nil || u.Host == "" || u.Scheme != "https" || u.User != nil {
			l.add(l.at("audit", "witness"), "`url` is not an https URL without a password")
		}
	}
	if c.Audit.Every < time.Minute {
		l.add(l.at("audit", "witness"), "`every` is %s, less than a minute", c.Audit.Every)
	}
	if c.Documents.Office == "" {
		l.add(l.at("documents", "office"), "`office` is empty; name the office that issues the certificates")
	}
	l.engine()
	for key, n := range map[string]int{"connections": c.Limits.Connections, "connections_per_address": c.Limits.PerAddress} {
		if n < 1 {
			l.add(l.at("limits", key), "`%s` must be at least 1", key)
		}
	}
	for key, d := range map[string]time.Duration{"header_within": c.Limits.HeaderWithin, "body_within": c.Limits.BodyWithin} {
		if d <= 0 {
			l.add(l.at("limits", key), "`%s` must be more than 0: without a bound a slow sender keeps a connection for ever", key)
		}
	}
}

// processes judges what several processes share.
func (l *loader) processes() {
	c := &l.cfg
	if len(c.Roles) == 0 {
		l.add(l.places["roles"], "`roles` is empty; name at least one of %s", strings.Join(AllRoles(), ", "))
	}
	for i, r := range c.Roles {
		if !slices.Contains(AllRoles(), r) {
			l.add(l.places["roles"], "role %q is not one of %s%s", r, strings.Join(AllRoles(), ", "), didYouMean(r, AllRoles()...))
		} else if slices.Contains(c.Roles[:i], r) {
			l.add(l.places["roles"], "role %q is named twice", r)
		}
	}
	for name, b := range map[string]struct {
		Backend
		schemes []string
	}{"store": {c.Store, []string{"postgres", "postgresql"}}, "bus": {c.Bus, []string{"amqp", "amqps"}}} {
		for _, text := range b.URLs {
			u, err := url.Parse(text)
			switch {
			case err != nil || u.Host == "" || !slices.Contains(b.schemes, u.Scheme):
				l.add(l.places[name], "`%s` must be a URL that begins with %s://", name, strings.Join(b.schemes, ":// or "))
			case u.User != nil && hasPassword(u):
				l.add(l.places[name], "`%s` holds a password; keep it out of the URL and name a reference in `%s_password`", name, name)
			}
		}
		if b.Password.Set() && !b.Set() {
			l.add(l.places[name+"-password"], "`%s_password` is named without `%s`", name, name)
		}
	}
	if len(c.Store.URLs) > 1 {
		l.add(l.places["store"], "`store` is one URL")
	}
	if !c.Store.Set() && len(c.Roles) > 0 && len(c.Roles) < len(AllRoles()) {
		l.add(l.places["roles"], "several processes need a store that they share: name PostgreSQL in `store`, or leave `roles` out")
	}
}

// gatewayless: who serves no requests must be told where they are served.
func (l *loader) gatewayless() {
	if c := &l.cfg; !slices.Contains(c.Roles, Gateway) && c.BaseURL == "" && len(c.Roles) > 0 {
		l.add(l.places["roles"], "a process without the role gateway needs `base_url`: the public URL that its runs and documents name")
	}
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}

func (l *loader) engine() {
	e := l.cfg.Engine
	for key, d := range map[string]time.Duration{"undo_patience": e.UndoPatience, "lease": e.Lease, "renew": e.Renew,
		"within": e.Within, "patience": e.Patience, "drain": e.Drain} {
		if d <= 0 {
			l.add(l.at("engine", key), "`%s` must be longer than 0", key)
		}
	}
	for key, d := range map[string]time.Duration{"found_by_slack": e.FoundBySlack, "notice": e.Notice} {
		if d < 0 {
			l.add(l.at("engine", key), "`%s` can't be negative", key)
		}
	}
	// Two renewals must fit into a lease, or one lost renewal loses the run
	// (semantics 11.4).
	if e.Renew > 0 && e.Lease > 0 && e.Lease < 2*e.Renew {
		l.add(l.at("engine", "renew"), "`renew` is %s and `lease` %s; a lease must last at least two renewals", e.Renew, e.Lease)
	}
	if len(e.Ladder) == 0 {
		l.add(l.at("engine", "ladder"), "`ladder` is empty; name at least one pause, such as [5s, 30s, 5m, 1h]")
	}
	for i, d := range e.Ladder {
		if d <= 0 || i > 0 && d < e.Ladder[i-1] {
			pos := l.at("engine", "ladder")
			if its := items(l.root.Get("engine").Get("ladder")); i < len(its) {
				pos = its[i].Pos
			}
			l.add(pos, "the pauses of `ladder` must be longer than 0 and not become shorter")
			break
		}
	}
	if e.Sample < 0 {
		l.add(l.at("engine", "timeline_sample"), "`timeline_sample` is 0 for none, else of how many runs one is stored")
	}
	for key, n := range map[string]int{"slots": e.Slots, "background_slots": e.Background} {
		if n < 1 || n > 65536 {
			l.add(l.at("engine", key), "`%s` must be 1 to 65536", key)
		}
	}
}

func (l *loader) address(name, v string) (host string) {
	host, port, err := net.SplitHostPort(v)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		l.add(l.places[name], "`%s` is %q, not host:port; write 127.0.0.1:8080, or :8080 for every address", name, v)
		return ""
	}
	if host == "" {
		return "0.0.0.0"
	}
	return host
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func webURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}
