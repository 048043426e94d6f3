package codec

import (
	"testing"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/google/go-cmp/cmp"
)

// What a resumed run reads has the types that the live run had.
func FuzzCodec(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":1.5,"c":[null,true,"è\u0000"]}`, `[2.0, -0.0, 1e300]`, `"x"`, `{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := schema.DecodeJSON(b)
		if err != nil {
			return
		}
		out, err := Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if d := cmp.Diff(v, back); d != "" {
			t.Errorf("%s: %s", out, d)
		}
	})
}
