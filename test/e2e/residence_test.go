package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// officer is a token of an operator of the registry.
func (s *server) officer(t *testing.T, role string) string {
	t.Helper()
	out, err := exec.Command(s.binary, "token", "--data", filepath.Join(s.dir, "data"), "--operator", "anna", "--role", role, "--assurance", "2").Output()
	if err != nil {
		t.Fatalf("making a token: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// post asks again, under the same number, while a busy machine answers that it was
// too late or had no room: that is what the number is for.
func (s *server) post(t *testing.T, path, token string, body, into any) int {
	t.Helper()
	status := 0
	for range 5 {
		status = s.json(t, http.MethodPost, s.public+path, token, body, into)
		if status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout {
			break
		}
	}
	return status
}

// printed is what a person reads on a free certificate of residence.
func (s *server) printed(t *testing.T, cf, id string) string {
	t.Helper()
	token := s.token(t, cf)
	var a struct {
		FollowAt string `json:"follow_at"`
	}
	ask := map[string]any{"request_id": id, "tax_code": cf, "exemption": "art-16-tab-b"}
	if status := s.post(t, "/v1/certificates/residence", token, ask, &a); status != http.StatusAccepted {
		t.Fatalf("asking for a certificate: %d", status)
	}
	var file []byte
	if status := s.json(t, http.MethodGet, fmt.Sprint(s.ended(t, a.FollowAt, token).Result["certificate_url"]), token, nil, &file); status != http.StatusOK {
		t.Fatalf("fetching the certificate: %d", status)
	}
	cmd := exec.Command("pdftotext", "-layout", "-", "-")
	cmd.Stdin = bytes.NewReader(file)
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("reading the certificate with pdftotext (Debian: poppler-utils): %v", err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// TestChangeOfAddress: a family's declaration is filed, decided by an officer and
// entered, over HTTP alone; certificates print the new address from then on, of
// those who moved and of nobody else.
func TestChangeOfAddress(t *testing.T) {
	const anna, sara, giulia = "VNLNNA82E54L736U", "RSSSRA05P61L736V", "BNCGLI92M41L736X"
	s := start(t)
	owner, officer := s.token(t, citizen), s.officer(t, "registry-officer")
	var a struct {
		Application string
		DecideBy    string `json:"decide_by"`
		FollowAt    string `json:"follow_at"`
	}
	var found struct{ Addresses []struct{ ID, Label string } }
	if s.json(t, http.MethodGet, s.public+"/v1/addresses?q=strada+nova+3660", "", nil, &found); len(found.Addresses) != 1 {
		t.Fatalf("looking the address up: %+v", found)
	}
	home := found.Addresses[0]
	file := func(token, id, who string, members ...map[string]any) int {
		ask := map[string]any{"request_id": id, "tax_code": who, "address": home.ID, "title": "tenant"}
		if len(members) > 0 {
			ask["members"] = members
		}
		a.Application = ""
		return s.post(t, "/v1/residence/changes", token, ask, &a)
	}
	decide := func(token, outcome, reason string) int {
		return s.post(t, "/v1/residence/changes/"+a.Application+"/decision", token, map[string]any{"outcome": outcome, "reason": reason}, nil)
	}

	old := s.printed(t, citizen, "e2e-before")
	if strings.Contains(old, "3660") {
		t.Fatalf("the certificate prints the new address before the move: %s", old)
	}

	if status := file(s.token(t, giulia), "e2e-stranger", citizen); status != http.StatusForbidden {
		t.Errorf("a stranger without a mandate: %d", status)
	}
	if status := file(owner, "e2e-move-stranger", citizen, map[string]any{"tax_code": giulia, "relation": "other"}); status != http.StatusUnprocessableEntity {
		t.Errorf("somebody of another family: %d", status)
	}
	if status := file(owner, "e2e-move", citizen, map[string]any{"tax_code": anna, "relation": "spouse"}); status != http.StatusAccepted || a.Application == "" || a.DecideBy == "" {
		t.Fatalf("filing: %d %+v", status, a)
	}
	for who, token := range map[string]string{"the citizen": owner, "another office": s.officer(t, "appeals-officer")} {
		if status := decide(token, "accepted", "I say so."); status != http.StatusForbidden {
			t.Errorf("%s decides: %d", who, status)
		}
	}
	if status := decide(officer, "accepted", "In order."); status != http.StatusAccepted {
		t.Fatalf("deciding: %d", status)
	}
	v := s.ended(t, a.FollowAt, owner)
	if v.Result["outcome"] != "accepted" || v.Result["address"] != home.Label || v.Result["application"] != a.Application {
		t.Errorf("%+v", v)
	}
	for _, cf := range []string{citizen, anna} {
		if text := s.printed(t, cf, "e2e-after-"+cf); !strings.Contains(text, "CANNAREGIO 3660, Strada Nova") {
			t.Errorf("the certificate does not print the new address: %s", text)
		}
	}
	if text := s.printed(t, sara, "e2e-stayed"); strings.Contains(text, "3660") {
		t.Errorf("who stayed has moved: %s", text)
	}

	if status := file(s.token(t, giulia), "e2e-refused", giulia); status != http.StatusAccepted {
		t.Fatalf("filing: %d", status)
	}
	if status := decide(officer, "refused", "Nobody lives there."); status != http.StatusAccepted {
		t.Fatalf("refusing: %d", status)
	}
	if v := s.ended(t, a.FollowAt, s.token(t, giulia)); v.Result["outcome"] != "refused" || v.Result["reason"] != "Nobody lives there." {
		t.Errorf("%+v", v)
	}
	var effects []struct{ Connector, Operation, Subject string }
	s.json(t, http.MethodGet, s.city+"/effects?connector=anagrafe", "", nil, &effects)
	moves := 0
	for _, e := range effects {
		if e.Operation == "change_residence" {
			moves++
			if e.Subject != citizen {
				t.Errorf("%+v", e)
			}
		}
	}
	if moves != 1 {
		t.Errorf("%d changes of residence, want 1", moves)
	}
}
