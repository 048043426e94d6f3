package archive

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dime-bus/dime/internal/document/certificate"
	"github.com/dime-bus/dime/internal/fault"
)

// Entry is what the public register says of a document: nothing personal.
type Entry struct {
	Kind      string
	Issued    time.Time
	Protocol  string
	Withdrawn bool
	SHA256    [32]byte // of the whole file
}

// Holder is what the document says of its holder.
type Holder struct {
	Rows    []certificate.Row
	Members []certificate.Member
}

// Code is a code as people type it, without the case and the gaps.
func Code(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, strings.ToUpper(s))
}

func (a *Archive) byCode(ctx context.Context, code string) (*record, string, error) {
	code = Code(code)
	none := fault.New(fault.NotFound, "no document has this code")
	if b, err := codes.DecodeString(code); err != nil || len(b) != 16 {
		return nil, "", none
	}
	// By its digest: how long the look-up takes tells nothing of near codes.
	id, found, err := a.cfg.Table.Get(ctx, "code/"+digest("code", code))
	if err != nil {
		return nil, "", fmt.Errorf("looking for a document: %w", err)
	}
	if !found {
		return nil, "", none
	}
	r, err := a.load(ctx, string(id))
	if err == nil && !r.Issued {
		return nil, "", none
	}
	return r, string(id), err
}

// Entry answers NotFound for a code of no issued document.
func (a *Archive) Entry(ctx context.Context, code string) (Entry, error) {
	r, _, err := a.byCode(ctx, code)
	if err != nil {
		return Entry{}, err
	}
	return Entry{r.Content.Kind, r.At, r.Protocol, r.Withdrawn != nil, r.Final}, nil
}

// A code of the paper is known to whoever holds it, a codice fiscale can be
// guessed: wrong ones are counted by document.
const (
	maxTries = 5
	triesFor = time.Hour
)

// Holder tells what stands on the document to who knows its holder's codice
// fiscale: Denied for another, Throttled after five wrong ones in an hour.
func (a *Archive) Holder(ctx context.Context, code, taxCode string) (Holder, error) {
	r, id, err := a.byCode(ctx, code)
	if err != nil {
		return Holder{}, err
	}
	right := subtle.ConstantTimeCompare([]byte(Code(taxCode)), []byte(r.Content.Holder)) == 1
	now := a.cfg.Now()
	// Counted before it is answered, so that guesses at once count each; the right
	// one clears the count unless the hour is closed.
	if err := a.cfg.Table.Update(ctx, "tries/"+id, func(old []byte) ([]byte, error) {
		var n, since uint64
		if len(old) == 16 {
			n, since = binary.BigEndian.Uint64(old), binary.BigEndian.Uint64(old[8:])
		}
		ends := time.Unix(int64(since), 0).Add(triesFor) //nolint:gosec // written below from a time
		if n == 0 || !now.Before(ends) {
			n, since = 0, uint64(now.Unix()) //nolint:gosec // after 1970
		} else if n >= maxTries {
			return nil, &fault.Error{Kind: fault.Throttled, RetryAfter: ends.Sub(now), Detail: "too many wrong tries for this document; try again later"}
		}
		if right {
			return nil, nil
		}
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n+1), since), nil
	}); err != nil {
		return Holder{}, err
	}
	if !right {
		return Holder{}, fault.New(fault.Denied, "the document is of another person")
	}
	rows, err := certificate.Rows(r.Content)
	if err != nil {
		return Holder{}, err
	}
	members, err := certificate.Members(r.Content)
	return Holder{rows, members}, err
}

// Get gives the document's bytes to whom may says of its holder's codice fiscale
// that he may have them, NotFound to everybody else.
func (a *Archive) Get(ctx context.Context, code string, may func(holder string) bool) ([]byte, error) {
	r, id, err := a.byCode(ctx, code)
	if err != nil {
		return nil, err
	}
	if !may(r.Content.Holder) {
		return nil, fault.New(fault.NotFound, "no document has this code")
	}
	b, found, err := a.cfg.Table.Get(ctx, "pdf/"+id)
	if err != nil || !found {
		return nil, fmt.Errorf("reading a document: %w", errors.Join(err, notKept(found)))
	}
	return b, nil
}

func notKept(found bool) error {
	if found {
		return nil
	}
	return errors.New("its bytes are not there")
}

// Withdraw marks a document as withdrawn and publishes that. A repetition answers
// with the first withdrawal and publishes it under the same id.
func (a *Archive) Withdraw(ctx context.Context, code, reason, by string) (Withdrawn, error) {
	if strings.TrimSpace(reason) == "" || strings.TrimSpace(by) == "" {
		return Withdrawn{}, fault.New(fault.Invalid, "a withdrawal needs its reason and who decides it")
	}
	_, id, err := a.byCode(ctx, code)
	if err != nil {
		return Withdrawn{}, err
	}
	now := a.cfg.Now().UTC().Truncate(time.Second)
	r, err := a.change(ctx, id, func(r *record) error {
		if r.Withdrawn == nil {
			r.Withdrawn = &Withdrawn{Kind: r.Content.Kind, Protocol: r.Protocol, TaxCode: r.Content.Holder, Reason: reason, By: by, At: now}
		}
		return nil
	})
	if err != nil {
		return Withdrawn{}, err
	}
	if err := a.cfg.Withdrawn(ctx, "withdrawn-"+id, *r.Withdrawn); err != nil {
		return *r.Withdrawn, fmt.Errorf("publishing certificate.withdrawn (the document is withdrawn; withdraw it again to publish): %w", err)
	}
	return *r.Withdrawn, nil
}

// Expire deletes up to max drafts whose time is over and that nobody issued.
func (a *Archive) Expire(ctx context.Context, max int) (int, error) {
	rows, err := a.cfg.Table.List(ctx, "until/", "", max)
	if err != nil {
		return 0, fmt.Errorf("looking for expired drafts: %w", err)
	}
	now, n := "until/"+a.cfg.Now().UTC().Format(time.RFC3339), 0
	for _, row := range rows {
		if row.Key >= now {
			break
		}
		id := string(row.Value)
		r, err := a.load(ctx, id)
		if err != nil && fault.From(err).Kind != fault.NotFound {
			return n, err
		}
		// A protocol number stands for a document that is on its way: it stays. A row
		// of another instant is one of two that prepared the draft at once.
		if err == nil && r.Protocol == "" && until(r.Until, id) == row.Key {
			gone := errors.New("numbered meanwhile")
			err := a.cfg.Table.Update(ctx, "draft/"+id, func(old []byte) ([]byte, error) {
				if !strings.Contains(string(old), `"Protocol":""`) {
					return nil, gone
				}
				return nil, nil
			})
			if err != nil && !errors.Is(err, gone) {
				return n, fmt.Errorf("deleting an expired draft: %w", err)
			}
			n++
		}
		if err := a.cfg.Table.Update(ctx, row.Key, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
			return n, fmt.Errorf("deleting an expired draft: %w", err)
		}
	}
	return n, nil
}

// Kept is an issued document as its holder is told of it.
type Kept struct {
	Kind      string         `json:"kind"`
	Code      string         `json:"code"`
	Protocol  string         `json:"protocol"`
	Issued    time.Time      `json:"issued"`
	Withdrawn *Withdrawn     `json:"withdrawn,omitempty"`
	Data      map[string]any `json:"data"`
}

// HeldBy lists the issued documents of a person, in no order. It reads every
// record: a holder has no index.
func (a *Archive) HeldBy(ctx context.Context, taxCode string) ([]Kept, error) {
	const page = 500
	prefix, want := "draft/", Code(taxCode)
	out := []Kept{}
	for after := prefix; ; {
		rows, err := a.cfg.Table.List(ctx, prefix, after, page)
		if err != nil {
			return nil, fmt.Errorf("listing a person's documents: %w", err)
		}
		for _, row := range rows {
			after = row.Key
			r := &record{}
			if err := json.Unmarshal(row.Value, r); err != nil {
				return nil, fmt.Errorf("reading a document's record: %w", err)
			}
			if r.Issued && Code(r.Content.Holder) == want {
				out = append(out, Kept{r.Content.Kind, r.Code, r.Protocol, r.At, r.Withdrawn, r.Content.Data})
			}
		}
		// A page may hold rows behind the prefix, which List leaves out.
		if len(rows) == 0 {
			return out, nil
		}
	}
}
