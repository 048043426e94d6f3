package expression

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/expr-lang/expr"
	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/schema"
)

// FuzzCompile: whatever stands in a route file is compiled or refused, never a
// panic, and what compiles evaluates within bounds.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`req.n + 1`, `position?.payer?.name ?? "x"`, `map(req.family, {{"a": .name}})`, `map(l, {"x": .v})`, `if cfg.on {1} else {2}`,
		`let x = 1; x + x`, `rank(req.family, ["-age"])`, `a?.b?.[c].d`, `#`, `.x`, `::now()`, `b"x"`, `"\u00e8"`, "`raw`", `1..`, `{(1): 2}`,
		`req.tags[1:][0]`, `x | map(#)`, `!!true`, `- -1`, `0x1F + 0b1 + 0o7 + 1e3`, `not in`, `reduce(req.tags, #acc + #)`, `(((((`, `req.`, `?.`,
		`sum(req.family, .share) / 2`, `event.x == 1 and event.y == req.n`, `caller.may_act_for(req.tax_code)`, `if true {1} else if false {2} else {3}`,
	} {
		f.Add(s)
	}
	sc := testScope(f)
	env := testEnv(f)
	f.Fuzz(func(t *testing.T, src string) {
		e, problems := Compile(src, sc, Options{AllowRandom: true})
		if (e == nil) == (problems == nil) {
			t.Fatalf("%q gave %v and %v", src, e, problems)
		}
		for _, p := range problems {
			if p.Offset < 0 || p.Offset > len(src) || p.Rule == "" || p.Message == "" {
				t.Fatalf("%q: %+v", src, p)
			}
		}
		_, _ = CompileWhere(src, sc.With("event", &schema.Type{}))
		if e == nil {
			return
		}
		_ = e.Type.String()
		v, err := e.Eval(env)
		if err != nil {
			return
		}
		if _, err := schema.Canonical(v); err != nil && !strings.Contains(err.Error(), "not a number of JSON") {
			t.Fatalf("%q gave a value outside the engine's kinds: %v", src, err)
		}
	})
}

// gen makes expressions from bytes: the allow-list over variables of open type,
// with nil, absent and large-integer values behind them.
type gen struct {
	b []byte
	n int
}

func (g *gen) pick(n int) int {
	if len(g.b) == 0 {
		return 0
	}
	v := int(g.b[0])
	g.b = g.b[1:]
	return v % n
}

func (g *gen) of(choices ...func() string) string {
	if g.n++; g.n > 60 || len(g.b) == 0 {
		return choices[0]()
	}
	return choices[g.pick(len(choices))]()
}

func (g *gen) any() string {
	return g.of(g.path, g.bool, g.num, g.str, g.list, g.obj, g.coalesce, g.cond)
}

func (g *gen) path() string {
	names := []string{"v.i", "v.f", "v.s", "v.t", "v.l", "v.m", "v.nil", "v.none", "v.big", "v.min", "v.m.k", "v.m.none", "v.none?.x", "v.none.x", "v.m?.k", "v?.m?.none?.x.y",
		`v.m["k"]`, "v.l[0]", "v.l[-1]", "v.l[9]", "absent", "absent?.x", "v.objs[0].a", "v.objs", "v.nums", "v.strs", "v.nan", "v.l?.[1]", "v.none?.[1]", "v.bools"}
	return names[g.pick(len(names))]
}

func lits(l ...string) []string { return l }

func (g *gen) literal(l []string) string { return l[g.pick(len(l))] }

func (g *gen) num() string {
	return g.of(
		func() string {
			return g.literal(lits("0", "1", "2", "-1", "3", "9223372036854775807", "1.5", "0.0", "-2.5"))
		},
		g.path,
		func() string {
			return "(" + g.num() + g.literal(lits(" + ", " - ", " * ", " / ", " % ", " ** ")) + g.num() + ")"
		},
		func() string { return "-" + g.path() },
		func() string { return "len(" + g.any() + ")" },
		func() string {
			return g.literal(lits("abs(", "ceil(", "floor(", "round(", "int(", "float(")) + g.any() + ")"
		},
		func() string { return "sum(" + g.list() + ")" },
		func() string { return "sum(" + g.list() + ", " + g.item() + ")" },
		func() string { return "count(" + g.list() + ", " + g.pred() + ")" },
		func() string { return g.literal(lits("max(", "min(", "mean(", "median(")) + g.list() + ")" },
		func() string { return g.literal(lits("max(", "min(")) + g.num() + ", " + g.num() + ")" },
		func() string {
			return g.literal(lits("findIndex(", "findLastIndex(")) + g.list() + ", " + g.pred() + ")"
		},
		func() string {
			return "reduce(" + g.list() + ", " + g.literal(lits("#acc + #", "#", "#acc", "#acc * #", "# - #acc")) + ", " + g.num() + ")"
		},
		func() string { return "reduce(" + g.list() + ", #acc + #)" },
	)
}

func (g *gen) bool() string {
	return g.of(
		func() string { return g.literal(lits("true", "false", "v.t")) },
		func() string { return "(" + g.any() + g.literal(lits(" == ", " != ")) + g.any() + ")" },
		func() string { return "(" + g.num() + g.literal(lits(" < ", " > ", " <= ", " >= ")) + g.num() + ")" },
		func() string { return "(" + g.any() + g.literal(lits(" < ", " > ")) + g.any() + ")" },
		func() string { return "(" + g.bool() + g.literal(lits(" and ", " or ")) + g.bool() + ")" },
		func() string { return "not " + g.bool() },
		func() string { return "(" + g.any() + " in " + g.list() + ")" },
		func() string { return "(" + g.any() + " in " + g.any() + ")" },
		func() string {
			return "(" + g.str() + g.literal(lits(" contains ", " startsWith ", " endsWith ")) + g.any() + ")"
		},
		func() string { return "(" + g.any() + " matches " + g.literal(lits(`"^a"`, `"b+"`)) + ")" },
		func() string {
			return g.literal(lits("all(", "any(", "none(", "one(")) + g.list() + ", " + g.pred() + ")"
		},
		func() string { return g.literal(lits("hasPrefix(", "hasSuffix(")) + g.any() + ", " + g.str() + ")" },
		func() string { return "(" + g.path() + " == nil)" },
		func() string { return "count(v.bools) == 1" },
	)
}

func (g *gen) str() string {
	return g.of(
		func() string { return g.literal(lits(`"a"`, `""`, `"abc"`, `"b,c"`, `"12"`)) },
		g.path,
		func() string { return "(" + g.str() + " + " + g.any() + ")" },
		func() string {
			return g.literal(lits("upper(", "lower(", "trim(", "trimPrefix(", "trimSuffix(")) + g.any() + ")"
		},
		func() string { return "trim(" + g.str() + ", " + g.str() + ")" },
		func() string { return "string(" + g.of(g.num, g.bool, g.str) + ")" },
		func() string { return "join(" + g.list() + ", " + g.str() + ")" },
		func() string { return "replace(" + g.str() + ", " + g.str() + ", " + g.str() + ")" },
		func() string { return "repeat(" + g.str() + ", " + g.literal(lits("0", "3", "v.i", "-1")) + ")" },
		func() string { return g.str() + "[" + g.literal(lits("0", "1", "-1", "v.i", "9")) + ":]" },
		func() string { return "v.s[:" + g.literal(lits("0", "1", "-1", "v.f", "9")) + "]" },
	)
}

func (g *gen) list() string {
	return g.of(
		func() string { return g.literal(lits("v.l", "v.nums", "v.strs", "v.objs", "[]", "v.none", "v.bools")) },
		g.path,
		func() string { return "[" + g.path() + ", " + g.path() + "]" },
		func() string { return "[1, 2, 3]" },
		func() string {
			return g.literal(lits("0", "1", "v.i")) + ".." + g.literal(lits("0", "3", "v.i", "v.nil"))
		},
		func() string { return "map(" + g.list() + ", " + g.item() + ")" },
		func() string { return "filter(" + g.list() + ", " + g.pred() + ")" },
		func() string { return "concat(" + g.list() + ", " + g.path() + ")" },
		func() string { return g.literal(lits("reverse(", "uniq(", "flatten(", "sort(")) + g.list() + ")" },
		func() string { return `sortBy(v.nums, #, ` + g.literal(lits(`"asc"`, `"desc"`)) + ")" },
		func() string { return "sortBy(" + g.list() + ", " + g.literal(lits("#", ".a", "-#")) + ")" },
		func() string { return "take(" + g.list() + ", " + g.literal(lits("0", "1", "9")) + ")" },
		func() string { return "split(" + g.str() + ", " + g.literal(lits(`","`, `""`, `"a"`)) + ")" },
		func() string {
			return g.list() + "[" + g.literal(lits("0", "1", "-1", "9")) + ":" + g.literal(lits("1", "-1", "9")) + "]"
		},
	)
}

func (g *gen) obj() string {
	return g.of(
		func() string { return "v.m" },
		func() string { return `{"a": ` + g.any() + `, "b": ` + g.any() + "}" },
		func() string { return g.literal(lits("first(", "last(")) + g.list() + ")" },
		func() string { return g.literal(lits("find(", "findLast(")) + g.list() + ", " + g.pred() + ")" },
		func() string { return "groupBy(" + g.list() + ", " + g.literal(lits("#", "string(#)", ".s")) + ")" },
	)
}

func (g *gen) item() string {
	return g.of(
		func() string { return "#" },
		func() string {
			return g.literal(lits(".a", "#.a", "#?.a", ".s", "#index", "# + 1", "-#", `{"x": 1}["x"]`, "# ?? 0", ".a ?? #index"))
		},
		g.any,
	)
}

func (g *gen) pred() string {
	return g.of(
		func() string { return "# == 1" },
		func() string {
			return g.literal(lits("# > 1", ".a == 1", "#?.a != nil", "#index > 0", "# in v.l", "# != nil", "true", "#", "v.t", ".a > 0 and #index < 2"))
		},
		g.bool,
	)
}

func (g *gen) coalesce() string { return "(" + g.path() + " ?? " + g.any() + ")" }

func (g *gen) cond() string {
	return g.of(
		func() string { return "(" + g.bool() + " ? " + g.path() + " : " + g.path() + ")" },
		func() string { return "(if " + g.bool() + " {" + g.any() + "} else {" + g.path() + "})" },
		func() string { return "(let x = " + g.path() + "; [x, x])" },
	)
}

func fuzzVars() map[string]any {
	return map[string]any{"v": map[string]any{
		"i": 2, "f": 1.5, "s": "abc,b", "t": true, "nil": nil, "big": math.MaxInt, "min": math.MinInt, "nan": 0.25,
		"l": []any{1, nil, "a", 2.5, []any{1}}, "m": map[string]any{"k": 1, "n": nil, "l": []any{1.0}},
		"nums": []any{3, 1, 2.5, -1, math.MaxInt}, "strs": []any{"b", "a", ""}, "bools": []any{true, false},
		"objs": []any{map[string]any{"a": 1, "s": "x"}, map[string]any{"a": 2, "s": "y"}, map[string]any{"s": "x"}},
	}}
}

// allowed are the differences that ops.go documents.
func allowed(err error) bool {
	for _, s := range []string{"does not fit 64 bits", "and needs true or false", "or needs true or false", "division by zero", "no finite number",
		"groupBy needs a string", "keys are strings, not", "a list must stand here", "string takes a single value", "numbers must stand here", "[a:b] takes a list", "read by an integer"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return errors.Is(err, errTime) || errors.Is(err, errMemory)
}

// FuzzClosureAgainstExpr holds our evaluation to expr's own compiler and VM on
// expressions generated from the allow-list: equal values, and errors where it has errors.
func FuzzClosureAgainstExpr(f *testing.F) {
	for i := range 300 {
		seed := make([]byte, 40)
		x := uint32(i*2654435761 + 1)
		for j := range seed {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			seed[j] = byte(x)
		}
		f.Add(seed)
	}
	sc := NewScope(map[string]*schema.Type{"v": {}, "absent": {}})
	f.Fuzz(func(t *testing.T, b []byte) {
		src := (&gen{b: b}).any()
		compareWithExpr(t, sc, src)
	})
}

func compareWithExpr(t *testing.T, sc *Scope, src string) {
	t.Helper()
	e, problems := Compile(src, sc, Options{})
	if problems != nil {
		return // ours is stricter before running; that is its purpose
	}
	got, err := e.Eval(&Env{Vars: fuzzVars()})
	if i := strings.LastIndex(src, "find"); i > 0 {
		// expr 1.17's find leaves its condition on the stack when nothing is found, and
		// what stands around it takes its operands from there: only find itself compares.
		return
	}
	program, compileErr := expr.Compile(src, expr.Optimize(false)) // the optimizer drops operands that would fail
	if compileErr != nil {
		return // its checker refuses also what would never be reached
	}
	want, wantErr := expr.Run(program, fuzzVars())
	if wantErr != nil && strings.Contains(wantErr.Error(), "memory budget") {
		return
	}
	switch {
	case err != nil && wantErr != nil:
	case err != nil:
		if !allowed(err) {
			t.Fatalf("%s\nours fails: %v\nexpr gives %v", src, err, want)
		}
	case wantErr != nil:
		t.Fatalf("%s\nours gives %v\nexpr fails: %v", src, got, wantErr)
	default:
		if diff := cmp.Diff(kinds(want), got, cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })); diff != "" {
			t.Fatalf("%s\n(-expr +ours)\n%s", src, diff)
		}
	}
}

// kinds turns expr's typed slices and maps into the engine's kinds.
func kinds(v any) any {
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Slice:
		out := []any{}
		for i := range r.Len() {
			out = append(out, kinds(r.Index(i).Interface()))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range r.MapKeys() {
			out[fmt.Sprint(k.Interface())] = kinds(r.MapIndex(k).Interface())
		}
		return out
	}
	return v
}
