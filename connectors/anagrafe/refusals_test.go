package anagrafe

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
)

// That a person does not exist is said to a citizen and ends the run: only ANPR's
// own EN122 is taken for it, never a gateway that lost its way.
func TestOnlyANPRSaysThatNobodyIsThere(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       fault.Kind
		named      string
	}{
		{"EN122", `{"listaErrori":[{"codiceErroreAnomalia":"EN122"}]}`, fault.NotFound, "not_found"},
		{"another code", `{"listaErrori":[{"codiceErroreAnomalia":"EN300"}]}`, fault.Contract, ""},
		{"no code", `{"listaErrori":[{}]}`, fault.Contract, ""},
		{"an empty list", `{"listaErrori":[]}`, fault.Unavailable, ""},
		{"the gateway's problem", `{"type":"about:blank","title":"API not found","status":404}`, fault.Unavailable, ""},
		{"a page", `<html>404</html>`, fault.Unavailable, ""},
		{"nothing", ``, fault.Unavailable, ""},
	} {
		_, err := readSubjects(&httpclient.Response{Status: http.StatusNotFound, Body: []byte(tt.body)})
		if f := fault.From(err); f.Kind != tt.want || f.Name != tt.named {
			t.Errorf("%s: %v, want %s %q", tt.name, err, tt.want, tt.named)
		}
	}
}

// PDND's own words may repeat what we sent; its code says enough.
func TestPDNDsWordsAreNotRepeated(t *testing.T) {
	body := `{"errors":[{"code":"015-0008","detail":"client 9b1d of RSSMRA80A01L736U is unknown"}]}`
	_, _, f := readToken(&httpclient.Response{Status: http.StatusBadRequest, Body: []byte(body)})
	if f == nil || f.Kind != fault.Denied || !strings.Contains(f.Error(), "015-0008") || strings.Contains(f.Error(), "RSSMRA") {
		t.Fatalf("got %v", f)
	}
}

// What was noted of a draft names its holder: it goes when the draft has expired,
// unless a certificate hangs on it that somebody has yet to finish.
func TestDraftsAreForgotten(t *testing.T) {
	table := &memory{rows: map[string][]byte{}}
	w := newTown(t)
	c := w.connector(&counter{last: map[string]int64{}, turn: map[string]*sync.Mutex{}}, table)
	row := func(key string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		table.rows[key] = b
	}
	now := time.Now()
	for id, until := range map[string]time.Time{"old": now.Add(-48 * time.Hour), "new": now.Add(time.Hour), "just": now.Add(-time.Hour),
		"doubt": now.Add(-48 * time.Hour), "unsealed": now.Add(-48 * time.Hour), "sealed": now.Add(-48 * time.Hour)} {
		row(draftRow(id), prepared{Kind: "residence", Holder: "RSSMRA80A01L736U", Surname: "ROSSI", Given: "MARIO", Until: until})
	}
	row(issuanceRow("doubt"), issuance{Key: "k", Number: 7})
	row(issuanceRow("unsealed"), issuance{Key: "k", ANPR: "A1"})
	row(issuanceRow("sealed"), issuance{Key: "k", ANPR: "A2", Sealed: true})
	if err := c.forgetDrafts(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"old": false, "new": true, "just": true, "doubt": true, "unsealed": true, "sealed": false} {
		if _, there := table.rows[draftRow(id)]; there != want {
			t.Errorf("the row of the draft %q is there: %v", id, there)
		}
	}
	if _, there := table.rows[issuanceRow("sealed")]; there {
		t.Error("what was asked of ANPR for a forgotten draft is still noted")
	}
}
