package anagrafe

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// emKey is a signing key of a client as PDND's back office knows it.
type emKey struct {
	KID    string `json:"kid"`
	Client string `json:"client"`
	PKIX   []byte `json:"pkix,omitempty"` // none: it was removed
	public *rsa.PublicKey
}

// emDone is an answer of an e-service, which a repeated number brings back.
type emDone struct {
	Series string          `json:"series"`
	ID     int64           `json:"id"`
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body,omitempty"`
	XML    string          `json:"xml,omitempty"`
}

// emSeen is the identifier of a token that may not come again, or only as what it
// was: Digest is a tracking evidence's.
type emSeen struct {
	ID     string `json:"id"`
	Until  int64  `json:"until"`
	Digest string `json:"digest,omitempty"`
}

// emIssued is a certificate.
type emIssued struct {
	ID       int64     `json:"id"`
	Key      string    `json:"key"`      // X-Request-Id, for the city's ledger alone
	Protocol string    `json:"protocol"` // protocolloComune
	Number   string    `json:"number"`   // numeroProtocolloANPR
	Subject  string    `json:"subject"`
	At       time.Time `json:"at"`
}

// emLine is one line of the memory.
type emLine struct {
	Key         *emKey    `json:"key,omitempty"`
	Certificate []byte    `json:"certificate,omitempty"` // DER
	Done        *emDone   `json:"done,omitempty"`
	Seen        *emSeen   `json:"seen,omitempty"`
	Issued      *emIssued `json:"issued,omitempty"`
	Moved       *emMoved  `json:"moved,omitempty"`
	Signer      []byte    `json:"signer,omitempty"` // PDND's own key, PKCS #8
}

// emMemory is the far side's memory: a file to which a line is appended, whole,
// for each thing that changed.
type emMemory struct {
	file  *os.File
	lines []emLine // where there is no file

	keys         map[string]*emKey
	certificates map[string]bool // by DER
	done         map[string]*emDone
	last         map[string]int64 // by series
	seen         map[string]emSeen
	issued       []emIssued
	moves        []emMoved
	lives        map[string]emLife // where somebody lives who has moved, by tax code
	operations   int64
	signer       *rsa.PrivateKey
}

func openEmMemory(file string, past []emLine, now int64) (*emMemory, error) {
	m := &emMemory{keys: map[string]*emKey{}, certificates: map[string]bool{}, done: map[string]*emDone{}, last: map[string]int64{},
		seen: map[string]emSeen{}, lives: map[string]emLife{}}
	if file == "" {
		for _, l := range past {
			if err := m.play(l, now); err != nil {
				return nil, err
			}
		}
		m.lines = past
		return m, m.sign()
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Clean(file), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	m.file = f
	good := int64(0)
	for r := bufio.NewReaderSize(f, 64<<10); ; {
		b, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(b) > 0 { // torn by a kill: it was never answered
				if err := f.Truncate(good); err != nil {
					return nil, errors.Join(err, f.Close())
				}
			}
			if err := m.sign(); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			return m, nil
		}
		var l emLine
		if err == nil {
			err = json.Unmarshal(b, &l)
		}
		if err == nil {
			err = m.play(l, now)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: the line at byte %d is damaged: %w; move the file away to begin anew", file, good, err), f.Close())
		}
		good += int64(len(b))
	}
}

func (m *emMemory) play(l emLine, now int64) error {
	switch {
	case l.Key != nil && l.Key.PKIX == nil:
		delete(m.keys, l.Key.KID)
	case l.Key != nil:
		k, err := x509.ParsePKIXPublicKey(l.Key.PKIX)
		if err != nil {
			return err
		}
		public, ok := k.(*rsa.PublicKey)
		if !ok {
			return errors.New("a registered key is no RSA key")
		}
		l.Key.public = public
		m.keys[l.Key.KID] = l.Key
	case l.Certificate != nil:
		m.certificates[string(l.Certificate)] = true
	case l.Done != nil:
		m.done[emDoneKey(l.Done.Series, l.Done.ID)] = l.Done
		m.last[l.Done.Series] = max(m.last[l.Done.Series], l.Done.ID)
		m.operations++
	case l.Seen != nil:
		if l.Seen.Until >= now {
			m.seen[l.Seen.ID] = *l.Seen
		}
	case l.Issued != nil:
		m.issued = append(m.issued, *l.Issued)
	case l.Moved != nil:
		m.move(*l.Moved)
	case l.Signer != nil:
		k, err := x509.ParsePKCS8PrivateKey(l.Signer)
		if err != nil {
			return err
		}
		signer, ok := k.(*rsa.PrivateKey)
		if !ok {
			return errors.New("PDND's key is no RSA key")
		}
		m.signer = signer
	}
	return nil
}

func emDoneKey(series string, id int64) string { return fmt.Sprintf("%s\x00%d", series, id) }

// write appends lines in one call, so that a kill leaves them all or a torn tail.
func (m *emMemory) write(ls ...emLine) error {
	var b bytes.Buffer
	for _, l := range ls {
		line, err := json.Marshal(l)
		if err != nil {
			return err
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	if m.file == nil {
		m.lines = append(m.lines, ls...)
	} else if _, err := m.file.Write(b.Bytes()); err != nil {
		return err
	}
	for _, l := range ls {
		if err := m.play(l, 0); err != nil {
			return err
		}
	}
	return nil
}

func (m *emMemory) close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// sign makes PDND's own key on first use.
func (m *emMemory) sign() error {
	if m.signer != nil {
		return nil
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	return m.write(emLine{Signer: b})
}

// forget drops the identifiers whose tokens have expired, when there are many.
func (m *emMemory) forget(now int64) {
	if len(m.seen) < 10_000 {
		return
	}
	for id, s := range m.seen {
		if s.Until < now {
			delete(m.seen, id)
		}
	}
}
