package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// told is content on top of the shipped one: a route that every certificate
// begins, so that its runs count the events.
func told(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "routes", "told.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	const route = `route: told
version: 1
about: Counts the certificates that the city hears of.
from:
  event: certificate.issued
subject: =req.tax_code
purpose: certificate-issue
steps:
  - delay: 1s
`
	if err := os.WriteFile(file, []byte(route), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCertificates: the whole path over HTTP alone, for each kind: asked, paid on
// the payment page as a person pays, issued, fetched by its holder, verified by
// anybody.
func TestCertificates(t *testing.T) {
	s := startOn(t, told(t))
	owner, stranger := s.token(t, citizen), s.token(t, "BNCGLI92M41L736X")
	for n, kind := range []string{"residence", "family", "civil-status"} {
		t.Run(kind, func(t *testing.T) {
			var a struct {
				PayAt    string `json:"pay_at"`
				FollowAt string `json:"follow_at"`
			}
			ask := map[string]any{"request_id": "e2e-" + kind, "tax_code": citizen}
			if status := s.json(t, http.MethodPost, s.public+"/v1/certificates/"+kind, stranger, ask, nil); status != http.StatusForbidden {
				t.Errorf("a stranger without a mandate: %d", status)
			}
			if status := s.json(t, http.MethodPost, s.public+"/v1/certificates/"+kind, owner, ask, &a); status != http.StatusAccepted || a.PayAt == "" || a.FollowAt == "" {
				t.Fatalf("%d %+v", status, a)
			}
			b := newBrowser(t)
			if p := b.press(b.get(a.PayAt), "Paga"); p.status != http.StatusOK {
				t.Fatalf("paying ended on %s with %d", p.url, p.status)
			}
			v := s.ended(t, a.FollowAt, owner)
			pdf, verify := fmt.Sprint(v.Result["certificate_url"]), fmt.Sprint(v.Result["verify_url"])
			var file []byte
			if status := s.json(t, http.MethodGet, pdf, owner, nil, &file); status != http.StatusOK || !bytes.HasPrefix(file, []byte("%PDF")) {
				t.Fatalf("%s: %d %.40q", pdf, status, file)
			}
			if !bytes.Contains(file, []byte(verify)) {
				t.Errorf("the certificate has no link to %s", verify)
			}
			for who, token := range map[string]string{"a stranger": stranger, "nobody": ""} {
				if status := s.json(t, http.MethodGet, pdf, token, nil, nil); status != http.StatusNotFound && status != http.StatusUnauthorized {
					t.Errorf("%s fetches the certificate: %d", who, status)
				}
			}
			p := newBrowser(t).get(verify)
			if p.status != http.StatusOK || !strings.Contains(strings.ToLower(p.body), "valido") && !strings.Contains(strings.ToLower(p.body), "valid") {
				t.Errorf("%s: %d %s", verify, p.status, p.body)
			}
			if strings.Contains(p.body, citizen) || strings.Contains(strings.ToLower(p.body), "rossi") {
				t.Error("the public page tells whose certificate it is")
			}
			withdraw := exec.Command(s.binary, "documents", "withdraw", path.Base(verify), "--as", "e2e", "--reason", "a test", "--admin", s.admin)
			if out, err := withdraw.CombinedOutput(); err != nil {
				t.Errorf("withdrawing: %v: %s", err, out)
			}
			if p := newBrowser(t).get(verify); !strings.Contains(strings.ToLower(p.body), "ritirato") {
				t.Errorf("a withdrawn certificate: %d %s", p.status, p.body)
			}
			var list struct{ Runs []struct{ Run string } }
			s.json(t, http.MethodGet, s.admin+"/runs?route=told&limit=50", "", nil, &list)
			if len(list.Runs) != n+1 {
				t.Errorf("the city heard of %d certificates, want %d", len(list.Runs), n+1)
			}
		})
	}
}
