package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

func load(text string, env, flags map[string]string) (Config, []string) {
	fsys := fstest.MapFS{}
	if text != "" {
		fsys[File] = &fstest.MapFile{Data: []byte(text)}
	}
	c, ps := Load(fsys, func(k string) (string, bool) { v, ok := env[k]; return v, ok }, flags)
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return c, out
}

func ignorePlaces() cmp.Options {
	return cmp.Options{cmpopts.IgnoreFields(Client{}, "Pos"), cmpopts.IgnoreFields(Broker{}, "Pos"), cmp.Comparer(func(a, b Secret) bool { return a.ref == b.ref })}
}

func TestDefault(t *testing.T) {
	for _, text := range []string{"", "cfg: {anything: [goes]}\n"} {
		c, ps := load(text, nil, nil)
		if len(ps) > 0 {
			t.Error(ps)
		}
		if d := cmp.Diff(Default(), c, ignorePlaces()); d != "" {
			t.Error(d)
		}
	}
}

func TestWhole(t *testing.T) {
	c, ps := load(`
name: X
listen: ":80"
admin: "[::1]:81"
soap: 0.0.0.0:82
soap_tls: {certificate: c, key: k, client_ca: ca}
data: /d
roles: [worker, timers]
store: postgres://dime@db.example/dime
store_password: env:SP
bus: ["amqps://dime@mq1.example/v", "amqps://dime@mq2.example/v"]
bus_password: file:/bp
city: http://127.0.0.1:9/
base_url: https://x.example/
ready_file: r
master_key: file:/k
log: warn
engine: {ladder: [1s, 2s], found_by_slack: 0s, undo_patience: 1h, lease: 8s, renew: 2s, within: 3s, patience: 4h, notice: 0s, drain: 5s, slots: 6, background_slots: 7, timeline_sample: 8}
limits: {body: 2MiB, upload: 3 KiB, connections_per_address: 8, connections: 9, header_within: 10s, body_within: 11s}
tokens: {issuer: i, jwks: "https://j.example/k"}
documents: {office: O, seals: [{key: "file:/k1", certificate: "file:/c1"}, {key: "env:K", certificate: "env:C"}]}
audit: {witness: {file: /w, url: "https://w.example/d", every: 2h}}
clients:
  crm: {secret: "env:S", routes: [a, "b-*"], publish: [e.d], subscribe: ["*"]}
  p: {kind: partner, secret: "file:/s"}
brokers:
  contractor: {urls: ["amqps://dime@mq.contractor.example/orders"], password: "env:B"}
  museum: {urls: ["amqp://127.0.0.1/"]}
`, nil, nil)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	want := Config{Name: "X", Listen: ":80", Admin: "[::1]:81", Soap: "0.0.0.0:82", SoapTLS: TLS{"c", "k", "ca"}, Data: "/d",
		Roles: []string{Worker, Timers}, Store: Backend{[]string{"postgres://dime@db.example/dime"}, Secret{"env:SP"}},
		Bus: Backend{[]string{"amqps://dime@mq1.example/v", "amqps://dime@mq2.example/v"}, Secret{"file:/bp"}}, City: City{"url", "http://127.0.0.1:9"}, BaseURL: "https://x.example",
		ReadyFile: "r", MasterKey: Secret{"file:/k"}, Log: "warn",
		Engine: Engine{[]time.Duration{time.Second, 2 * time.Second}, 0, time.Hour, 8 * time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Hour, 0, 5 * time.Second, 6, 7, 8},
		Limits: Limits{2 << 20, 3 << 10, 8, 9, 10 * time.Second, 11 * time.Second}, Tokens: Tokens{"i", "https://j.example/k"},
		Documents: Documents{"O", []Seal{{Secret{"file:/k1"}, Secret{"file:/c1"}}, {Secret{"env:K"}, Secret{"env:C"}}}},
		Audit:     Audit{File: "/w", URL: "https://w.example/d", Every: 2 * time.Hour},
		Clients: []Client{
			{Name: "crm", Kind: "module", Secret: Secret{"env:S"}, Routes: []string{"a", "b-*"}, Publish: []string{"e.d"}, Subscribe: []string{"*"}},
			{Name: "p", Kind: "partner", Secret: Secret{"file:/s"}},
		},
		Brokers: []Broker{
			{Name: "contractor", Backend: Backend{[]string{"amqps://dime@mq.contractor.example/orders"}, Secret{"env:B"}}},
			{Name: "museum", Backend: Backend{URLs: []string{"amqp://127.0.0.1/"}}},
		}}
	if d := cmp.Diff(want, c, ignorePlaces()); d != "" {
		t.Error(d)
	}
}

func TestPrecedence(t *testing.T) {
	c, ps := load("listen: a:1\nadmin: 127.0.0.1:1\ndata: file\n",
		map[string]string{"DIME_LISTEN": "b:2", "DIME_DATA": "env", "DIME_CITY": "off"}, map[string]string{"listen": "c:3", "city": "embedded"})
	if len(ps) > 0 || c.Listen != "c:3" || c.Data != "env" || c.Admin != "127.0.0.1:1" || c.City.Mode != "embedded" {
		t.Errorf("%+v %v", c, ps)
	}
}

// Every flag has its key in the file, and a wrong value is told at its place
// wherever it stands.
func TestFlagsAreSettings(t *testing.T) {
	for _, f := range Flags() {
		key := strings.ReplaceAll(f.Name, "-", "_")
		if _, ps := load(key+": \"env:X\"\n", nil, nil); slices.ContainsFunc(ps, func(s string) bool { return strings.Contains(s, "unknown field") }) {
			t.Errorf("%s is no key of the file: %v", key, ps)
		}
		if f.Env != "DIME_"+strings.ToUpper(key) || f.Usage == "" {
			t.Errorf("%+v", f)
		}
	}
	_, ps := load("", map[string]string{"DIME_LISTEN": "nowhere"}, map[string]string{"log": "lout"})
	want := []string{
		"environment DIME_LISTEN:1:1: `listen` is \"nowhere\", not host:port; write 127.0.0.1:8080, or :8080 for every address [config]",
		"flag --log:1:1: log level \"lout\" is not one of debug, info, warn, error [config]",
	}
	if d := cmp.Diff(want, ps); d != "" {
		t.Error(d)
	}
}

func TestMistakesAllAtOnce(t *testing.T) {
	_, ps := load(`listne: 127.0.0.1:80
admin: 0.0.0.0:8081
city: embeded
log: inof
master_key: hunter2-the-key
engine:
  ladder: [5s, 1s]
  lease: 10s
  renew: 9s
  within: 10
  slots: 0
limits: {body: 1GB}
tokens: {jwks: "http://x/"}
clients:
  CRM: {routes: [x]}
  kb: {secret: hunter2-of-kb, kind: modul, publish: ["a*b"]}
brokers:
  A: {urls: ["http://x/"]}
  b: {urls: ["amqp://u:hunter2@x/"], password: hunter2}
  c: {}
`, nil, nil)
	for i, want := range []string{
		`^config/dime.yaml:1:1: unknown field "listne"; did you mean "listen"\? \[field\]$`,
		`^config/dime.yaml:2:8: the admin face would listen on "0.0.0.0"`,
		`^config/dime.yaml:3:7: city "embeded" .*did you mean "embedded"\?`,
		`^config/dime.yaml:4:6: log level "inof" .*did you mean "info"\?`,
		`^config/dime.yaml:5:13: master key: a secret is a reference`,
		`^config/dime.yaml:7:16: the pauses of .ladder.`,
		`^config/dime.yaml:9:10: .renew. is 9s and .lease. 10s`,
		`^config/dime.yaml:10:11: .within. must be a duration`,
		`^config/dime.yaml:11:10: .slots. must be 1 to 65536`,
		`^config/dime.yaml:12:16: "1GB" is not a size`,
		`^config/dime.yaml:13:\d+: .issuer. is missing`,
		`^config/dime.yaml:13:16: "http://x/" is not an https URL`,
		`^config/dime.yaml:15:3: client name "CRM"`,
		`^config/dime.yaml:15:8: .secret. is missing`,
		`^config/dime.yaml:16:16: a secret is a reference`,
		`^config/dime.yaml:16:37: client kind "modul" .*did you mean "module"\?`,
		`^config/dime.yaml:16:54: "a\*b"`,
		`^config/dime.yaml:18:3: broker name "A"`,
		`^config/dime.yaml:18:14: it must be a URL that begins with amqp://`,
		`^config/dime.yaml:19:14: the URL holds a password`,
		`^config/dime.yaml:19:48: a secret is a reference`,
		`^config/dime.yaml:20:6: .urls. is missing`,
	} {
		if i >= len(ps) {
			t.Fatalf("only %d problems: %v", len(ps), ps)
		}
		if !regexp.MustCompile(want).MatchString(ps[i]) {
			t.Errorf("problem %d is %q, want %s", i, ps[i], want)
		}
	}
	if len(ps) != 22 {
		t.Errorf("%d problems:\n%s", len(ps), strings.Join(ps, "\n"))
	}
	if strings.Contains(strings.Join(ps, "\n"), "hunter2") {
		t.Error("a problem shows a secret")
	}
}

func TestBrokenYAML(t *testing.T) {
	for _, text := range []string{"a: [", "- x\n", "x", "clients: [a]\n", "clients: {a: 1}\n", "engine: 3\n", "listen: [a]\n", "brokers: [a]\n", "brokers: {a: 1}\n", "brokers: {a: {urls: [{}], password: [x]}}\n", "\t", "limits: {body: [1]}\n", "clients: {a: {secret: [x], kind: {}, publish: x}}\n"} {
		if _, ps := load(text, nil, nil); len(ps) == 0 {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestAdminOpen(t *testing.T) {
	if _, ps := load("soap: 0.0.0.0:1\n", nil, nil); len(ps) != 1 || !strings.Contains(ps[0], "soap_tls") {
		t.Errorf("a soap face open to everybody: %v", ps)
	}
	if _, ps := load("soap: 0.0.0.0:1\nsoap_open: true\nadmin: 0.0.0.0:1\nadmin_open: true\n", nil, nil); len(ps) > 0 {
		t.Error(ps)
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Setenv("DIME_TEST_SECRET", "hunter2")
	file := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"env:DIME_TEST_SECRET", "file:" + file} {
		s, err := ParseSecret(ref)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := s.Resolve(); err != nil || v != "hunter2" {
			t.Errorf("%s: %q %v", ref, v, err)
		}
		j, err := json.Marshal(map[string]any{"s": s, "c": Client{Secret: s}})
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "c", fmt.Sprint(Client{Secret: s}))
		for _, out := range []string{string(j), log.String(), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%+v", Client{Secret: s}), fmt.Sprintf("%#v", &Client{Secret: s})} {
			if strings.Contains(out, "hunter2") || strings.Contains(out, "DIME_TEST_SECRET") || strings.Contains(out, file) || !strings.Contains(out, "***") {
				t.Errorf("%s: %s", ref, out)
			}
		}
	}
	for _, ref := range []string{"", "hunter2", "env:", "vault:x"} {
		if _, err := ParseSecret(ref); err == nil {
			t.Errorf("%q is accepted", ref)
		}
	}
	for _, ref := range []string{"env:DIME_TEST_ABSENT", "file:/nonexistent/x"} {
		s, err := ParseSecret(ref)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resolve(); err == nil {
			t.Errorf("%s resolves", ref)
		}
	}
	if _, err := (Secret{}).Resolve(); err == nil || (Secret{}).Set() {
		t.Error("no reference resolves")
	}
}

// The shipped file must load without a word, also with every commented setting
// switched on; then it says the defaults, and the schema takes it.
func TestShippedFile(t *testing.T) {
	b, err := os.ReadFile("dime.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, ps := load(string(b), nil, nil)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	c.Name = Default().Name
	if d := cmp.Diff(Default(), c, ignorePlaces()); d != "" {
		t.Error(d)
	}
	on := regexp.MustCompile(`(?m)^# ( *(?:# .*|[a-z_]+:.*))$`).ReplaceAllString(string(b), "$1")
	c, ps = load(on, nil, nil)
	if len(ps) > 0 {
		t.Fatalf("%v\n%s", ps, on)
	}
	def := Default()
	if d := cmp.Diff(def.Engine, c.Engine); d != "" {
		t.Errorf("the file shows other defaults: %s", d)
	}
	if d := cmp.Diff(def.Limits, c.Limits); d != "" {
		t.Errorf("the file shows other defaults: %s", d)
	}
	if c.Listen != def.Listen || c.Admin != def.Admin || c.Data != def.Data || c.City != def.City || c.Log != def.Log || len(c.Clients) != 1 {
		t.Errorf("the file shows other defaults: %+v", c)
	}
	sb, err := os.ReadFile("dime.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.CompileBytes("dime", sb)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(b), on} {
		root, problems := yamldoc.Parse(File, []byte(text))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		v, problems := root.Any()
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if vs := s.Validate(v); len(vs) > 0 {
			t.Error(vs)
		}
	}
	for _, bad := range []string{"listne: x\n", "clients: {A: {secret: \"env:X\"}}\n", "engine: {slots: 0}\n", "master_key: hunter2\n"} {
		root, _ := yamldoc.Parse(File, []byte(bad))
		v, _ := root.Any()
		if vs := s.Validate(v); len(vs) == 0 {
			t.Errorf("the schema takes %q", bad)
		}
	}
}

// The schema for editors and the reader know the same keys.
func TestSchemaHasEveryKey(t *testing.T) {
	b, err := os.ReadFile("dime.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]struct {
			Properties           map[string]any
			AdditionalProperties any
		}
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	keys := func(v any) []string {
		var out []string
		for t, i := reflect.TypeOf(v), 0; i < t.NumField(); i++ {
			tag, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			out = append(out, tag)
		}
		slices.Sort(out)
		return out
	}
	names := func(m map[string]any) []string {
		var out []string
		for k := range m {
			out = append(out, k)
		}
		slices.Sort(out)
		return out
	}
	var top []string
	for k := range s.Properties {
		top = append(top, k)
	}
	slices.Sort(top)
	client := s.Properties["clients"].AdditionalProperties.(map[string]any)["properties"].(map[string]any)
	broker := s.Properties["brokers"].AdditionalProperties.(map[string]any)["properties"].(map[string]any)
	for what, pair := range map[string][2][]string{
		"broker": {keys(brokerDoc{}), names(broker)},
		"file":   {keys(document{}), top}, "engine": {keys(engineDoc{}), names(s.Properties["engine"].Properties)},
		"limits": {keys(limitsDoc{}), names(s.Properties["limits"].Properties)}, "tokens": {keys(tokensDoc{}), names(s.Properties["tokens"].Properties)},
		"client": {keys(clientDoc{}), names(client)},
	} {
		if d := cmp.Diff(pair[0], pair[1]); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, s := range []string{"listen: a:1\n", "clients: {a: {secret: \"env:X\", routes: [x]}}\n", "engine: {ladder: [1s]}\n", "limits: {body: 1MiB}\n", "a: &a [*a]\n", "engine:\n  ladder: 3\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, ps := load(text, nil, nil)
		_, again := load(text, nil, nil)
		if slices.Contains(ps, "") || !slices.Equal(ps, again) {
			t.Errorf("problems %q, then %q", ps, again)
		}
	})
}

func TestProcesses(t *testing.T) {
	for text, want := range map[string]string{
		"roles: [gateway]\n": "several processes need a store",
		"roles: []\n":        "`roles` is empty",
		"roles: [gateway, wroker]\nstore: postgres://a/b\n":                                   `did you mean "worker"?`,
		"base_url: http://c\nroles: [worker, worker]\nstore: postgres://a/b\n":                "named twice",
		"store: postgres://a/b\nroles: [worker]\n":                                            "needs `base_url`",
		"store: mysql://a/b\n":                                                                "postgres://",
		"store: postgres://dime:hunter2@a/b\n":                                                "store_password",
		"bus: [\"amqp://dime:hunter2@a/b\"]\n":                                                "bus_password",
		"bus: [\"http://a/b\"]\n":                                                             "amqp:// or amqps://",
		"store: postgres://a/b\nstore_password: hunter2\n":                                    "a secret is a reference",
		"bus_password: env:X\n":                                                               "without `bus`",
		"store: \"postgres://a/b,postgres://c/d\"\n":                                          "one URL",
		"base_url: http://c\nstore: postgres://a/b\nroles: [timers]\nbus: [\"amqp://c/d\"]\n": "",
	} {
		_, ps := load(text, nil, nil)
		all := strings.Join(ps, "\n")
		if want == "" && len(ps) > 0 || want != "" && (len(ps) != 1 || !strings.Contains(all, want)) || strings.Contains(all, "hunter2") {
			t.Errorf("%q gives %q, want %q", text, all, want)
		}
	}
	c, ps := load("", map[string]string{"DIME_BUS": "amqp://a/v, amqp://b/v", "DIME_STORE": "postgres://a/b"}, map[string]string{"roles": "gateway,timers"})
	if len(ps) > 0 || len(c.Bus.URLs) != 2 || strings.Join(c.Roles, " ") != "gateway timers" {
		t.Errorf("%v %+v", ps, c)
	}
}
