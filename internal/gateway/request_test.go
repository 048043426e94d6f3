package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/schema"
)

func form(t testing.TB, parts ...[3]string) (string, string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		h.Set("Content-Disposition", p[0])
		if p[1] != "" {
			h.Set("Content-Type", p[1])
		}
		pw, err := w.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(pw, p[2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), "Content-Type: " + w.FormDataContentType()
}

func TestMultipart(t *testing.T) {
	f := open(t)
	png := "\x89PNG\r\n\x1a\n0000"
	body, ct := form(t,
		[3]string{`form-data; name="name"`, "", "Bella"}, [3]string{`form-data; name="limit"`, "", "3"}, [3]string{`form-data; name="where"`, "", `{"a":1}`},
		[3]string{`form-data; name="photo"; filename="..\\..\\etc/<b>.png"`, "text/html", png},
		[3]string{`form-data; name="photos"; filename="a"`, "", "x"}, [3]string{`form-data; name="photos"; filename=""`, "", "yy"})
	if w := f.do("POST", "/v1/pets", body, ct); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	want := map[string]any{"name": "Bella", "limit": 3, "where": map[string]any{"a": 1},
		"photo": map[string]any{"blob": "sha256:digest1", "name": "b.png", "type": "image/png", "size": len(png)},
		"photos": []any{map[string]any{"blob": "sha256:digest2", "name": "a", "type": "text/plain; charset=utf-8", "size": 1},
			map[string]any{"blob": "sha256:digest3", "name": "file", "type": "text/plain; charset=utf-8", "size": 2}}}
	if d := cmp.Diff(want, f.engine.got[0].Req); d != "" {
		t.Error(d)
	}
	if string(f.engine.blobs[0]) != png {
		t.Errorf("%q", f.engine.blobs)
	}
}

func TestMultipartRefused(t *testing.T) {
	file := func(n string, b string) [3]string {
		return [3]string{`form-data; name="` + n + `"; filename="f"`, "", b}
	}
	many := make([][3]string, 70)
	for i := range many {
		many[i] = [3]string{fmt.Sprintf(`form-data; name="p%d"`, i), "", "x"}
	}
	for name, tt := range map[string]struct {
		parts  [][3]string
		status int
	}{
		"a field that the schema lacks": {[][3]string{file("photo", "x"), {`form-data; name="zzz"`, "", "1"}}, 400},
		"a file where text is due":      {[][3]string{file("name", "x")}, 400},
		"twice":                         {[][3]string{file("photo", "x"), file("photo", "y")}, 400},
		"too large":                     {[][3]string{file("photo", strings.Repeat("x", 65<<10))}, 413},
		"too many parts":                {many, 400},
		"no name":                       {[][3]string{{`form-data`, "", "x"}}, 400},
		"text not UTF-8":                {[][3]string{{`form-data; name="name"`, "", "\xff"}}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			body, ct := form(t, tt.parts...)
			w := f.do("POST", "/v1/pets", body, ct)
			if w.Code != tt.status || len(f.engine.got) > 0 || len(f.engine.blobs) > 0 {
				t.Errorf("%d %s, %d requests, %d blobs", w.Code, w.Body, len(f.engine.got), len(f.engine.blobs))
			}
		})
	}
	f := open(t)
	if w := f.do("POST", "/v1/pets", "--x\r\nbroken", "Content-Type: multipart/form-data; boundary=x"); w.Code != 400 {
		t.Errorf("a broken form: %d", w.Code)
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e-9,1e21,null,true,"\u2028\ud83d\ude00"],"b":{}}`, `"\\\"\u0007"`, `0.1`, `123456789012345`, `1e-7`, `[]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := schema.DecodeJSON([]byte(text))
		if err != nil {
			return
		}
		b, err := appendJSON(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		again, err := schema.DecodeJSON(b)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, b, err)
		}
		// A whole float64 below 2^63 is written, and read, as an int.
		var x, y any
		_ = json.Unmarshal([]byte(text), &x)
		_ = json.Unmarshal(b, &y)
		if !cmp.Equal(x, y) {
			t.Fatalf("%q became %q", text, b)
		}
		_ = again
	})
}

// FuzzRequest: whatever comes, the answer is below 500 and JSON, and what reaches
// the engine is made of its own kinds.
func FuzzRequest(f *testing.F) {
	for _, s := range [][4]string{
		{"GET", "/v1/pets?limit=3&tags=a&tags=b", "", ""}, {"POST", "/v1/pets", "application/json", `{"id":1,"where":{"a":1}}`},
		{"PUT", "/v1/pets/%2f?x=%00", "application/json", `{"id":1}`}, {"POST", "/v1/pets", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"x\"\r\n\r\nx\r\n--b--\r\n"},
		{"GET", "/v1/runs/%2e%2e", "", ""}, {"POST", "/v1/any", "application/json", `[[[[`}, {"GET", "/?lang=xx", "", ""}, {"GET", "/static/../page.html", "", ""},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	fx := open(f)
	fx.engine.answer = func(r Request) Answer { return Answer{Status: 200, Body: r.Req} }
	f.Fuzz(func(t *testing.T, method, target, contentType, body string) {
		if !strings.HasPrefix(target, "/") {
			return
		}
		r, err := http.NewRequest(method, "http://x"+target, strings.NewReader(body))
		if err != nil {
			return
		}
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		w := httptest.NewRecorder()
		fx.engine.got = nil
		fx.gateway.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if ct := w.Header().Get("Content-Type"); strings.HasSuffix(ct, "json") && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s: %q", ct, w.Body)
		}
		for _, q := range fx.engine.got {
			if _, err := schema.Canonical(q.Req); err != nil {
				t.Fatal(err)
			}
		}
	})
}
