package xml

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	e, err := Parse([]byte("\xef\xbb\xbf" + `<?xml version="1.0" encoding="UTF-8"?>
<!-- before --><a:x xmlns:a="urn:a" xmlns="urn:d" n="1" a:n="2" xml:lang="it"><y>ci<!-- in -->ao &amp; <![CDATA[<b>]]></y><a:z xmlns="">
</a:z></a:x>
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Element{
		Name: Name{"urn:a", "x"}, Line: 2,
		Attrs: []Attr{{Name{"", "n"}, "1"}, {Name{"urn:a", "n"}, "2"}, {Name{xmlSpace, "lang"}, "it"}},
		Children: []*Element{
			{Name: Name{"urn:d", "y"}, Text: "ciao & <b>", Line: 2},
			{Name: Name{"urn:a", "z"}, Text: "\n", Line: 2},
		},
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
	if e.Attr("n") != "1" || e.Child("urn:d", "y") == nil || e.Child("", "y") != nil {
		t.Error("attributes and children are found by their full names")
	}
}

func TestRefused(t *testing.T) {
	nested := strings.Repeat("<a>", 33) + strings.Repeat("</a>", 33)
	for name, c := range map[string]struct{ doc, want string }{
		"doctype":          {`<!DOCTYPE a><a/>`, "DOCTYPE"},
		"entity":           {`<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`, "DOCTYPE"},
		"late doctype":     {`<a><!DOCTYPE a></a>`, "DOCTYPE"},
		"unknown entity":   {`<a>&nbsp;</a>`, "not well-formed"},
		"instruction":      {`<a><?php x?></a>`, "processing instruction"},
		"late declaration": {`<a/><?xml version="1.0"?>`, "processing instruction"},
		"encoding":         {`<?xml version="1.0" encoding="ISO-8859-1"?><a/>`, "not well-formed"},
		"not utf-8":        {"<a>\xff</a>", "UTF-8"},
		"nested":           {nested, "deeper than 32"},
		"elements":         {"<a>" + strings.Repeat("<b/>", 10_000) + "</a>", "more than 10000"},
		"attributes":       {"<a " + strings.Repeat(`x="" `, 65) + "/>", "more than 64"},
		"duplicate":        {`<a x="1" x="2"/>`, "twice"},
		"same by prefix":   {`<a xmlns:p="u" xmlns:q="u" p:x="1" q:x="2"/>`, "twice"},
		"declared twice":   {`<a xmlns:p="u" xmlns:p="v"/>`, "declared twice"},
		"unbound":          {`<p:a/>`, "bound to no namespace"},
		"unbound attr":     {`<a p:x=""/>`, "bound to no namespace"},
		"emptied prefix":   {`<a xmlns:p=""/>`, "not allowed"},
		"xmlns":            {`<a xmlns:p="http://www.w3.org/2000/xmlns/"/>`, "not allowed"},
		"two roots":        {`<a/><b/>`, "second root"},
		"trailing text":    {`<a/>x`, "outside"},
		"not closed":       {`<a><b>`, "not closed"},
		"crossed":          {`<a><b></a></b>`, "another element"},
		"crossed prefix":   {`<p:a xmlns:p="u" xmlns:q="u"></q:a>`, "another element"},
		"no beginning":     {`</a>`, "no beginning"},
		"nothing":          {` `, "no element"},
		"long":             {"<a>" + strings.Repeat("x", 1<<20) + "</a>", "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.doc))
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || e.Line < 1 || e.Column < 1 {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestErrorsQuoteNothing(t *testing.T) {
	for _, doc := range []string{"<RSSMRA>", "<a>&RSSMRA;</a>", "<a>RSSMRA", "<a RSSMRA/>", "<a b='RSSMRA' b='RSSMRA'/>", "<a>RSSMRA</b>", "<a/>RSSMRA", "<a><RSSMRA"} {
		if _, err := Parse([]byte(doc)); err == nil || strings.Contains(err.Error(), "RSSMRA") && !strings.Contains(doc, "<RSSMRA>") {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func TestSequence(t *testing.T) {
	read := func(doc string) (string, error) {
		e, err := Parse([]byte(doc))
		if err != nil {
			return "", err
		}
		s := In(e)
		digits := func(v string) bool { return strings.Trim(v, "0123456789") == "" }
		got := s.Text("", "a", digits) + "/" + s.OptionalText("", "b", nil) + "/" + s.Text("", "c", nil)
		return got, s.End()
	}
	if got, err := read("<r><a> 1 </a><b>2</b><c/></r>"); got != "1/2/" || err != nil {
		t.Error(got, err)
	}
	if got, err := read("<r><a>1</a><c>3</c></r>"); got != "1//3" || err != nil {
		t.Error(got, err)
	}
	for doc, want := range map[string]string{
		"<r><c/></r>":                     "in r: a is missing or not in its place",
		"<r><a>x</a><c/></r>":             "in r: the value of a is not of its type",
		"<r><a>1</a><c/><b/></r>":         "in r: b is not expected there",
		"<r><a>1</a><c/><c/></r>":         "in r: c is not expected there",
		"<r>x<a>1</a><c/></r>":            "in r: text stands between the elements",
		"<r><a><b/></a><c/></r>":          "in r: a holds elements instead of a value",
		`<r><a xmlns="u">1</a><c/></r>`:   "in r: a is missing or not in its place",
		"<r><a>1</a><b>1</b><b/><c/></r>": "in r: c is missing or not in its place",
	} {
		if _, err := read(doc); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
	if err := In(nil).End(); err == nil {
		t.Error("nothing can be read of a missing element")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0"?><a:x xmlns:a="urn:a"><y n="1">&lt;</y></a:x>`))
	f.Add([]byte(`<!DOCTYPE a><a/>`))
	f.Add([]byte(`<a><b></a></b>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if (e == nil) == (err == nil) {
			t.Fatalf("%v, %v", e, err)
		}
	})
}

func BenchmarkNestedTags(b *testing.B) {
	doc := []byte(strings.Repeat("<a>", 300_000))
	for b.Loop() {
		if _, err := Parse(doc); err == nil {
			b.Fatal("accepted")
		}
	}
}
