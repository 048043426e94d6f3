package anagrafe_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dime-bus/dime/connectors/anagrafe"
	"github.com/dime-bus/dime/internal/citizens"
)

func TestEmulatorTellsOfPeople(t *testing.T) {
	f := newFar(t, "")
	o := f.attempt("C030").ok()
	id := at(o, "listaSoggetti", "datiSoggetto", 0, "identificativi", "idANPR")
	if id != idOf(mario) || id == "" {
		t.Fatalf("C030 answered %v", o)
	}
	if got := at(f.attempt("C015").ok(), "listaSoggetti", "datiSoggetto", 0, "generalita", "codiceFiscale", "codFiscale"); got != mario {
		t.Errorf("C015 answered %v", got)
	}
	if got := at(f.attempt("C020").ok(), "listaSoggetti", "datiSoggetto", 0, "residenza", 0, "dataDecorrenzaResidenza"); got != "2015-04-01" {
		t.Errorf("C020 answered %v", got)
	}
	if l, _ := at(f.attempt("C021").ok(), "listaSoggetti", "datiSoggetto").([]any); len(l) != 4 {
		t.Errorf("C021 answered %d people, want the four of the sheet", len(l))
	}
	a := f.attempt("C020")
	var gone citizens.Person
	for _, p := range register().All() {
		if p.Status == citizens.Emigrated {
			gone = p
			break
		}
	}
	a.part("criteriRicerca")["idANPR"] = gone.IDANPR
	o = a.ok()
	if at(o, "listaSoggetti", "datiSoggetto", 0, "residenza") != nil || at(o, "listaSoggetti", "datiSoggetto", 0, "infoSoggettoEnte", 0, "valore") != "N" {
		t.Errorf("somebody who moved away resides: %v", o)
	}
	for _, s := range f.seen {
		if strings.Contains(s.Path, "C020") && s.Operation != "residence" {
			t.Errorf("C020 was recorded as %q", s.Operation)
		}
	}
	if n := len(f.seen); n != 3+2*5 {
		t.Errorf("%d requests are on record, want 13", n)
	}
}

func TestEmulatorBearerAndRepeats(t *testing.T) {
	f := newFar(t, "")
	// One voucher and its evidence serve several calls; each is signed anew.
	a := f.attempt("C030")
	first := a.ok()
	number := a.body.(object)["idOperazioneClient"]
	again := f.attempt("C030")
	again.body.(object)["idOperazioneClient"] = number
	again.part("criteriRicerca")["codiceFiscale"] = register().All()[1].TaxCode // what is asked counts no more
	if got := again.ok(); fmt.Sprint(got) != fmt.Sprint(first) {
		t.Errorf("the repeated number answered %v, want %v", got, first)
	}
	f.switchOn("no-dedupe", true)
	again = f.attempt("C030")
	again.body.(object)["idOperazioneClient"] = number
	if got := again.ok(); got["idOperazioneANPR"] == first["idOperazioneANPR"] {
		t.Error("without deduplication the repetition is a call of its own")
	}
}

func TestEmulatorVoucherServesTwice(t *testing.T) {
	f := newFar(t, "")
	a := f.attempt("C030")
	var voucher string
	a.voucher = func(v string) string { voucher = v; return v }
	a.ok()
	b := f.attempt("C030")
	b.evidence = a.evidence
	b.voucher = func(string) string { return voucher }
	b.ok()
}

func TestEmulatorKeysRotate(t *testing.T) {
	f := newFar(t, "")
	a := f.attempt("C030")
	for _, k := range []*token{&a.assert, &a.sig, &a.evidence} {
		k.header["kid"], k.key = "k2", keys().second
	}
	a.ok()
	if status, _, _ := f.do("DELETE", f.url("/back-office/keys/k2"), nil, ""); status != 204 {
		t.Fatalf("removing a key: %d", status)
	}
	a = f.attempt("C030")
	a.assert.header["kid"], a.assert.key = "k2", keys().second
	if status, body := a.token(); status != 400 || !strings.Contains(body, "015-0006") {
		t.Errorf("a removed key was taken: %d %s", status, body)
	}
}

func TestEmulatorBackOffice(t *testing.T) {
	f := newFar(t, "")
	k := keys()
	short := object{"kty": "RSA", "e": "AQAB", "n": b64(bytes.Repeat([]byte{0xff}, 128))}
	with := func(change func(object)) string {
		o := object{"kid": "new", "client_id": testClient, "jwk": rsaJWK(&k.stranger.PublicKey)}
		change(o)
		b, _ := json.Marshal(o)
		return string(b)
	}
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"no JSON":           {"{", 400},
		"surplus member":    {with(func(o object) { o["x"] = 1 }), 400},
		"no kid":            {with(func(o object) { delete(o, "kid") }), 400},
		"kid with a slash":  {with(func(o object) { o["kid"] = "a/b" }), 400},
		"client no UUID":    {with(func(o object) { o["client_id"] = "x" }), 400},
		"no jwk":            {with(func(o object) { delete(o, "jwk") }), 400},
		"private jwk":       {with(func(o object) { o["jwk"].(object)["d"] = "AQ" }), 400},
		"EC key":            {with(func(o object) { o["jwk"] = ecJWK(&k.dpop.PublicKey) }), 400},
		"short key":         {with(func(o object) { o["jwk"] = short }), 400},
		"for encryption":    {with(func(o object) { o["jwk"].(object)["use"] = "enc" }), 400},
		"another algorithm": {with(func(o object) { o["jwk"].(object)["alg"] = "RS512" }), 400},
		"the kid is taken":  {with(func(o object) { o["kid"] = "k1" }), 409},
	} {
		if status, _, body := f.do("POST", f.url("/back-office/keys"), nil, c.body); status != c.status {
			t.Errorf("%s: got %d %s, want %d", name, status, body, c.status)
		}
	}
	for name, body := range map[string]string{"nothing": "", "no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if status, _, _ := f.do("POST", f.url("/back-office/certificates"), nil, body); status != 400 {
			t.Errorf("%s was registered as a certificate: %d", name, status)
		}
	}
}

func TestEmulatorPublishesItsKey(t *testing.T) {
	f := newFar(t, "")
	status, _, body := f.do("GET", f.url("/pdnd/.well-known/jwks.json"), nil, "")
	var set struct {
		Keys []struct{ N, E, Kid string }
	}
	if err := json.Unmarshal([]byte(body), &set); err != nil || status != 200 || len(set.Keys) != 1 {
		t.Fatalf("got %d %s", status, body)
	}
	_, answer := f.attempt("C030").token()
	var tk struct {
		Token string `json:"access_token"`
	}
	_ = json.Unmarshal([]byte(answer), &tk)
	p := strings.Split(tk.Token, ".")
	n, _ := base64.RawURLEncoding.DecodeString(set.Keys[0].N)
	sig, _ := base64.RawURLEncoding.DecodeString(p[2])
	sum := sha256.Sum256([]byte(p[0] + "." + p[1]))
	if err := rsa.VerifyPKCS1v15(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, crypto.SHA256, sum[:], sig); err != nil {
		t.Errorf("the voucher is not signed with the published key: %v", err)
	}
}

func TestEmulatorRemembers(t *testing.T) {
	dir := t.TempDir()
	f := newFar(t, dir)
	a := f.attempt("C030")
	first := a.ok()
	number := a.body.(object)["idOperazioneClient"]
	used := f.attempt("C030")
	used.ok()
	if err := f.e.Close(); err != nil {
		t.Fatal(err)
	}
	g := newFar(t, dir) // registers the same keys: no conflict
	g.n, g.jtis = f.n, f.jtis
	b := g.attempt("C030")
	b.body.(object)["idOperazioneClient"] = number
	if got := b.ok(); fmt.Sprint(got) != fmt.Sprint(first) {
		t.Errorf("after the restart the number answered %v", got)
	}
	c := g.attempt("C030")
	c.sig.claims["jti"] = used.sig.claims["jti"]
	if status, body := c.call(); status != 400 || !strings.Contains(body, "jti") {
		t.Errorf("a jti from before the restart was taken again: %d %s", status, body)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if len(files) != 1 {
		t.Errorf("the memory is %v", files)
	}

	// Without a folder a successor goes on from what the closed one had.
	h := newFar(t, "")
	d := h.attempt("C030")
	want := d.ok()
	_ = h.e.Close()
	i := anagrafe.NewEmulator(h.side, h.cfg)
	i.Resume(h.e)
	h.e = i
	h.srv.Config.Handler = http.StripPrefix("/anagrafe", i)
	e := h.attempt("C030")
	e.body.(object)["idOperazioneClient"] = d.body.(object)["idOperazioneClient"]
	if got := e.ok(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the successor answered %v, want %v", got, want)
	}
}

func TestEmulatorFaults(t *testing.T) {
	f := newFar(t, "")
	all := strings.Join(f.e.Faults(), " ")
	for _, want := range []string{"no-dedupe", "residence.timeout", "pdnd.throttled", "c030.reset", "issue_certificate.late-answer", "person.not_found"} {
		if !strings.Contains(all, want) {
			t.Errorf("there is no fault %s", want)
		}
	}
	for name, want := range map[string]int{"residence.unavailable": 503, "residence.throttled": 429, "residence.server-error": 500, "residence.not_found": 404, "residence.denied": 403, "residence.invalid": 400} {
		f.switchOn(name, true)
		if status, body := f.attempt("C020").call(); status != want || !strings.Contains(body, "switched on") {
			t.Errorf("%s: got %d %s", name, status, body)
		}
		f.switchOn(name, false)
	}
	f.switchOn("residence.contract", true)
	if status, body := f.attempt("C020").call(); status != 200 || !strings.Contains(body, "broken") {
		t.Errorf("contract: %d %s", status, body)
	}
	f.switchOn("pdnd.throttled", true)
	if status, _ := f.attempt("C020").token(); status != 429 {
		t.Errorf("pdnd.throttled: %d", status)
	}
}
