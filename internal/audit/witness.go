package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// Times of a witness that is not configured otherwise.
const (
	Every      = time.Hour
	again      = time.Minute // after a failure
	callWithin = 10 * time.Second
)

// Witness tells the chain's head to what is outside the store, so that who cuts
// rows off is found. Not to reach it never stops the bus.
type Witness struct {
	Store store.Audit
	City  string
	File  string       // on another disk; "" for none
	URL   string       // https; "" for none
	HTTP  *http.Client // nil makes one that follows no redirect
	Every time.Duration
	Clock clock.Clock
	Log   *slog.Logger

	mu    sync.Mutex
	state WitnessState
}

// WitnessState is how it stands, for metrics.
type WitnessState struct {
	Told    time.Time // when all were last told; zero: never
	Seq     int64     // the head that they were told
	Failing bool      // the last attempt failed
	Cut     bool      // a witness had seen more than the store has now
}

// Set says whether anybody is to be told.
func (w *Witness) Set() bool { return w.File != "" || w.URL != "" }

// State is how it stands.
func (w *Witness) State() WitnessState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Run tells the head now and every hour, until ctx ends.
func (w *Witness) Run(ctx context.Context) {
	if !w.Set() {
		return
	}
	every := w.Every
	if every <= 0 {
		every = Every
	}
	for {
		pause := every
		if err := w.Tell(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			pause = min(again, every)
			w.Log.Error("telling the audit's head to its witness; it is tried again", "error", err)
		}
		if clock.Sleep(ctx, w.Clock, pause) != nil {
			return
		}
	}
}

// Tell tells the head once.
func (w *Witness) Tell(ctx context.Context) error {
	if !w.Set() {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.tell(ctx)
	w.state.Failing = err != nil
	return err
}

func (w *Witness) tell(ctx context.Context) error {
	seq, hash, err := w.Store.AuditHead(ctx)
	if err != nil {
		return err
	}
	m := Mark{City: w.City, Seq: seq, Hash: hex.EncodeToString(hash), At: w.Clock.Now().UTC().Truncate(time.Millisecond)}
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the audit's head: %w", err)
	}
	line = append(line, '\n')
	var errs []error
	if w.File != "" {
		errs = append(errs, w.write(m, line))
	}
	if w.URL != "" {
		errs = append(errs, w.post(ctx, line))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	w.state.Told, w.state.Seq = m.At, seq
	return nil
}

// write adds a line to the file, and says if the file has seen more than there is.
func (w *Witness) write(m Mark, line []byte) (err error) {
	f, err := os.OpenFile(w.File, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the audit's witness: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	seen, torn, err := lastMark(f)
	if err != nil {
		return fmt.Errorf("reading the audit's witness %s: %w", w.File, err)
	}
	if cut := seen.Seq > m.Seq; cut != w.state.Cut {
		if w.state.Cut = cut; cut {
			w.Log.Error("the audit's witness has seen more rows than the store has: rows were cut off, or a backup was restored; run dime audit verify --witness",
				"witness", w.File, "seen", seen.Seq, "at", seen.At, "there", m.Seq)
		}
	}
	if torn { // a write that was cut off: what follows begins a line of its own
		line = append([]byte("\n"), line...)
	}
	if _, err = f.Write(line); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("writing the audit's witness: %w", err)
	}
	return nil
}

// lastMark reads the end of a witness's file.
func lastMark(f *os.File) (m Mark, torn bool, err error) {
	st, err := f.Stat()
	if err != nil {
		return m, false, err
	}
	const tail = 64 << 10
	b := make([]byte, min(st.Size(), tail))
	if _, err := f.ReadAt(b, st.Size()-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return m, false, err
	}
	torn = len(b) > 0 && b[len(b)-1] != '\n'
	for line := range bytes.Lines(b) {
		var one Mark
		if strict(line, &one) == nil && one.Seq >= m.Seq {
			m = one
		}
	}
	return m, torn, nil
}

func (w *Witness) post(ctx context.Context, body []byte) error {
	c := w.HTTP
	if c == nil {
		c = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("telling the audit's witness: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("telling the audit's witness: %w", err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("telling the audit's witness: it answered %d", resp.StatusCode)
	}
	return nil
}

// MarksOf reads a witness's file by its name; one that is not there is an error,
// for it would prove nothing.
func MarksOf(name string) ([]Mark, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no witness %s", name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the witness: %w", err)
	}
	defer f.Close()
	ms, err := ReadMarks(f)
	if err != nil {
		return nil, fmt.Errorf("reading the witness %s: %w", name, err)
	}
	return ms, nil
}
