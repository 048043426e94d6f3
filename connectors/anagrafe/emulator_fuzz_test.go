package anagrafe

import (
	"bytes"
	"os"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/xml"
)

// FuzzEmulatorReading reaches behind the signatures: what is read of a request
// that was rightly signed may still be anything.
func FuzzEmulatorReading(f *testing.F) {
	golden, err := os.ReadFile("testdata/emulator/signed-by-xmlsec1.xml")
	if err != nil {
		f.Fatal(err)
	}
	e := NewEmulator(FarSide{Name: "anagrafe"}, connectors.EmulatorConfig{})
	for _, s := range []string{
		string(golden), "eyJhIjoxfQ.eyJhIjoxfQ.AA", `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`,
		`{"idOperazioneClient":"1","criteriRicerca":{"idANPR":"AB00001YC"},"datiRichiesta":{"dataRiferimentoRichiesta":"2026-11-24","motivoRichiesta":"1","casoUso":"C020"}}`,
		`<a xmlns:b="c" b:d="e"><f/></a>`, `[{"digest":"x"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if j, err := emReadJWS(string(b)); err == nil {
			_ = j.shape("JWT", []string{"RS256"}, "kid")
			_ = j.times(e.cfg.Clock.Now(), emModiAge)
			_ = emAssertion(j, "", e.cfg.Clock.Now())
		}
		if v, err := schema.DecodeJSON(b); err == nil {
			if _, thumbprint, err := emPublic(v); err == nil && thumbprint == "" {
				t.Error("a key without a thumbprint")
			}
			_ = emSignedHeaders(v, nil)
		}
		for code := range emServices() {
			if q, bad := e.readRequest(code, b); (q == nil) == (bad == nil) {
				t.Errorf("%s: neither read nor refused", code)
			}
		}
		root, err := xml.Parse(b)
		if err != nil {
			return
		}
		if body := root.Child(emSOAP, "Body"); body != nil && len(body.Children) > 0 {
			_, _ = emRead6001(body.Children[0])
		}
		_, _ = emRead6001(root)
		// The canonical form is a fixed point: reading it gives it again.
		tree, err := emTree(b)
		if err != nil {
			return
		}
		once := tree.canonical()
		again, err := emTree(once)
		if err != nil {
			return // an attribute's white space, which is refused at reading
		}
		if !bytes.Equal(again.canonical(), once) {
			t.Errorf("the canonical form %q has another: %q", once, again.canonical())
		}
	})
}
