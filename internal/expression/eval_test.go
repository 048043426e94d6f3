package expression

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

func rome(t testing.TB) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal("no time zones on this machine: ", err)
	}
	return loc
}

func testEnv(t testing.TB) *Env {
	loc := rome(t)
	return &Env{
		Zone: loc,
		Now:  func() time.Time { return time.Date(2026, 11, 23, 8, 30, 0, 0, loc) },
		Vars: map[string]any{
			"req": map[string]any{"tax_code": "RSSMRA80A01L736U", "n": 3, "amount": 1601, "ratio": 0.5, "when": "2026-11-24T10:00:00+01:00",
				"tags": []any{"b", "a"}, "family": []any{
					map[string]any{"name": "Anna", "age": 40, "share": 10, "nick": "Annina"},
					map[string]any{"name": "Bruno", "age": 12, "share": 20},
					map[string]any{"name": "Carla", "age": 40, "share": 30}}},
			"resident": map[string]any{"status": "active", "name": "Maria", "since": "2020-03-01"},
			"cfg":      map[string]any{"stamp_exemptions": []any{"x"}, "limit": 5, "on": true},
			"caller":   map[string]any{"assurance": 2, "tax_code": "RSSMRA80A01L736U"},
			"run":      map[string]any{"id": "r1", "url": "/v1/runs/r1", "accepted_at": "2026-03-27T12:00:00+01:00"},
			"raw":      map[string]any{"a": map[string]any{"b": map[string]any{}}, "big": math.MaxInt},
			"prices":   map[string]any{"x": 100},
		},
	}
}

func TestEval(t *testing.T) {
	sc, env := testScope(t), testEnv(t)
	tests := []struct {
		src  string
		want any
	}{
		{`req.n + 1`, 4},
		{`req.n / 2`, 1.5},
		{`caller.assurance >= 2 and caller.may_act_for(req.tax_code)`, true},
		{`caller.may_act_for("other")`, false},
		{`position?.iuv ?? "none"`, "none"},
		{`position == nil`, true},
		{`req.exemption == nil or req.exemption in cfg.stamp_exemptions`, true},
		{`sum(req.family, .share)`, 60},
		{`map(filter(req.family, .age > 18), {{"n": .name, "i": #index}})`, []any{map[string]any{"n": "Anna", "i": 0}, map[string]any{"n": "Carla", "i": 1}}},
		{`find(req.family, .age < 18)?.name`, "Bruno"},
		{`findIndex(req.family, .age > 90)`, nil},
		{`sortBy(req.family, .age)[0].name`, "Bruno"},
		{`map(sortBy(req.family, .age, "desc"), .name)`, []any{"Anna", "Carla", "Bruno"}},
		{`sort(req.tags)`, []any{"a", "b"}},
		{`reduce(req.family, #acc + .age, 0)`, 92},
		{`map(rank(req.family, ["-age"]), string(.rank) + .name)`, []any{"1Anna", "1Carla", "3Bruno"}},
		{`map(rank(req.family, ["nick", "-name"]), .name)`, []any{"Anna", "Carla", "Bruno"}},
		{`split_cents(req.amount, 3)`, []any{534, 534, 533}},
		{`split_cents(-100, 3)`, []any{-34, -33, -33}},
		{`split_cents(100, [1, 2, 0])`, []any{34, 66, 0}},
		{`mask(req.tax_code)`, "***36U"},
		{`mask("short")`, "***"},
		{`tax_code_valid(req.tax_code) and not tax_code_valid("x") and iuv_valid("301011100007347557")`, true},
		{`len("città") + indexOf("è qui", "qui")`, 7},
		{`"città"[4:]`, "à"},
		{`req.tags[-1]`, "a"},
		{`req.tags[5:9]`, []any{}},
		{`run.accepted_at`, "2026-03-27T12:00:00+01:00"},
		{`run.accepted_at + days(3)`, "2026-03-30T12:00:00+02:00"}, // the clocks change on the 29th
		{`run.accepted_at + duration("23h")`, "2026-03-28T11:00:00+01:00"},
		{`run.accepted_at + working_days(6)`, "2026-04-07T12:00:00+02:00"}, // Easter Monday is the 6th
		{`now() < req.when`, true},
		{`now() < run.accepted_at`, false},
		{`date("2026-11-24") > now()`, true},
		{`now() - instant("2026-11-23T08:00:00+01:00") == duration("30m")`, true},
		{`next_local("07:00")`, "2026-11-24T07:00:00+01:00"},
		{`next_local("09:00")`, "2026-11-23T09:00:00+01:00"},
		{`days(3) + duration("2h")`, "P3DT7200S"},
		{`{at: now(), list: [now()]}`, map[string]any{"at": "2026-11-23T08:30:00+01:00", "list": []any{"2026-11-23T08:30:00+01:00"}}},
		{`(groupBy(req.family, string(.age))["40"] ?? []) | map(.name)`, []any{"Anna", "Carla"}},
		{`first([]) ?? "x"`, "x"},
		{`max(map(req.family, .age)) ?? 0`, 40},
		{`let n = req.n; n * n`, 9},
		{`keys({b: 1, a: 2})`, []any{"a", "b"}},
		{`values({b: 1, a: 2})`, []any{2, 1}},
		{`uniq([1, 1.0, 2])`, []any{1, 2}},
		{`1..3`, []any{1, 2, 3}},
		{`replace("a-b", "-", "+")`, "a+b"},
		{`raw.a.b.c`, nil},
		{`raw.a.x?.y.z`, nil},
		{`"x" in prices`, true},
		{`req.tax_code matches "^[A-Z0-9]{16}$"`, true},
		{`int("12") + int(3.9)`, 15},
		{`(resident.since ?? "") < "2021-01-01"`, true},
		{`date(resident.since ?? "2020-01-01") + days(1)`, "2020-03-02T00:00:00+01:00"},
		{`count(req.family, .age == 40)`, 2},
		{`reduce(map(req.family, count(req.tags, true) + .share), #acc + #, 0)`, 66},
		{`one(req.family, .age == 12) and none(req.family, .age == 1) and any(req.family, .nick == nil)`, true},
		{`all(req.family, all(req.tags, len(#) == 1))`, true},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			e, problems := Compile(tt.src, sc, Options{})
			if problems != nil {
				t.Fatal(problems)
			}
			got, err := e.Eval(env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if bad := schema.Assignable(e.Type, e.Type); bad != nil {
				t.Error("the type does not fit itself:", bad)
			}
		})
	}
}

func TestEvalWantsAnInstant(t *testing.T) {
	sc, env := testScope(t), testEnv(t)
	e, problems := Compile(`next_local("07:00")`, sc, Options{Want: &schema.Type{Kind: schema.Time}})
	if problems != nil {
		t.Fatal(problems)
	}
	if v, err := e.Eval(env); err != nil || !v.(time.Time).Equal(time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)) {
		t.Error(v, err)
	}
	e, problems = Compile(`days(2)`, sc, Options{Want: &schema.Type{Kind: schema.Period}})
	if problems != nil {
		t.Fatal(problems)
	}
	if v, _ := e.Eval(env); v != (Period{Days: 2}) {
		t.Error(v)
	}
}

func TestEvalFails(t *testing.T) {
	sc, env := testScope(t), testEnv(t)
	for src, want := range map[string]string{
		`raw.x.y`:              "raw.x is nil and has no y",
		`raw.a.b.c.d`:          "raw.a.b.c is nil and has no d",
		`raw.big + 1`:          "does not fit 64 bits",
		`raw.big * 2`:          "does not fit 64 bits",
		`-(-raw.big - 1)`:      "does not fit 64 bits",
		`1 / (req.n - 3)`:      "division by zero",
		`req.n % 0`:            "division by zero",
		`req.tags[7]`:          "outside the list",
		`int("abc")`:           "the string is no integer",
		`raw.a + 1`:            "+ cannot take an object and an integer",
		`date(req.tax_code)`:   "no date",
		`raw.a and true`:       "and needs true or false, not an object",
		`sort([raw.a, raw.a])`: "sorting cannot compare",
		`raw.a > 1`:            "> cannot take",
		`reduce([], #acc)`:     "first value",
		`map(raw.a, #)`:        "a list must stand here, not an object",
		`split_cents(1, [0])`:  "add up to 0",
	} {
		e, problems := Compile(src, sc, Options{})
		if problems != nil {
			t.Errorf("%s: %v", src, problems)
			continue
		}
		v, err := e.Eval(env)
		var fe *fault.Error
		if !errors.As(err, &fe) || fe.Kind != fault.Internal || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "`"+src+"`") {
			t.Errorf("%s gave %v, %v", src, v, err)
		}
		if err != nil && strings.Contains(err.Error(), "RSSMRA") {
			t.Errorf("%s: the error tells a value: %v", src, err)
		}
	}
	e, problems := Compile(`raw.a`, sc, wantBool)
	if problems != nil {
		t.Fatal(problems)
	}
	if _, err := e.Eval(env); err == nil {
		t.Error("an open value that is no boolean must not pass as a condition")
	}
}

// The known bombs of trust.md, and ours: each must end by a bound.
func TestBounds(t *testing.T) {
	sc := NewScope(map[string]*schema.Type{"raw": {}, "s": {Kind: schema.String}})
	l := make([]any, 10_000)
	for i := range l {
		l[i] = map[string]any{"i": i, "s": "x"}
	}
	env := &Env{Vars: map[string]any{"raw": map[string]any{"l": l}, "s": strings.Repeat("ab", 100_000)}}
	for _, src := range []string{
		`reduce(1..40, #acc + #acc, "x")`,
		`reduce(1..60, concat(#acc, #acc), [1])`,
		`repeat(repeat("x", 10000), 10000)`,
		`repeat("x", 9223372036854775807)`,
		`1..9223372036854775807`,
		`-9223372036854775807..9223372036854775807`,
		`map(1..1000000, 1..1000)`,
		`count(1..100000, count(1..100000, true) > 0)`,
		`uniq(map(1..200000, #))`,
		`replace(s, "", s)`,
		`map(1..100000, replace(s, "a", "bb"))`,
		`count(raw.l, raw.l == raw.l) > 0`,
		`map(1..100000, s matches "(a*b*)*c$")`,
		`map(1..100000, s contains "abc")`,
		`map(1..1000000, split(s, ""))`,
		`map(1..100000, sortBy(raw.l, .s))`,
		`join(map(1..1000000, s), s)`,
		`map(1..1000000, upper(s))`,
		`map(1..1000000, len(s))`,
		`map(1..1000000, {{"a": {"b": {"c": s}}}})`,
		`reduce(1..1000000, [#acc, #acc], [])`,
		`flatten(map(1..3000, raw.l))`,
		`map(1..1000000, rank(raw.l, ["i"]))`,
		`map(1..1000000, now() + working_days(3660))`,
		`map(1..1000000, trim(s, s))`,
	} {
		e, problems := Compile(src, sc, Options{})
		if problems != nil {
			// Types may refuse it first, which is as good.
			t.Logf("%s is refused: %v", src, problems)
			continue
		}
		if v, err := e.Eval(env); err == nil {
			t.Errorf("%s ended with a value of kind %T", src, v)
		} else if !errors.Is(err, errTime) && !errors.Is(err, errMemory) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestWall(t *testing.T) {
	loc := rome(t)
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		y       int
		m       time.Month
		d, h, n int
		want    string
	}{
		{2026, 3, 29, 2, 30, "2026-03-29T03:00:00+02:00"}, // gap: the first instant after it
		{2026, 3, 29, 2, 0, "2026-03-29T03:00:00+02:00"},
		{2026, 3, 29, 3, 0, "2026-03-29T03:00:00+02:00"},
		{2026, 3, 29, 1, 59, "2026-03-29T01:59:00+01:00"},
		{2026, 10, 25, 2, 30, "2026-10-25T02:30:00+01:00"}, // overlap: the second
		{2026, 10, 25, 1, 30, "2026-10-25T01:30:00+02:00"},
		{2026, 10, 25, 3, 0, "2026-10-25T03:00:00+01:00"},
		{2026, 7, 1, 0, 0, "2026-07-01T00:00:00+02:00"},
		{2026, 1, 32, 0, 0, "2026-02-01T00:00:00+01:00"},
	} {
		if got := wall(tt.y, tt.m, tt.d, tt.h, tt.n, 0, 0, loc); !got.Equal(at(tt.want)) {
			t.Errorf("%+v is %v", tt, got)
		}
	}
	p := Period{Days: 1, Elapsed: time.Hour}
	if got := p.After(at("2026-03-28T02:30:00+01:00"), loc); !got.Equal(at("2026-03-29T04:00:00+02:00")) {
		t.Error(got)
	}
	if got := (Period{Working: -1}).After(at("2026-04-07T10:00:00+02:00"), loc); !got.Equal(at("2026-04-03T10:00:00+02:00")) {
		t.Error(got)
	}
	for day, want := range map[string]bool{
		"2026-04-06": false, "2027-03-29": false, "2026-04-07": true, "2026-08-15": false, "2026-10-04": false, "2025-10-04": false,
		"2027-10-04": false, "2024-10-04": true, "2026-12-24": true, "2026-12-26": false, "2026-06-02": false,
	} {
		d, _ := time.Parse(time.DateOnly, day)
		if WorkingDay(d) != want {
			t.Errorf("WorkingDay(%s) = %v", day, !want)
		}
	}
	for _, p := range []Period{{}, {Days: 3}, {Working: -2, Elapsed: 90 * time.Second}, {Days: 1, Working: 2, Elapsed: time.Millisecond}} {
		if got, err := ParsePeriod(p.String()); err != nil || got != p {
			t.Errorf("%v became %v, %v", p, got, err)
		}
	}
	for _, bad := range []string{"", "P", "3D", "PX", "P3", "PT", "P99999999D", "P1DT"} {
		if p, err := ParsePeriod(bad); err == nil && bad != "P" {
			t.Errorf("ParsePeriod(%q) = %v", bad, p)
		}
	}
}

func BenchmarkEval(b *testing.B) {
	sc, env := testScope(b), testEnv(b)
	for _, src := range []string{`req.tax_code`, `resident.status == "active" and req.n > 2`, `position?.iuv ?? "none"`, `map(req.family, .name)`} {
		e, problems := Compile(src, sc, Options{})
		if problems != nil {
			b.Fatal(problems)
		}
		b.Run(src, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Eval(env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = Compile(`resident.status == "active" and req.n > 2`, sc, wantBool)
		}
	})
}
