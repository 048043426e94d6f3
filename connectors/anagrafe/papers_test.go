package anagrafe

import (
	"context"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/fault"
)

// Archive is an archive of documents that keeps no bytes; it judges stamps and
// issues a draft once, as the real one does.
type Archive struct {
	mu     sync.Mutex
	drafts map[string]document.Content
	issued map[string]document.Issued // by draft
	keys   map[string]string          // of what was issued: draft by key
	fails  error                      // what Issue answers, once
	until  time.Time
}

// DraftSum is the digest of every draft.
var DraftSum = [32]byte{1, 2}

// NewArchive makes one.
func NewArchive() *Archive {
	return &Archive{drafts: map[string]document.Content{}, issued: map[string]document.Issued{}, keys: map[string]string{}, until: time.Now().Add(time.Hour).UTC()}
}

// Prepare implements document.Archive.
func (a *Archive) Prepare(_ context.Context, key string, c document.Content) (document.Draft, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drafts["d-"+key] = c
	return document.Draft{ID: "d-" + key, SHA256: DraftSum, Until: a.until}, nil
}

// Prepared implements document.Archive.
func (a *Archive) Prepared(_ context.Context, key string) (document.Draft, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.drafts["d-"+key]; !ok {
		return document.Draft{}, fault.New(fault.NotFound, "no draft")
	}
	return document.Draft{ID: "d-" + key, SHA256: DraftSum, Until: a.until}, nil
}

// Issue implements document.Archive.
func (a *Archive) Issue(_ context.Context, key, draft string, s *document.Stamp) (document.Issued, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.fails; err != nil {
		a.fails = nil
		return document.Issued{}, err
	}
	c, ok := a.drafts[draft]
	if !ok {
		return document.Issued{}, fault.New(fault.NotFound, "no draft")
	}
	if (s == nil) != (c.Exemption != "") || s != nil && s.SHA256 != DraftSum {
		return document.Issued{}, fault.New(fault.Rejected, "the stamp is not this document's")
	}
	a.keys[key] = draft
	if _, ok := a.issued[draft]; !ok {
		a.issued[draft] = document.Issued{Code: "C", Protocol: "VE-2026-0000001", URL: "/documents/C.pdf", VerifyURL: "/verifica/C", At: time.Now()}
	}
	return a.issued[draft], nil
}

// IssuedBy implements document.Archive.
func (a *Archive) IssuedBy(_ context.Context, key string) (document.Issued, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.issued[a.keys[key]]
	if !ok {
		return d, fault.New(fault.NotFound, "not issued")
	}
	return d, nil
}

// StampOf is a marcaDaBollo for a digest in base64.
func StampOf(sum string) string {
	return `<marcaDaBollo xmlns="` + stampSpace + `"><PSP><CodiceFiscale>12345678901</CodiceFiscale><Denominazione>PSP</Denominazione></PSP><IUBD>01234567890123456</IUBD>` +
		`<OraAcquisto>2026-11-24T10:00:00+01:00</OraAcquisto><Importo>16.00</Importo><TipoBollo>01</TipoBollo><ImprontaDocumento><ds:DigestMethod xmlns:ds="` + signatureSpace +
		`" Algorithm="` + sha256Digest + `"/><ds:DigestValue xmlns:ds="` + signatureSpace + `">` + sum + `</ds:DigestValue></ImprontaDocumento></marcaDaBollo>`
}
