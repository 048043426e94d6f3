package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"
)

// AuditEntry is what one act adds to the audit.
type AuditEntry struct {
	Who     string // the name that a person gave, or the process
	Channel string // by which face it came: admin, cli, server
	Action  string // past or present, dotted: runs.replay, content.reload
	Target  string // run, route, connector, key ...: nothing personal
	Reason  string
	// Person is a codice fiscale in clear here; stored are the look-up token and,
	// where the person has a key, the code sealed by it. So an erasure leaves the
	// row as it is, and nobody can read any more whom it names.
	Person string
	Detail string // canonical JSON of an object, or ""
}

// AuditRow is a row as it is stored. Times have milliseconds.
type AuditRow struct {
	Seq                                  int64 // 1, 2, 3 ... without a gap
	At                                   time.Time
	Who, Channel, Action, Target, Reason string
	Person, Sealed                       []byte // token and sealed code, or none
	Detail                               string
	Hash                                 []byte // AuditHash of the row behind the one before
}

// Audit is the list of what people and releases did: it is only added to, and
// each row's hash covers the row before.
type Audit interface {
	// AppendAudit returns when the row is durable. Rows of several processes come
	// one after another.
	AppendAudit(ctx context.Context, e AuditEntry) (AuditRow, error)
	// AuditRows lists rows behind a sequence number, in order.
	AuditRows(ctx context.Context, after int64, max int) ([]AuditRow, error)
	// AuditHead is the last row's number and hash; 0 and nil where there is none.
	AuditHead(ctx context.Context) (seq int64, hash []byte, err error)
	// AuditPerson opens a row's sealed person; ErrErased where the key is gone.
	AuditPerson(ctx context.Context, r AuditRow) (string, error)
}

// auditFormat stands before all else in what is hashed.
const auditFormat = "dime/audit/1"

// AuditHash is the hash of a row (its own Hash does not count) behind the hash of
// the row before it; nil before the first. It is SHA-256 over the format's name,
// the hash before (32 bytes, zeros before the first), number and instant (8 bytes
// each, big-endian, milliseconds since 1970), and each field's length (4 bytes)
// and bytes: who, channel, action, target, reason, person, sealed, detail. The
// schema of PostgreSQL has the same as a function.
func AuditHash(before []byte, r AuditRow) []byte {
	var zero [sha256.Size]byte
	if before == nil {
		before = zero[:]
	}
	b := append([]byte(auditFormat), before...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Seq))            //nolint:gosec // the same bits
	b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixMilli())) //nolint:gosec // the same bits
	for _, f := range []string{r.Who, r.Channel, r.Action, r.Target, r.Reason, string(r.Person), string(r.Sealed), r.Detail} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f))) //nolint:gosec // Clean bounds it
		b = append(b, f...)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// Bounds of an entry's fields in bytes.
const (
	auditShort = 500
	auditLong  = 4000
	auditMost  = 64 << 10
)

// Clean is e as every store can keep it: valid UTF-8 without NUL, and bounded. A
// detail that is too long is left out whole, for half of it is no JSON.
func (e AuditEntry) Clean() AuditEntry {
	cut := func(s string, most int) string {
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "")
		if len(s) > most {
			s = strings.ToValidUTF8(s[:most], "")
		}
		return s
	}
	e.Who, e.Channel, e.Action, e.Target = cut(e.Who, auditShort), cut(e.Channel, auditShort), cut(e.Action, auditShort), cut(e.Target, auditShort)
	e.Reason = cut(e.Reason, auditLong)
	if len(e.Detail) > auditMost {
		e.Detail = `{"left_out":"longer than 64 KiB"}`
	}
	e.Detail = cut(e.Detail, auditMost)
	return e
}

// AuditBound is what a row's sealed person is bound to.
func AuditBound(token [16]byte) []byte { return append([]byte("audit\x00"), token[:]...) }
