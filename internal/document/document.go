// Package document is what the city knows of the documents that it issues: the
// words that the archive and its users share. The folders below it lay out, seal
// and keep them.
package document

import (
	"context"
	"time"
)

// Archive prepares, issues and keeps documents. Errors are *fault.Error: NotFound
// for a draft that is not there or has expired, Conflict for one that can't be
// issued any more, Rejected for a stamp that is not this document's.
type Archive interface {
	// Prepare lays a document out and keeps it as a draft for 7 days. The same key
	// gives the same draft.
	Prepare(ctx context.Context, key string, c Content) (Draft, error)
	// Issue stamps, numbers and seals a draft; its bytes stay the beginning of the
	// document's. A draft is issued once, whatever the key.
	Issue(ctx context.Context, key, draft string, stamp *Stamp) (Issued, error)
	// Prepared and IssuedBy tell what became of an effect, by its key: they answer
	// NotFound when it surely did not happen.
	Prepared(ctx context.Context, key string) (Draft, error)
	IssuedBy(ctx context.Context, key string) (Issued, error)
}

// Content is what a document says.
type Content struct {
	Kind      string         // residence, family, civil-status
	Holder    string         // codice fiscale of the person whose document it is
	Data      map[string]any // fits the kind's schema
	Exemption string         // from stamp duty: its key in the exemptions' table, or ""
}

// Draft is a document that is laid out: nothing of it changes any more.
type Draft struct {
	ID     string
	SHA256 [32]byte // of its bytes: what a digital stamp is bound to
	Until  time.Time
}

// Stamp is the marca da bollo digitale that was bought for a draft.
type Stamp struct {
	IUBD       string    // Identificativo Univoco Bollo Digitale
	SHA256     [32]byte  // ImprontaDocumento
	Bought     time.Time // OraAcquisto
	AmountCent int64
	Attachment []byte // the whole signed marcaDaBollo
}

// Issued is a document that stands in the public register.
type Issued struct {
	Code      string // of the page /verifica/{code}
	Protocol  string // the protocol's number
	URL       string // of the PDF, for its holder
	VerifyURL string
	At        time.Time
}
