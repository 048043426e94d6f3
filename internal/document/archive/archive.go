// Package archive prepares, issues, keeps and withdraws the city's documents. It
// implements document.Archive over one sealed table.
package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/document/certificate"
	"github.com/dime-bus/dime/internal/document/pdf"
	"github.com/dime-bus/dime/internal/document/seal"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store"
)

// draftLife is how long a stamp may be bought for a draft.
const draftLife = 7 * 24 * time.Hour

// Registration is what the protocol is told of a document. A repeated key gets
// the number that the first request made.
type Registration struct {
	Key     string
	Subject string // without names
	Office  string
	Holder  string
	SHA256  [32]byte // of the draft
}

// Config is what an archive is made of.
type Config struct {
	Table     store.Table
	Now       func() time.Time
	City      certificate.City
	URL       func() string // where the public face is reached, without a slash at its end
	Sealer    seal.Sealer
	Protocol  func(ctx context.Context, r Registration) (number string, err error)
	Withdrawn func(ctx context.Context, id string, w Withdrawn) error // publishes certificate.withdrawn; a repeated id is taken once
}

// Archive is safe for concurrent use, also by several processes.
type Archive struct{ cfg Config }

// New makes an archive.
func New(cfg Config) *Archive { return &Archive{cfg} }

var _ document.Archive = (*Archive)(nil)

// Withdrawn is the event certificate.withdrawn.
type Withdrawn struct {
	Kind     string    `json:"kind"`
	Protocol string    `json:"protocol"`
	TaxCode  string    `json:"tax_code,omitempty"`
	Reason   string    `json:"reason"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// record is a document's row. The rows of the table:
//
//	draft/ID      a record
//	pdf/ID        the document's bytes, once it is sealed; they begin with the draft's
//	code/DIGEST   the ID, once the document is issued; digests because keys lie in clear
//	issue/DIGEST  the ID that an issue of this key is about
//	until/TIME/ID empty: in the order in which drafts expire
type record struct {
	Content   document.Content
	Said      string // digest of the content, to tell another use of the key
	Code      string
	Prepared  time.Time
	Until     time.Time
	SHA256    [32]byte
	VerifyURL string // as printed
	Page      []byte `json:",omitempty"` // the draft, until the document is issued

	Protocol string
	At       time.Time
	Stamp    *document.Stamp `json:",omitempty"`

	Final     [32]byte // digest of the whole document
	Issued    bool
	Withdrawn *Withdrawn `json:",omitempty"`
}

func digest(kind, s string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + s))
	return hex.EncodeToString(sum[:])
}

func (a *Archive) load(ctx context.Context, id string) (*record, error) {
	b, found, err := a.cfg.Table.Get(ctx, "draft/"+id)
	if err != nil {
		return nil, fmt.Errorf("reading a document's record: %w", err)
	}
	if !found {
		return nil, fault.New(fault.NotFound, "there is no such document, or its draft has expired")
	}
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("reading a document's record: %w", err)
	}
	return r, nil
}

// change applies f to the record and returns what is kept.
func (a *Archive) change(ctx context.Context, id string, f func(*record) error) (*record, error) {
	var kept *record
	err := a.cfg.Table.Update(ctx, "draft/"+id, func(old []byte) ([]byte, error) {
		if old == nil {
			return nil, fault.New(fault.NotFound, "there is no such document, or its draft has expired")
		}
		kept = &record{}
		if err := json.Unmarshal(old, kept); err != nil {
			return nil, fmt.Errorf("reading a document's record: %w", err)
		}
		if err := f(kept); err != nil {
			return nil, err
		}
		return json.Marshal(kept)
	})
	return kept, err
}

// point makes a row that leads to the document id; it answers what is there.
func (a *Archive) point(ctx context.Context, key, id string) (there string, err error) {
	err = a.cfg.Table.Update(ctx, key, func(old []byte) ([]byte, error) {
		if there = string(old); old == nil {
			there = id
		}
		return []byte(there), nil
	})
	return there, err
}

func draftID(key string) string { return "d-" + digest("prepare", key)[:32] }

// Prepare implements document.Archive.
func (a *Archive) Prepare(ctx context.Context, key string, c document.Content) (document.Draft, error) {
	id := draftID(key)
	content, err := json.Marshal(c)
	if err != nil {
		return document.Draft{}, fault.New(fault.Invalid, "the document's data can't be written as JSON")
	}
	said := digest("content", string(content))
	if r, err := a.load(ctx, id); err == nil {
		return r.draft(id, said)
	} else if fault.From(err).Kind != fault.NotFound {
		return document.Draft{}, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand
	now := a.cfg.Now().UTC().Truncate(time.Second)
	mine := record{Content: c, Said: said, Code: codes.EncodeToString(random[:]), Prepared: now, Until: now.Add(draftLife)}
	mine.VerifyURL = a.cfg.URL() + "/verifica/" + mine.Code
	page, err := certificate.Draft{City: a.cfg.City, Content: c, VerifyURL: mine.VerifyURL, At: now}.PDF()
	if err != nil {
		return document.Draft{}, err
	}
	mine.SHA256, mine.Page = sha256.Sum256(page), page
	if _, err := a.point(ctx, until(mine.Until, id), id); err != nil {
		return document.Draft{}, fmt.Errorf("keeping a draft: %w", err)
	}
	kept := mine
	if err := a.cfg.Table.Update(ctx, "draft/"+id, func(old []byte) ([]byte, error) {
		if kept = mine; old != nil { // somebody else prepared it under the same key
			return old, json.Unmarshal(old, &kept)
		}
		return json.Marshal(mine)
	}); err != nil {
		return document.Draft{}, fmt.Errorf("keeping a draft: %w", err)
	}
	return kept.draft(id, said)
}

// codes are 26 letters and digits, which carry 128 random bits.
var codes = base32.StdEncoding.WithPadding(base32.NoPadding)

func until(t time.Time, id string) string {
	return "until/" + t.UTC().Format(time.RFC3339) + "/" + id
}

func (r *record) draft(id, said string) (document.Draft, error) {
	if said != "" && said != r.Said {
		return document.Draft{}, fault.New(fault.Conflict, "this key has prepared a document of other content")
	}
	return document.Draft{ID: id, SHA256: r.SHA256, Until: r.Until}, nil
}

// Prepared implements document.Archive.
func (a *Archive) Prepared(ctx context.Context, key string) (document.Draft, error) {
	id := draftID(key)
	r, err := a.load(ctx, id)
	if err != nil {
		return document.Draft{}, err
	}
	return r.draft(id, "")
}

// Issue implements document.Archive. Whatever of it was done before it was
// interrupted stands: the protocol is keyed by the draft, and number, instant and
// stamp are those of the first time.
func (a *Archive) Issue(ctx context.Context, key, id string, stamp *document.Stamp) (document.Issued, error) {
	r, err := a.load(ctx, id)
	if err != nil {
		return document.Issued{}, err
	}
	there, err := a.point(ctx, "issue/"+digest("issue", key), id)
	switch {
	case err != nil:
		return document.Issued{}, fmt.Errorf("issuing a document: %w", err)
	case there != id:
		return document.Issued{}, fault.New(fault.Conflict, "this key has issued another document")
	case r.Issued:
		return a.issued(r), nil
	case r.Protocol == "":
		if err := a.admit(r, stamp); err != nil {
			return document.Issued{}, err
		}
		number, err := a.cfg.Protocol(ctx, Registration{
			Key: id, Subject: certificate.Title(r.Content.Kind, "it"), Office: a.cfg.City.Office, Holder: r.Content.Holder, SHA256: r.SHA256,
		})
		if err != nil {
			return document.Issued{}, fmt.Errorf("registering a document in the protocol: %w", err)
		}
		if number == "" {
			return document.Issued{}, fault.New(fault.Contract, "the protocol gave no number")
		}
		now := a.cfg.Now().UTC().Truncate(time.Second)
		if r, err = a.change(ctx, id, func(r *record) error {
			if r.Protocol == "" {
				r.Protocol, r.At, r.Stamp = number, now, stamp
			}
			return nil
		}); err != nil {
			return document.Issued{}, err
		}
	}
	if r.Issued { // by another, meanwhile
		return a.issued(r), nil
	}
	final, err := a.compose(ctx, r)
	if err != nil {
		return document.Issued{}, fmt.Errorf("sealing a document: %w", err)
	}
	if err := a.cfg.Table.Update(ctx, "pdf/"+id, func(old []byte) ([]byte, error) {
		if old != nil { // sealed by another
			final = old
		}
		return final, nil
	}); err != nil {
		return document.Issued{}, fmt.Errorf("keeping a document: %w", err)
	}
	if _, err := a.point(ctx, "code/"+digest("code", r.Code), id); err != nil {
		return document.Issued{}, fmt.Errorf("keeping a document: %w", err)
	}
	r, err = a.change(ctx, id, func(r *record) error {
		r.Final, r.Issued, r.Page = sha256.Sum256(final), true, nil
		return nil
	})
	if err != nil {
		return document.Issued{}, err
	}
	return a.issued(r), nil
}

// admit says whether a draft may be issued with this stamp or without any.
func (a *Archive) admit(r *record, stamp *document.Stamp) error {
	switch {
	case !a.cfg.Now().Before(r.Until):
		return fault.New(fault.NotFound, "the draft has expired; prepare the document anew")
	case stamp == nil && r.Content.Exemption == "":
		return &fault.Error{Kind: fault.Rejected, Name: "stamp_missing", Detail: "the document is subject to stamp duty and no stamp came with it"}
	case stamp != nil && r.Content.Exemption != "":
		return &fault.Error{Kind: fault.Rejected, Name: "stamp_unwanted", Detail: "the document is exempt from stamp duty and says so"}
	case stamp != nil && stamp.SHA256 != r.SHA256:
		return &fault.Error{Kind: fault.Rejected, Name: "stamp_mismatch", Detail: "the stamp's ImprontaDocumento is not the digest of this draft"}
	}
	return nil
}

func (a *Archive) compose(ctx context.Context, r *record) ([]byte, error) {
	top, err := certificate.Marks{City: a.cfg.City, Protocol: r.Protocol, At: r.At, Stamp: r.Stamp}.PDF()
	if err != nil {
		return nil, err
	}
	marked, err := pdf.Overlay(r.Page, top)
	if err != nil {
		return nil, err
	}
	hand, err := a.cfg.Sealer.Ready(ctx)
	if err != nil {
		return nil, err
	}
	final, err := pdf.Sign(marked, pdf.Signature{
		Name: a.cfg.City.Name, Reason: certificate.Title(r.Content.Kind, "it") + " - " + r.Protocol, Location: a.cfg.City.Name, At: r.At, Size: hand.Size(),
	}, func(digest [32]byte) ([]byte, error) { return hand.Seal(ctx, digest) })
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(final, r.Page) {
		return nil, errors.New("the draft is not the beginning of the document")
	}
	return final, nil
}

func (a *Archive) issued(r *record) document.Issued {
	return document.Issued{Code: r.Code, Protocol: r.Protocol, URL: a.cfg.URL() + "/documents/" + r.Code + ".pdf", VerifyURL: r.VerifyURL, At: r.At}
}

// IssuedBy implements document.Archive.
func (a *Archive) IssuedBy(ctx context.Context, key string) (document.Issued, error) {
	id, found, err := a.cfg.Table.Get(ctx, "issue/"+digest("issue", key))
	if err != nil {
		return document.Issued{}, fmt.Errorf("looking for an issued document: %w", err)
	}
	if found {
		var r *record
		if r, err = a.load(ctx, string(id)); err != nil {
			return document.Issued{}, err
		}
		if r.Issued {
			return a.issued(r), nil
		}
	}
	return document.Issued{}, fault.New(fault.NotFound, "no document was issued under this key")
}
