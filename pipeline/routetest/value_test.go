package routetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

func parsed(t *testing.T, src string) *yamldoc.Node {
	t.Helper()
	n, ps := yamldoc.Parse("x.yaml", []byte(src))
	if len(ps) > 0 {
		t.Fatalf("parsing %q: %v", src, ps)
	}
	return n.Get("v")
}

func TestMerge(t *testing.T) {
	for _, tt := range []struct{ name, base, over, want string }{
		{"map by key", "{a: 1, b: 2}", "{b: 3}", "{a: 1, b: 3}"},
		{"deep", "{a: {x: 1, y: 2}, b: 1}", "{a: {y: 3}}", "{a: {x: 1, y: 3}, b: 1}"},
		{"empty map replaces", "{a: {x: 1}}", "{a: {}}", "{a: {}}"},
		{"list replaces", "{a: [1, 2]}", "{a: [3]}", "{a: [3]}"},
		{"scalar over map", "{a: 1}", "never", "never"},
		{"map over scalar", "never", "{a: 1}", "{a: 1}"},
		{"null replaces", "{a: 1, b: 2}", "{a: null}", "{a: null, b: 2}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, over := parsed(t, "v: "+tt.base), parsed(t, "v: "+tt.over)
			before, _ := base.Any()
			got, _ := merge(base, over).Any()
			want, _ := parsed(t, "v: "+tt.want).Any()
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("merge (-want +got):\n%s", d)
			}
			after, _ := base.Any()
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("the default was changed:\n%s", d)
			}
		})
	}
}

func TestReadByType(t *testing.T) {
	typ := &schema.Type{Kind: schema.Object, Fields: map[string]*schema.Field{
		"iuv":    {Type: &schema.Type{Kind: schema.String}, Required: true},
		"amount": {Type: &schema.Type{Kind: schema.Int, Format: "cents"}},
		"rate":   {Type: &schema.Type{Kind: schema.Number}},
		"note":   {Type: &schema.Type{Kind: schema.String, Nullable: true}},
		"gone":   {Type: &schema.Type{Kind: schema.String}},
		"tags":   {Type: &schema.Type{Kind: schema.Array, Items: &schema.Type{Kind: schema.String}}},
	}}
	r := &reader{}
	got := r.read(parsed(t, "v: {iuv: 0102, amount: 1600, rate: 2, note: null, gone: null, tags: [041041, 2026-01-02, yes]}"), typ)
	want := map[string]any{"iuv": "0102", "amount": 1600, "rate": 2.0, "note": nil, "tags": []any{"041041", "2026-01-02", "yes"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("read (-want +got):\n%s", d)
	}
	if len(r.problems) > 0 {
		t.Errorf("problems: %v", r.problems)
	}
	r = &reader{}
	r.read(parsed(t, "v: {unknown: 0102}"), typ)
	if len(r.problems) != 1 || r.problems[0].Column != 14 {
		t.Errorf("0102 where no schema says string must be refused at its place, got %v", r.problems)
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		name, want, got string
		bad             []mismatch
	}{
		{"subset", "{a: 1}", "{a: 1, b: 2}", nil},
		{"missing", "{a: 1}", "{b: 2}", []mismatch{{"/a", "1", "nothing"}}},
		{"null wants nothing", "{a: null}", "{b: 2}", nil},
		{"null wants null", "{a: null}", "{a: 2}", []mismatch{{"/a", "null", "2"}}},
		{"empty is exact", "{a: {}}", "{a: {b: 1}}", []mismatch{{"/a", "{}", "{b: 1}"}}},
		{"empty fits empty", "{a: {}}", "{a: {}}", nil},
		{"list is exact", "[1]", "[1, 2]", []mismatch{{"", "1: [1]", "2: [1, 2]"}}},
		{"maps in lists are subsets", "[{a: 1}]", "[{a: 1, b: 2}]", nil},
		{"order counts", "[1, 2]", "[2, 1]", []mismatch{{"/0", "1", "2"}, {"/1", "2", "1"}}},
		{"number", "2", "2.0", nil},
		{"number is not text", "2", "'2'", []mismatch{{"", "2", `"2"`}}},
		{"text is not map", "a", "{a: 1}", []mismatch{{"", "a", "{a: 1}"}}},
		{"escaped", "{a/b: 1}", "{a/b: 2}", []mismatch{{"/a~1b", "1", "2"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &reader{}
			num := &schema.Type{Kind: schema.Any}
			want := r.read(parsed(t, "v: "+tt.want), num)
			got := r.read(parsed(t, "v: "+tt.got), nil)
			if tt.name == "number" {
				want, got = 2, 2.0
			}
			if d := cmp.Diff(tt.bad, match(want, got, ""), cmp.AllowUnexported(mismatch{})); d != "" {
				t.Errorf("match (-want +got):\n%s", d)
			}
		})
	}
}

func TestFindPlace(t *testing.T) {
	n := parsed(t, "v:\n  a: {b: 1}\n  c:\n    - x\n    - {d/e: 2}\n")
	for _, tt := range []struct {
		pointer            string
		keyL, keyC, vL, vC int
	}{
		{"", 2, 3, 2, 3},
		{"/a", 2, 3, 2, 6},
		{"/a/b", 2, 7, 2, 10},
		{"/c/1", 5, 7, 5, 7},
		{"/c/1/d~1e", 5, 8, 5, 13},
		{"/a/missing", 2, 3, 2, 6},
		{"/c/9", 3, 3, 4, 5},
	} {
		k, v := keyAt(n, tt.pointer), at(n, tt.pointer)
		if k.Line != tt.keyL || k.Column != tt.keyC || v.Line != tt.vL || v.Column != tt.vC {
			t.Errorf("%q: key %d:%d value %d:%d, want %d:%d %d:%d", tt.pointer, k.Line, k.Column, v.Line, v.Column, tt.keyL, tt.keyC, tt.vL, tt.vC)
		}
	}
}

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		ms   int64
		want string
	}{{0, "0s"}, {240_000, "4m"}, {3_600_000, "1h"}, {86_400_000, "1d"}, {86_400_000*3 + 2000, "3d2s"}, {1500, "1.5s"}, {5_430_000, "1h30m30s"}} {
		if got := span(msDuration(tt.ms)); got != tt.want {
			t.Errorf("span(%d ms) = %q, want %q", tt.ms, got, tt.want)
		}
	}
}
