package audit

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dime-bus/dime/internal/store"
)

// Format is the word by which an export begins.
const Format = "dime/audit/1"

// Head is the first line of an export: which part of which chain follows.
type Head struct {
	Format   string    `json:"format"`
	City     string    `json:"city"`
	At       time.Time `json:"at"`
	After    int64     `json:"after"`     // the number of the row before the first
	Before   string    `json:"before"`    // its hash, "" where there is none
	Last     int64     `json:"last"`      // the last row of the export; 0 for none
	Head     int64     `json:"head"`      // the chain's last row at that instant
	HeadHash string    `json:"head_hash"` // and its hash
}

// Line is a row in an export.
type Line struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	Channel string    `json:"channel"`
	Action  string    `json:"action"`
	Target  string    `json:"target"`
	Reason  string    `json:"reason"`
	Person  string    `json:"person,omitempty"` // look-up token
	Sealed  []byte    `json:"sealed,omitempty"`
	Detail  string    `json:"detail,omitempty"` // the JSON as it was hashed
	Hash    string    `json:"hash"`
}

// LineOf is a row as it is exported.
func LineOf(r store.AuditRow) Line {
	l := Line{Seq: r.Seq, At: r.At.UTC(), Who: r.Who, Channel: r.Channel, Action: r.Action, Target: r.Target, Reason: r.Reason,
		Person: hex.EncodeToString(r.Person), Sealed: r.Sealed, Detail: r.Detail, Hash: hex.EncodeToString(r.Hash)}
	return l
}

// Row is LineOf the other way.
func (l Line) Row() (store.AuditRow, error) {
	r := store.AuditRow{Seq: l.Seq, At: l.At, Who: l.Who, Channel: l.Channel, Action: l.Action, Target: l.Target, Reason: l.Reason,
		Sealed: l.Sealed, Detail: l.Detail}
	var err, herr error
	if l.Person != "" {
		r.Person, err = hex.DecodeString(l.Person)
	}
	r.Hash, herr = hex.DecodeString(l.Hash)
	return r, errors.Join(err, herr)
}

// Write writes a value as one line.
func Write(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// maxLine bounds a line of an export, and of a witness's file.
const maxLine = 1 << 20

// Read reads an export, and hands on its rows in the order of the file. A line
// that can't be read is an error which says which.
func Read(in io.Reader, head func(Head) error, row func(store.AuditRow) error) error {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, maxLine)
	n := 0
	for sc.Scan() {
		n++
		b := sc.Bytes()
		if n == 1 {
			var h Head
			if err := strict(b, &h); err != nil || h.Format != Format {
				return fmt.Errorf("this is no export of an audit: its first line does not say %q", Format)
			}
			if err := head(h); err != nil {
				return err
			}
			continue
		}
		var l Line
		err := strict(b, &l)
		var r store.AuditRow
		if err == nil {
			r, err = l.Row()
		}
		if err != nil {
			return fmt.Errorf("line %d is not a row of an audit: %w", n, err)
		}
		if err := row(r); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("reading behind line %d: %w", n, err)
	}
	if n == 0 {
		return errors.New("this is no export of an audit: it is empty")
	}
	return nil
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something stands behind it")
	}
	return nil
}
