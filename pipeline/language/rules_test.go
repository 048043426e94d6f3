package language

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

const routeHead = "route: extra\nversion: 1\nfrom: {route: any}\nreq: fines/watch\nsubject: =req.iuv\npurpose: fine-notice\nsteps:\n"

// queued is a route that a broker of others feeds.
func queued(from, more string) string {
	return "route: extra\nversion: 1\nfrom: {" + from + "}\n" + more + "purpose: fine-notice\nsteps:\n  - set: {m: 1}\n"
}

// What the seeded mistakes do not reach: rules about a route as a whole, scopes
// and narrowing. want is "line:column [rule] fragment", or nothing.
func TestRules(t *testing.T) {
	deep := "  - each: =split(req.iuv, \"\")\n    item: x1\n    steps:\n"
	for i := 2; i <= 9; i++ {
		in := strings.Repeat("    ", i-1)
		deep += in + "  - each: =split(req.iuv, \"\")\n" + in + fmt.Sprintf("    item: x%d\n", i) + in + "    steps:\n"
	}
	deep += strings.Repeat("    ", 9) + "  - delay: 1s\n"
	for _, tt := range []struct{ name, src, want string }{
		{"sound", routeHead + "  - delay: 1s\n", ""},
		{"a circle", routeHead + "  - call: route.extra\n    with: {plate: x, iuv: y}\n", "8:11 [called] extra -> extra"},
		{"nesting", routeHead + deep, "[limits] nested deeper than 8"},
		{"500 steps", routeHead + strings.Repeat("  - delay: 1s\n", 501), "508:5 [limits] more than 500 steps"},
		{"two words", routeHead + "  - delay: 1s\n    emit: fines.paid\n", "9:5 [step] one kind"},
		{"narrowed by check", routeHead + "  - call: sanzioni.fines\n    as: f\n    if: req.iuv != \"\"\n    with: {plate: =req.plate}\n  - check: f != nil\n    else: {stop: nothing}\n  - each: =f.list\n    steps: [{delay: 1s}]\n", ""},
		{"not narrowed by a check that skips", routeHead + "  - call: sanzioni.fines\n    as: f\n    if: req.iuv != \"\"\n    with: {plate: =req.plate}\n  - check: f != nil\n    else: skip\n  - each: =f.list\n    steps: [{delay: 1s}]\n", "14:12 [nil]"},
		{"narrowed by the case", routeHead + "  - call: sanzioni.fines\n    as: f\n    if: req.iuv != \"\"\n    with: {plate: =req.plate}\n  - switch:\n      - case: f == nil\n        steps: [{delay: 1s}]\n    else:\n      - each: =f.list\n        steps: [{delay: 1s}]\n", ""},
		{"narrowed inside the case", routeHead + "  - call: sanzioni.fines\n    as: f\n    if: req.iuv != \"\"\n    with: {plate: =req.plate}\n  - switch:\n      - case: f != nil\n        steps:\n          - each: =f.list\n            steps: [{delay: 1s}]\n    else: none\n", ""},
		{"names of an each stay inside", routeHead + "  - each: =split(req.iuv, \"\")\n    steps: [{set: {n: 1}}]\n  - set: {m: =n}\n", "10:15 [name]"},
		{"a name of every case is there", routeHead + "  - switch:\n      - case: req.iuv == \"\"\n        steps: [{set: {n: 1}}]\n    else: [{set: {n: 2}}]\n  - set: {m: =n + 1}\n", ""},
		{"a name of the continuing case is there", routeHead + "  - switch:\n      - case: req.iuv == \"\"\n        steps: [{check: false, else: {stop: none}}]\n    else: [{set: {n: 2}}]\n  - set: {m: =n + 1}\n", ""},
		{"event outside where", routeHead + "  - set: {m: =event.iuv}\n", "8:15 [name] where"},
		{"item exists only inside", routeHead + "  - set: {m: =item}\n", "8:15 [name]"},
		{"inner each shadows item", routeHead + "  - each: =split(req.iuv, \"\")\n    steps:\n      - each: =split(item, \"\")\n        steps: [{delay: 1s}]\n", "10:9 [name] item: NAME"},
		{"value of an item", routeHead + "  - each: =split(req.iuv, \"\")\n    as: l\n    steps:\n      - delay: 1s\n", "11:9 [result] must be a `set`"},
		{"need above the branches", routeHead + "  - all: {need: 3, steps: {a: [{delay: 1s}], b: [{delay: 1s}]}}\n", "8:17 [limits] 2 branches"},
		{"streamed each", routeHead + "  - each: {from: {call: sanzioni.due}}\n    steps: [{delay: 1s}]\n", "8:5 [later]"},
		{"order_by of an each", routeHead + "  - each: =split(req.iuv, \"\")\n    order_by: =item\n    steps: [{delay: 1s}]\n", "9:5 [later]"},
		{"always", routeHead + "  - delay: 1s\nalways: []\n", "9:1 [later]"},
		{"delay of the wrong type", routeHead + "  - delay: =req.iuv\n", "8:12 [type] instant or a period"},
		{"check without else", routeHead + "  - check: req.iuv != \"\"\n", "8:12 [else] missing"},
		{"use on a check", routeHead + "  - check: req.iuv != \"\"\n    else: {use: 3}\n", "9:12 [else] no meaning"},
		{"random in a condition", routeHead + "  - check: random() > 0.5\n    else: skip\n", "8:12"},
		{"random in set", routeHead + "  - set: {m: =random()}\n", ""},
		{"use of another type", routeHead + "  - call: sanzioni.fines\n    as: f\n    with: {plate: =req.plate}\n    errors: {timeout: {use: {list: 3}}}\n", "11:36 [type]"},
		{"a fail inside each behind a commit", routeHead + "  - emit: fines.paid\n    with: {iuv: =req.iuv}\n    commit: true\n  - each: =split(req.iuv, \"\")\n    steps:\n      - check: item != \"0\"\n        else: {fail: zero}\n", ""},
		{"a fail behind a commit", routeHead + "  - emit: fines.paid\n    with: {iuv: =req.iuv}\n    commit: true\n  - check: req.iuv != \"0\"\n    else: {fail: zero}\n", "12:11 [commit]"},
		{"fed by a queue", queued("queue: contractor/paid", "req: fines/watch\n"), ""},
		{"fed by an exchange", queued("queue: {broker: contractor, exchange: paid}", "req: fines/watch\norder_by: =req.plate\n"), ""},
		{"fed by two queues", queued("queue: [contractor/a, {broker: contractor, exchange: paid, keys: [x.*, y]}]", "req: fines/watch\n"), ""},
		{"a queue without req", queued("queue: contractor/paid", ""), "3:15 [queue] `req` is missing"},
		{"a queue of others in order", queued("queue: contractor/paid", "req: fines/watch\norder_by: =req.plate\n"), "3:15 [order] {broker: contractor, exchange: NAME"},
		{"the default exchange", queued("queue: {broker: contractor, exchange: \"\"}", "req: fines/watch\n"), "[queue] contractor/QUEUE"},
		{"event in order", strings.Replace(routeHead, "version: 1", "version: 1\norder_by: =req.plate", 1) + "  - call: route.fine-watch\n    with: {plate: a, iuv: b}\n", "9:11 [order]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			city := baseCity(t)
			city["routes/extra.yaml"] = &fstest.MapFile{Data: []byte(tt.src)}
			got := lines(t, city)
			if tt.want == "" {
				if len(got) > 0 {
					t.Errorf("got %s", strings.Join(got, "\n"))
				}
				return
			}
			place, rest, _ := strings.Cut(tt.want, " ")
			if strings.HasPrefix(place, "[") {
				place, rest = "", tt.want
			}
			rule, fragment, _ := strings.Cut(rest, " ")
			for _, g := range got {
				if strings.HasPrefix(g, "routes/extra.yaml:"+place) && strings.HasSuffix(g, rule) && strings.Contains(g, fragment) {
					return
				}
			}
			t.Errorf("want %s, got %s", tt.want, strings.Join(got, "\n"))
		})
	}
}

// Every rule that a problem carries stands in the table that the documentation is made of.
func TestEveryRuleIsInTheTable(t *testing.T) {
	known := map[string]bool{}
	for _, r := range Rules() {
		if known[r.Name] || r.About == "" {
			t.Errorf("rule %q is there twice or says nothing", r.Name)
		}
		known[r.Name] = true
	}
	for _, r := range []string{"yaml", "nil", "enum", "type", "required", "where", "undo", "reply", "called", "unknown"} {
		if !known[r] {
			t.Errorf("rule %q is not in the table", r)
		}
	}
}
