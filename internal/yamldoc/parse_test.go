package yamldoc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every trap of route-language "Traps measured": refused at its place with the
// fix in the message.
func TestTraps(t *testing.T) {
	for _, tt := range []struct {
		name, src string
		want      []string // "line:column fragment"
	}{
		{"tag instead of not", "steps:\n  - call: x\n    if: !req.exempt\n", []string{"3:9 write `not req.exempt`"}},
		{"local tag with value", "a: !foo bar\n", []string{"1:4 `!` begins a YAML tag"}},
		{"standard tag", "a: !!str 12\n", []string{"1:4 YAML tags are not allowed"}},
		{"anchor", "a: &x 1\n", []string{"1:4 anchors are not allowed"}},
		{"alias", "a: &x 1\nb: *x\n", []string{"1:4 anchors", "2:4 aliases are not allowed"}},
		{"merge", "a:\n  <<: {b: 1}\n", []string{"2:3 merge keys are not allowed"}},
		{"documents", "a: 1\n---\nb: 2\n", []string{"2:1 a second document"}},
		{"tab", "a:\n\tb: 1\n", []string{"2:1 a tab stands in the indentation"}},
		{"duplicate", "a: 1\nb: 2\na: 3\n", []string{"3:1 the key \"a\" stands here a second time; the first is on line 1"}},
		{"comma in flow", "with: {a: =f(1, 2)}\n", []string{"1:11 the comma cuts the expression to `=f(1`"}},
		{"comma in flow list", "with: [=f(1, 2)]\n", []string{"1:8 the comma cuts"}},
		{"quote in flow", "with: {a: =x ?? \"y\"}\n", []string{"1:11 the expression `=x ?? \"y\"` can't stand inside { }"}},
		{"braces in flow", "from: {http: GET /v1/x/{id}}\n", []string{"1:14 `{` inside the value `GET /v1/x/{id}` can't stand within { } or [ ]: put it on its own line, or quote it"}},
		{"brackets in flow", "a: {x: 1, y: a:b[0]}\n", []string{"1:14 `[` inside the value `a:b[0]`"}},
		{"index in flow", "with: {a: =l[0], b: 1}\n", []string{"1:11 the expression `=l[0]` can't stand inside { }"}},
		{"begins with a quote", "- check: \"x\" in list\n", []string{"1:10 put the whole in single quotes, '\"x\" in list'"}},
		{"ternary", "subject: =c ? a : b\n", []string{"1:10 write `if c {a} else {b}`"}},
		{"ternary in a condition", "steps:\n  - check: c ? a : b\n", []string{"2:12 write `if c {a} else {b}`"}},
		{"map literal", "each: =map(l, {\"x\": .v})\n", []string{"1:7 quote the whole expression with single quotes"}},
		{"call in braces", "with: {call}\n", []string{"1:8 `call` inside { } has no value"}},
		{"comment cuts", "each: =filter(l, # > 3)\n", []string{"1:7 ` #` begins a comment and cuts the expression to `=filter(l,`"}},
		{"comment cuts a condition", "allow: any(l, # == 3)\n", []string{"1:8 ` #` begins a comment"}},
		{"two traps, both told", "a: =c ? a : b\nb: =l ? c : d\n", []string{"1:4 write `if c", "2:4 write `if c"}},
		{"not UTF-8", "a: \xff\n", []string{"1:1 not UTF-8"}},
		{"unclosed", "a: {b: 1\nc: 2\n", []string{"1:4 the `{` that opens here is never closed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, ps := Parse("f.yaml", []byte(tt.src))
			if n != nil && len(ps) > 0 {
				t.Errorf("a node came back with %v", ps)
			}
			if len(ps) != len(tt.want) {
				t.Fatalf("got %v, want %v", ps, tt.want)
			}
			for i, w := range tt.want {
				place, fragment, _ := strings.Cut(w, " ")
				if got := ps[i].String(); !strings.HasPrefix(got, "f.yaml:"+place+": ") || !strings.Contains(got, fragment) {
					t.Errorf("got  %s\nwant %s", got, w)
				}
			}
		})
	}
}

func TestNoFalseAlarm(t *testing.T) {
	for _, src := range []string{
		"", "# nothing\n", "---\na: 1\n",
		"a: =req.x   # whose data\n",
		"allow: a >= 2 and b  # why\n",
		"with: {a: =x, b: =y.z}\n",
		"with: {a: =f(1), b: '=f(1, 2)'}\n",
		"a: |\n  =map(l, {\"x\": .v})\n",
		"a: '=c ? a : b'\n",
		"say: {it: \"a, b\", en: c}\n",
		"with: {}\nlist: []\n",
		"with: {a: }\n",
		"c: \"0 7 * * *\"\n",
		"about: pays (once # twice\n",
	} {
		if _, ps := Parse("f.yaml", []byte(src)); len(ps) > 0 {
			t.Errorf("%q: %v", src, ps)
		}
	}
}

func TestBounds(t *testing.T) {
	if _, ps := Parse("f", []byte(strings.Repeat("# x\n", MaxBytes/4+1))); len(ps) != 1 || ps[0].Rule != "bounds" {
		t.Errorf("long file: %v", ps)
	}
	var b strings.Builder
	for i := range MaxKeys + 1 {
		b.WriteString("k" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + ": 1\n")
	}
	if _, ps := Parse("f", []byte(b.String())); len(ps) != 1 || ps[0].Rule != "bounds" {
		t.Errorf("many keys: %v", ps)
	}
	if _, ps := Parse("f", []byte(b.String()), OpenAPI()); len(ps) != 0 {
		t.Errorf("many keys in an OpenAPI document: %v", ps)
	}
	if _, ps := Parse("f", []byte("a: "+strings.Repeat("[", 200)+strings.Repeat("]", 200))); len(ps) != 1 || ps[0].Rule != "bounds" {
		t.Errorf("deep: %v", ps)
	}
}

func TestValue(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Want
		v    any
		bad  string
	}{
		{"0102", WantString, "0102", ""},
		{"0102", WantAny, nil, `quote it: "0102"`},
		{"041041", WantAny, nil, `quote it: "041041"`},
		{"041041", WantInt, nil, "write 41041"},
		{"010", WantInt, nil, "write 10"},
		{"-0x1F", WantInt, nil, "write -31"},
		{"1_000", WantInt, nil, "write 1000"},
		{"+3", WantInt, nil, "write 3"},
		{".5", WantNumber, nil, "write 0.5"},
		{"3.0", WantInt, nil, "write 3"},
		{"1e3", WantInt, nil, "write 1000"},
		{"12:30", WantInt, "12:30", ""},
		{"2026-11-23", WantInt, "2026-11-23", ""},
		{"99999999999999999999", WantInt, nil, "a smaller one"},
		{"TRUE", WantBool, nil, "write true in small letters"},
		{"0x1F", WantAny, nil, "quote it"},
		{"1_000", WantAny, nil, "quote it"},
		{"12:30", WantAny, nil, "quote it"},
		{"2026-11-23", WantAny, nil, "as a time; quote it"},
		{"2026-11-23", WantString, "2026-11-23", ""},
		{"1.10", WantAny, nil, "as 1.1; quote it"},
		{"1.10", WantNumber, 1.1, ""},
		{"1.10", WantString, "1.10", ""},
		{"1.5", WantAny, 1.5, ""},
		{"12", WantAny, 12, ""},
		{"-3", WantAny, -3, ""},
		{"0", WantAny, 0, ""},
		{"99999999999999999999", WantAny, nil, "64 bits"},
		{"true", WantAny, true, ""},
		{"True", WantAny, nil, "small letters"},
		{"null", WantAny, nil, ""},
		{"yes", WantAny, "yes", ""},
		{"RSSMRA80A01L736U", WantAny, "RSSMRA80A01L736U", ""},
	} {
		n := &Node{Text: tt.text}
		v, bad := n.Value(tt.want)
		if v != tt.v || (tt.bad == "") != (bad == "") || !strings.Contains(bad, tt.bad) {
			t.Errorf("%s as %d: got %v %q, want %v %q", tt.text, tt.want, v, bad, tt.v, tt.bad)
		}
	}
}

func TestDecode(t *testing.T) {
	type inner struct {
		Timeout string `yaml:"timeout"`
		Retry   int    `yaml:"retry"`
	}
	var got struct {
		Name string            `yaml:"name,required"`
		On   bool              `yaml:"on"`
		Ops  map[string]inner  `yaml:"ops"`
		Tags []string          `yaml:"tags"`
		Env  map[string]string `yaml:"env"`
	}
	n, ps := Parse("c.yaml", []byte("name: 010\non: true\nops:\n  a: {timeout: 2s, retry: 3}\ntags: [a, 01]\n"))
	if ps = append(ps, n.Decode(&got)...); len(ps) > 0 {
		t.Fatal(ps)
	}
	if got.Name != "010" || got.Ops["a"].Retry != 3 || !cmp.Equal(got.Tags, []string{"a", "01"}) {
		t.Errorf("got %+v", got)
	}
	n, _ = Parse("c.yaml", []byte("on: perhaps\nops:\n  a: {timeuot: 2s, retry: x}\ntags: a\n"))
	var lines []string
	for _, p := range n.Decode(&got) {
		lines = append(lines, p.String())
	}
	want := []string{
		"c.yaml:1:1: `name` is missing [field]",
		"c.yaml:1:5: `on` must be true or false [type]",
		"c.yaml:3:7: unknown field \"timeuot\"; did you mean \"timeout\"? [field]",
		"c.yaml:3:27: `retry` must be a whole number [type]",
		"c.yaml:4:7: `tags` must be a list, not a single value [type]",
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
}

func TestAt(t *testing.T) {
	n, _ := Parse("f", []byte("è: =ab.cd\nq: '=ab.cd'\nb: |\n  =ab\n  .cd\n"))
	for key, want := range map[string]Pos{"è": {"f", 1, 8}, "q": {"f", 2, 9}, "b": {"f", 5, 3}} {
		off := strings.Index(n.Get(key).Text, "cd")
		if key == "b" {
			off--
		}
		if got := n.Get(key).At(off); got != (Pos{"f", want.Line, map[string]int{"è": 8, "q": 9, "b": 3}[key]}) {
			t.Errorf("%s: got %v", key, got)
		}
	}
}

// A place in a text goes through the breaks and escapes of its source.
func TestAtFolded(t *testing.T) {
	for _, c := range []struct{ src, line, column string }{
		{`a: "=\"è\" + ab.cd"`, "1", "17"},
		{`a: '=''è'' + ab.cd'`, "1", "17"},
		{`a: "=\u00e8\x20\U0001F600 ab.cd"`, "1", "30"},
		{"a: =x +\n   ab.cd", "2", "7"},
		{"a: =x +\n\n\n   ab.cd", "4", "7"},
		{"a: \"=x +\n   ab.cd\"", "2", "7"},
		{"a: \"=x \\\n   ab.cd\"", "2", "7"},
		{"a: '=x +\n   ab.cd'", "2", "7"},
		{"a: >-\n  =x +\n  ab.cd\n", "3", "6"},
		{"a: >\n  =x +\n\n\n  ab.cd\n", "5", "6"},
		{"a: >\n  =x +\n    b\n  ab.cd\n", "4", "6"},
		{"a: >\n\n  =x + ab.cd\n", "3", "11"},
		{"a: |\n\n  =x + ab.cd\n", "3", "11"},
		{"a: [{b: \"=\\\"è\\\" + ab.cd\"}]", "1", "22"},
	} {
		n, ps := Parse("f", []byte(c.src))
		if len(ps) > 0 {
			t.Fatal(c.src, ps)
		}
		v := n.Get("a")
		if v.Kind == List {
			v = v.Items[0].Get("b")
		}
		got := v.At(strings.Index(v.Text, "cd"))
		if fmt.Sprint(got.Line) != c.line || fmt.Sprint(got.Column) != c.column {
			t.Errorf("%q: got %d:%d, want %s:%s", c.src, got.Line, got.Column, c.line, c.column)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a: 1", "a: {b: =f(1, 2)}", "if: !req.x", "a: &x [*x]", "a: =c ? a : b", "? {a: b}\n: c", "- - - a",
		"a: |\n  x\n  y\n", "a: >-\n x", "%YAML 1.2\n---\na", "\"a\nb\": c", "a: 'b' c", "{a", "[", "a:\n\t- b", "!<x> a", "a: \"\\x\"",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ps := Parse("f.yaml", []byte(s))
		if n == nil && len(ps) == 0 {
			t.Fatal("neither a node nor a problem")
		}
		lines := strings.Count(s, "\n") + 1
		for _, p := range ps {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Message == "" {
				t.Fatalf("problem without a place: %v of %q", p, s)
			}
		}
		if n != nil {
			n.Any()
			placed(t, n, lines)
		}
	})
}

// placed: every byte of every text has a place in the file.
func placed(t *testing.T, n *Node, lines int) {
	for i := 0; n.Kind == Scalar && i <= len(n.Text); i++ {
		if p := n.At(i); p.Line < n.Line || p.Line > lines+1 || p.Column < 1 {
			t.Fatalf("byte %d of %q is at %v", i, n.Text, p)
		}
	}
	for _, p := range n.Pairs {
		placed(t, p.Value, lines)
	}
	for _, it := range n.Items {
		placed(t, it, lines)
	}
}
