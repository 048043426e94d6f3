package yamldoc

import (
	"strings"
	"testing"
)

func TestOpenAPIWritesAliasesOut(t *testing.T) {
	n, ps := Parse("x.yaml", []byte("base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  y: 3\nlist: [*b]\n"), OpenAPI())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	own := n.Get("own")
	if own.Get("x").Text != "1" || own.Get("y").Text != "3" || len(own.Pairs) != 2 {
		t.Errorf("own is %v", own.Keys())
	}
	if n.Get("list").Items[0].Get("y").Text != "2" {
		t.Error("the alias in the list is lost")
	}
}

func TestOpenAPIRefusesMultiplyingAliases(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 10; i++ {
		p, c := string(rune('0'+i-1)), string(rune('0'+i))
		b.WriteString("a" + c + ": &a" + c + " [" + strings.Repeat("*a"+p+", ", 9) + "*a" + p + "]\n")
	}
	n, ps := Parse("x.yaml", []byte(b.String()), OpenAPI())
	if n != nil || len(ps) == 0 || ps[0].Rule != "bounds" {
		t.Errorf("got %v, %v", n != nil, ps)
	}
}
