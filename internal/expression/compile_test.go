package expression

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/schema"
)

func typeFrom(t testing.TB, doc string) *schema.Type {
	t.Helper()
	s, err := schema.CompileBytes("test", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return s.Type()
}

// testScope is what a step of the residence route sees, and some more.
func testScope(t testing.TB) *Scope {
	obj := func(doc string) *schema.Type { return typeFrom(t, doc) }
	return NewScope(map[string]*schema.Type{
		"req": obj(`{"title":"the request","type":"object","properties":{"tax_code":{"type":"string","x-personal":true},"exemption":{"type":"string"},"n":{"type":"integer"},
			"amount":{"type":"integer","format":"cents"},"ratio":{"type":"number"},"when":{"type":"string","format":"date-time"},"tags":{"type":"array","items":{"type":"string"}},
			"family":{"type":"array","items":{"type":"object","properties":{"name":{"type":"string","x-personal":true},"age":{"type":"integer"},"nick":{"type":"string"},"share":{"type":"integer","format":"cents"}},"required":["name","age","share"]}},
			"address":{"type":"object","properties":{"street":{"type":"string"},"number":{"type":"string"}},"required":["street"]}},
			"required":["tax_code","n","amount","ratio","when","tags","family"]}`),
		"resident": obj(`{"title":"resident","type":"object","properties":{"status":{"enum":["active","moved","dead"]},"name":{"type":"string","x-personal":true},"since":{"type":"string","format":"date"}},"required":["status","name"]}`),
		"position": obj(`{"title":"position","type":"object","properties":{"iuv":{"type":"string"},"checkout_url":{"type":"string"},"payer":{"type":"object","properties":{"name":{"type":"string"}}}},"required":["iuv","checkout_url"]}`).AsOptional(),
		"cfg":      obj(`{"type":"object","properties":{"stamp_exemptions":{"type":"array","items":{"type":"string"}},"limit":{"type":"integer"},"on":{"type":"boolean"}},"required":["stamp_exemptions","limit","on"]}`),
		"caller":   obj(`{"type":"object","properties":{"assurance":{"type":"integer"},"channel":{"type":"string"},"tax_code":{"type":"string","x-personal":true}},"required":["assurance"]}`),
		"run":      schema.ObjectOf([]string{"id", "url", "accepted_at"}, map[string]*schema.Type{"id": {Kind: schema.String}, "url": {Kind: schema.String}, "accepted_at": {Kind: schema.Time}}),
		"raw":      {},
		"prices":   obj(`{"type":"object","additionalProperties":{"type":"integer","format":"cents"}}`),
	})
}

var wantBool = Options{Want: &schema.Type{Kind: schema.Bool}}

func TestTypes(t *testing.T) {
	sc := testScope(t)
	tests := []struct{ src, want string }{
		{`req.n + 1`, "integer"},
		{`req.n / 2`, "number"},
		{`req.amount + 100`, "amount in cents"},
		{`req.amount * req.n`, "amount in cents"},
		{`sum(req.family, .share)`, "amount in cents"},
		{`map(req.family, .name)`, "list of strings"},
		{`map(req.family, {{"who": .name, "n": #index}})`, "list of objects"},
		{`first(req.family)`, "object or nil"},
		{`first(req.family)?.name ?? "nobody"`, "string"},
		{`position?.checkout_url`, "string or nil"},
		{`position?.payer?.name`, "string or nil"},
		{`resident.status`, `"active", "moved" or "dead"`},
		{`if req.n > 1 {"a"} else {"b"}`, `"a" or "b"`},
		{`req.n > 1 ? 1 : 2.5`, "1 or 2.5"},
		{`{a: 1, b: req.exemption}`, "object"},
		{`concat(req.tags, ["x"])`, "list of strings"},
		{`req.exemption ?? ""`, "string"},
		{`filter(req.family, .nick != nil and len(.nick) > 2)`, "list of objects"},
		{`map(filter(req.family, .nick != nil), .nick)`, "list of strings"},
		{`run.accepted_at + days(3)`, "time"},
		{`now() - run.accepted_at`, "period"},
		{`prices["x"]`, "amount in cents or nil"},
		{`prices.x ?? 0`, "amount in cents"},
		{`raw.a.b.c`, "any value"},
		{`let x = req.exemption; x == nil ? "" : x`, "string"},
		{`reduce(req.family, #acc + .age, 0)`, "integer"},
		{`split_cents(req.amount, 3)`, "list of amounts in cents"},
		{`rank(req.family, ["-age", "name"])[0].rank`, "integer"},
		{`req.tags[1:]`, "list of strings"},
		{`groupBy(req.family, .name)["x"]`, "list of objects or nil"},
		{`max(req.n, 3)`, "integer"},
		{`keys(prices)`, "list of strings"},
		{`[]`, "list"},
		{`req.tags == [] ? [] : req.tags`, "list of strings"},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			e, problems := Compile(tt.src, sc, Options{})
			if problems != nil {
				t.Fatal(problems)
			}
			if got := e.Type.String(); got != tt.want {
				t.Errorf("type is %s, want %s", got, tt.want)
			}
		})
	}
}

// each case is the source with ^ before the place of the problem
func TestProblems(t *testing.T) {
	sc := testScope(t)
	tests := []struct {
		src, rule, message string
		opt                Options
	}{
		{`resident.^statu == "active"`, "name", `resident has no "statu"; did you mean "status"?`, wantBool},
		{`resident.status == ^"activ"`, "enum", `"activ" is not a legal value: it takes "active", "moved" or "dead"; did you mean "active"?`, wantBool},
		{`resident.status in ["active", ^"mooved"]`, "enum", `did you mean "moved"?`, wantBool},
		{`req.tax_code in ^resident`, "type", "this object's are: name, since, status", wantBool},
		{`^"statu" in resident`, "name", `did you mean "status"?`, wantBool},
		{`^position.checkout_url`, "nil", "position may be nil here: write position?.checkout_url, or check it first", Options{}},
		{`len(^req.exemption) > 3`, "nil", "req.exemption may be nil here: give a default (req.exemption ?? ...), or check it first", wantBool},
		{`^req.exemption in cfg.stamp_exemptions`, "nil", "", wantBool},
		{`^req.n`, "bool", "this must be true or false, not an integer", wantBool},
		{`cfg.on and ^req.n`, "bool", "and needs true or false, not an integer", wantBool},
		{`not ^req.tax_code`, "bool", `not needs true or false, not a string; compare it: req.tax_code == "..."`, wantBool},
		{`^req.n == "1"`, "type", `== compares an integer with "1", which are never equal`, wantBool},
		{`^req.amount * 1.22`, "cents", "floating arithmetic on cents", Options{}},
		{`^req.amount / 3`, "cents", "split_cents", Options{}},
		{`^req.amount > 16.50`, "cents", "euros with cents", wantBool},
		{`round(^req.amount)`, "cents", "", Options{}},
		{`^resi.status`, "name", `"resi" is not known here`, Options{}},
		{`^residnt.status`, "name", `did you mean "resident"?`, Options{}},
		{`^secret.key`, "name", "secrets do not exist in expressions", Options{}},
		{`^$env["x"]`, "name", "$env is not available", Options{}},
		{`^get(req, "n")`, "name", "there is no function get(): read the property by its name", Options{}},
		{`req[^req.tax_code]`, "type", "a computed key cannot be checked", Options{}},
		{`^summ(req.family, .n) > 1`, "name", `there is no function summ(); did you mean "sum"?`, wantBool},
		{`len(req.tags) > 0 and ^fliter(req.family, (#.n)) == nil`, "name", `did you mean "filter"?`, wantBool},
		{`^callr.may_act_for("x")`, "name", `did you mean "caller"?`, wantBool},
		{`^uper("a")`, "name", `there is no function uper(); did you mean "upper"?`, Options{}},
		{`^random()`, "name", "exists only in `set` and `with`", Options{}},
		{`^if cfg.on {1} else {"a"}`, "type", `the two branches give 1 and "a"; give both one type`, Options{}},
		{`^req.n ?? "x"`, "type", "?? gives", Options{}},
		{`[1, ^"a"]`, "type", "the items of a list give", Options{}},
		{`map(req.family, {"x"^: .name})`, "syntax", `{{"x": .v}}`, Options{}},
		{`duration(^"720h")`, "type", "720h is elapsed time, not 30 days (the clocks change twice a year): write days(30)", Options{}},
		{`^now() - run.accepted_at > days(3)`, "type", "elapsed time cannot be compared with calendar days", wantBool},
		{`^0.1 + 0.2 == 0.3`, "type", "0.1 + 0.2 != 0.3", wantBool},
		{`req.tax_code ^= "x"`, "syntax", "write == for equality", wantBool},
		{`cfg.on ^& cfg.on`, "syntax", "", wantBool},
		{`(cfg.on`, "syntax", "the expression ends too early", wantBool},
		{`^`, "syntax", "an expression must stand here", Options{}},
		{`1; ^2`, "syntax", "", Options{}},
		{`req.tags.^name`, "type", `a list has no "name": take one item, or map(..., .name)`, Options{}},
		{`map(req.family, .^nam)`, "name", `did you mean "name"?`, Options{}},
		{`req.when ^matches req.tax_code`, "type", "the pattern of `matches` must be written out", Options{}},
		{`req.tags[^"a"]`, "type", "", Options{}},
		{`^"a" + 1`, "type", `write string(...) around the number`, Options{}},
		{`caller.^acts_for("x")`, "name", `there is no method acts_for()`, Options{}},
		{`req.tax_code.^upper()`, "name", `write upper(...)`, Options{}},
		{`let req = 1; req`, "name", `"req" is already a name here`, Options{}},
		{`^nil`, "nil", "nil cannot stand here", wantBool},
		{`^position?.iuv`, "nil", "position.iuv may be nil here, where a string is required", Options{Want: &schema.Type{Kind: schema.String}}},
		{`{street: ^req.n}`, "type", "street: must be a string, not an integer", Options{Want: &schema.Type{Kind: schema.Object, Fields: map[string]*schema.Field{"street": {Type: &schema.Type{Kind: schema.String}, Required: true}}}}},
		{`^` + strings.Repeat("1+", 2500) + `1`, "bounds", "the expression has 5001 bytes, more than 4096", Options{}},
		{`^` + strings.Repeat("1+", 600) + `1`, "bounds", "", Options{}},
		{`^` + strings.Repeat("-", 100) + `1`, "bounds", "", Options{}},
		{`"è" + ^req.exemptio`, "name", "", Options{}},
		{`working_days(^"3")`, "type", "working_days needs an integer here", Options{}},
		{`next_local(^"7")`, "type", "no time of day", Options{}},
		{`rank(req.family, ^["-agee"])`, "name", `did you mean "age"?`, Options{}},
		{`iuv_valid^`, "name", "", Options{}},
	}
	for _, tt := range tests {
		t.Run(tt.src[:min(len(tt.src), 40)], func(t *testing.T) {
			at := strings.IndexByte(tt.src, '^')
			src := strings.Replace(tt.src, "^", "", 1)
			_, problems := Compile(src, sc, tt.opt)
			if len(problems) != 1 {
				t.Fatalf("%d problems: %v", len(problems), problems)
			}
			p := problems[0]
			if p.Rule != tt.rule || !strings.Contains(p.Message, tt.message) {
				t.Errorf("got %+v", p)
			}
			if at >= 0 && p.Offset != at && !strings.HasSuffix(tt.src, "^") && !strings.Contains(tt.src, "; ^") && !strings.Contains(tt.src, "^matches") && !strings.Contains(tt.src, `tags[^`) && !strings.Contains(tt.src, "exemptio") {
				t.Errorf("offset is %d, want %d: %s", p.Offset, at, p.Message)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, problems := Compile(`resident.statu == "x" and req.exemptio == nil and position.iuv == 1`, testScope(t), wantBool)
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%d %s", p.Offset, p.Rule))
	}
	if diff := cmp.Diff([]string{"9 name", "30 name", "50 nil", "50 type"}, got); diff != "" {
		t.Error(diff, problems)
	}
}

func TestNarrowing(t *testing.T) {
	sc := testScope(t)
	good := []string{
		`req.exemption == nil or req.exemption in cfg.stamp_exemptions`,
		`position != nil and position.iuv == "x"`,
		`position == nil or position.iuv == "x"`,
		`not (position == nil) and position.iuv == "x"`,
		`if position != nil {position.iuv == "x"} else {false}`,
		`position == nil ? false : position.iuv == "x"`,
		`position?.iuv == "x" and position.checkout_url != ""`,
		`position?.payer?.name != nil and len(position.payer.name) > 1`,
		`(position?.payer?.name ?? "") == ""`,
		`(position == nil or req.exemption == nil) or len(position.iuv + req.exemption) > 1`,
		`all(req.family, .nick == nil or len(.nick) > 1)`,
		`let p = position; p != nil and p.iuv == "x"`,
		`req.address?.street == "x" and req.address.number == nil`,
	}
	for _, src := range good {
		if _, problems := Compile(src, sc, wantBool); problems != nil {
			t.Errorf("%s: %v", src, problems)
		}
	}
	bad := []string{
		`position != nil or position.iuv == "x"`,
		`position == nil and position.iuv == "x"`,
		`if position == nil {position.iuv == "x"} else {false}`,
		`(position != nil or cfg.on) and position.iuv == "x"`,
		`position.payer != nil`,
		`position?.iuv == req.exemption and position.iuv == "x"`,
		`all(req.family, len(.nick) > 1)`,
	}
	for _, src := range bad {
		_, problems := Compile(src, sc, wantBool)
		if len(problems) != 1 || problems[0].Rule != "nil" {
			t.Errorf("%s: %v", src, problems)
		}
	}
	e, _ := Compile(`position?.payer != nil`, sc, wantBool)
	if diff := cmp.Diff([]string{"position", "position.payer"}, e.TrueFacts()); diff != "" {
		t.Error(diff)
	}
	if len(e.FalseFacts()) != 0 {
		t.Error(e.FalseFacts())
	}
	after := sc.Narrow(e.TrueFacts())
	if _, problems := Compile(`position.payer.name == "x"`, after, wantBool); problems != nil {
		t.Error(problems)
	}
	if after.Lookup("position").MayBeNil() || !sc.Lookup("position").MayBeNil() {
		t.Error("Narrow must change the new scope only")
	}
	e, _ = Compile(`position == nil`, sc, wantBool)
	if diff := cmp.Diff([]string{"position"}, e.FalseFacts()); diff != "" {
		t.Error(diff)
	}
}

func TestFacts(t *testing.T) {
	sc := testScope(t)
	e, problems := Compile(`req.tax_code + (position?.iuv ?? "") + string(cfg.limit)`, sc, Options{})
	if problems != nil {
		t.Fatal(problems)
	}
	if diff := cmp.Diff([]string{"cfg", "position", "req"}, e.Refs()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"cfg", "cfg.limit", "position", "position.iuv", "req", "req.tax_code"}, e.Paths()); diff != "" {
		t.Error(diff)
	}
	for src, want := range map[string]bool{
		`req.tax_code + "x"`: true, `len(req.tags)`: false, `upper(req.tax_code)`: true, `mask(req.tax_code)`: false,
		`map(req.family, .name)`: true, `map(req.family, .age)`: false, `req.family`: true, `{a: req.tax_code}`: true,
		`resident.name == "x"`: true, `if resident.name == "x" {1} else {2}`: true, `filter(req.family, .age > 3)[0].age`: false,
		`join(map(req.family, .name), ", ")`: true,
	} {
		e, problems := Compile(src, sc, Options{})
		if problems != nil {
			t.Fatal(src, problems)
		}
		if got := schema.HasPersonal(e.Type); got != want {
			t.Errorf("%s: personal is %v", src, got)
		}
	}
	for src, want := range map[string]bool{`1 + 2`: true, `"x"`: true, `req.n`: false, `now()`: false, `[1,2]`: true} {
		e, _ := Compile(src, sc, Options{})
		if e.IsLiteral() != want {
			t.Errorf("IsLiteral(%s) = %v", src, !want)
		}
	}
	if !Reserved("in") || Reserved("inn") || Reserved("") || Reserved("not in") {
		t.Error("Reserved")
	}
	if e, _ := Compile(`0`, sc, Options{}); sc.With("n", e.Type).Lookup("n").Enum != nil {
		t.Error("With must forget literals")
	}
}

func TestWhere(t *testing.T) {
	event := typeFrom(t, `{"type":"object","properties":{"iuv":{"type":"string"},"kind":{"enum":["a","b"]},"amount":{"type":"integer"},"ref":{"type":"object","properties":{"id":{"type":"string"}}}},"required":["iuv","kind"]}`)
	sc := testScope(t).With("event", event)
	in := sc.Narrow([]string{"position"})
	_, problems := CompileWhere(`event.kind == "a" and position.iuv == event.iuv and event.amount > req.n and event?.ref?.id == run.id`, in)
	if problems == nil {
		t.Fatal("event.amount may be nil")
	}
	w, problems := CompileWhere(`event.kind == "a" and position.iuv == event.iuv and (event.amount ?? 0) > req.n and event.ref?.id == run.id`, in)
	if problems != nil {
		t.Fatal(problems)
	}
	if w.Shape != "iuv,kind,ref.id" || w.Key[0].Value.Source != "position.iuv" || w.Key[0].Offset != 22 || w.Rest.Source != "(event.amount ?? 0) > req.n" {
		t.Errorf("%+v %q", w, w.Rest.Source)
	}
	v, err := w.Key[0].Value.Eval(&Env{Vars: map[string]any{"position": map[string]any{"iuv": "01"}}})
	if v != "01" || err != nil {
		t.Error(v, err)
	}
	for src, want := range map[string]string{
		`event.iuv == "x"`:                               "every run would wait for the same event",
		`event.amount == cfg.limit`:                      "every run would wait for the same event",
		`event.iuv == position.iuv or event.kind == "a"`: "no `event.PATH == X`",
		`event.iuv != position.iuv`:                      "no `event.PATH == X`",
		`event.iuv == event.kind`:                        "no `event.PATH == X`",
		`event.iuv == req.n`:                             "never equal",
		`event.iuvv == position.iuv`:                     `did you mean "iuv"?`,
		`event.iuv == run.accepted_at`:                   "never equal",
		`event.iuv == position.iuv and event.iuv == "x"`: "stands twice",
		`upper(event.iuv) == position.iuv`:               "no `event.PATH == X`",
	} {
		_, problems := CompileWhere(src, in)
		if len(problems) == 0 || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%s: %v", src, problems)
		}
	}
	// behind the key both sides are there
	w, problems = CompileWhere(`event.ref?.id == run.id and event.ref.id != "" and event.iuv == position?.iuv and position.checkout_url != ""`, sc)
	if problems != nil || w.Rest.Source != `event.ref.id != "" and position.checkout_url != ""` {
		t.Error(w, problems)
	}
}
