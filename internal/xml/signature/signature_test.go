package signature

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"
)

// The files were signed by xmlsec1, with a key that was then thrown away.
func golden(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func at() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

const mbd = "http://www.agenziaentrate.gov.it/2014/MarcaDaBollo"

func TestVerify(t *testing.T) {
	for _, name := range []string{"mbd.xml", "mbd-c14n.xml"} {
		t.Run(name, func(t *testing.T) {
			s, err := Verify([]byte(golden(t, name)), Trust{At: at()})
			if err != nil {
				t.Fatal(err)
			}
			if iubd := s.Root.Child(mbd, "IUBD"); iubd == nil || iubd.Text != "01240000000000001" || s.Root.Child(Space, "Signature") != nil {
				t.Error("the signed element is not the document without its signature")
			}
			pool := x509.NewCertPool()
			pool.AddCert(s.Certificate)
			if _, err := Verify([]byte(golden(t, name)), Trust{Roots: pool, At: at()}); err != nil {
				t.Errorf("with its own root: %v", err)
			}
			if _, err := Verify([]byte(golden(t, name)), Trust{Roots: x509.NewCertPool(), At: at()}); err == nil {
				t.Error("a signer that no root knows was taken")
			}
			if _, err := Verify([]byte(golden(t, name)), Trust{At: at().AddDate(-1, 0, 0)}); err == nil {
				t.Error("a certificate that was not valid yet was taken")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	doc := golden(t, "mbd.xml")
	signature := doc[strings.Index(doc, "<ds:Signature "):strings.Index(doc, "</marcaDaBollo>")]
	for name, c := range map[string]struct{ from, to, want string }{
		"other content":   {"<Importo>16.00", "<Importo>32.00", "could not be verified"},
		"other reference": {`URI=""`, `URI="#x"`, "not to the document"},
		"other digest":    {"<ds:DigestValue>", "<ds:DigestValue>AA", "verif"},
		"other value":     {"<ds:SignatureValue>", "<ds:SignatureValue>AAAA", "verif"},
		"unsigned":        {signature, "", "there are 0"},
		"twice":           {signature, signature + signature, "there are 2"},
		"hidden":          {signature, "<PSP>" + signature + "</PSP>", "there are 1"},
		"weak":            {"xmldsig-more#rsa-sha256", "09/xmldsig#rsa-sha1", "SHA-256 or stronger"},
		"weak digest":     {"<ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"", "<ds:DigestMethod Algorithm=\"http://www.w3.org/2000/09/xmldsig#sha1\"", "SHA-256 or stronger"},
		"no certificate":  {"X509Certificate>", "X509SKI>", "no certificate"},
		"xslt":            {"http://www.w3.org/2000/09/xmldsig#enveloped-signature", "http://www.w3.org/TR/1999/REC-xslt-19991116", "verif"},
		"comment in text": {"<IUBD>0124", "<IUBD>0125<!-- -->", "verif"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.ReplaceAll(doc, c.from, c.to)
			if changed == doc {
				t.Fatal("nothing was changed")
			}
			if _, err := Verify([]byte(changed), Trust{At: at()}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(golden(f, "mbd.xml"))
	f.Fuzz(func(t *testing.T, doc string) {
		if s, err := Verify([]byte(doc), Trust{At: at()}); err == nil && (s.Root == nil || s.Certificate == nil) {
			t.Fatal("a signature holds over nothing")
		}
	})
}
