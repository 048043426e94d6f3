package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/schema"
)

// Runs is what the admin face needs of the engine. Errors are *fault.Error:
// NotFound for a run that is not there, Conflict for an act that its state does
// not allow, Invalid for an act that makes no sense.
type Runs interface {
	List(ctx context.Context, f Filter) ([]Run, error)
	Show(ctx context.Context, run string) (Detail, error)
	Cancel(ctx context.Context, run string, a Act) (report any, err error)
	Replay(ctx context.Context, run string, a Act) (report any, err error)
	Skip(ctx context.Context, run string, a Act) (report any, err error)
	Resolve(ctx context.Context, run string, a Act) (report any, err error)
	Settle(ctx context.Context, run string, a Act) (report any, err error)
}

// Filter of List; zero fields do not restrict.
type Filter struct {
	Route  string
	States []string
	Before string // public id: only older runs
	Limit  int    // 100 if zero, 1000 at most
}

// Run is a run in a listing.
type Run struct {
	Run     string     `json:"run"`
	Route   string     `json:"route"`
	Version int        `json:"version"`
	State   string     `json:"state"`
	Reason  string     `json:"reason,omitempty"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Due     *time.Time `json:"due,omitempty"`
	Durable bool       `json:"durable"`
}

// Detail is a run with its timeline, personal fields masked.
type Detail struct {
	Run
	Digest   string `json:"digest"`
	Lines    []Line `json:"timeline"`
	Volatile bool   `json:"volatile,omitempty"` // kept in memory only; a crash loses it
}

// Line of a timeline. Its fields, names and types are those of the engine's line.
type Line struct {
	At       time.Time     `json:"at"`
	Step     string        `json:"step"`
	Kind     string        `json:"kind"`
	Round    int           `json:"round,omitempty"`
	Attempt  int           `json:"attempt,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
	Fault    string        `json:"fault,omitempty"`
	In       any           `json:"in,omitempty"`
	Out      any           `json:"out,omitempty"`
	Note     string        `json:"note,omitempty"`
}

// Act is a person's act on a run (semantics 10): POST /runs/{run}/{act}.
type Act struct {
	As       string `json:"as"`
	Reason   string `json:"reason"`
	DryRun   bool   `json:"dry_run"`
	From     string `json:"from"`     // replay: path, "" goes on where it rests
	Path     string `json:"path"`     // resolve
	Happened *bool  `json:"happened"` // resolve
	Result   any    `json:"result"`   // resolve
}

// AdminTask answers one request of the admin face: path gives the pattern's
// wildcards, body is the request's (nil for GET). The error is a *fault.Error.
type AdminTask func(ctx context.Context, path func(name string) string, body []byte) (any, error)

// Decode reads the body of an act strictly into a struct: unknown and repeated
// fields are refused, for a misspelt `dry_run` must not act.
func Decode(body []byte, into any) error {
	if _, err := schema.DecodeJSON(body); err != nil {
		return fault.New(fault.Invalid, "the body is not JSON: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fault.New(fault.Invalid, "the body is not what this act takes: %v", err)
	}
	return nil
}

// Who checks who acts and why.
func Who(as, reason string) error { return Act{As: as, Reason: reason}.check("act") }

func (a *admin) task(w http.ResponseWriter, r *http.Request, do AdminTask) {
	var body []byte
	if r.Method != http.MethodGet {
		var err error
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxAct)); err != nil {
			a.refuse(w, fault.New(fault.Invalid, "the body can't be read, or is longer than %d bytes", maxAct))
			return
		}
	}
	v, err := do(r.Context(), r.PathValue, body)
	if err != nil {
		a.refuse(w, err)
		return
	}
	a.send(w, http.StatusOK, v)
}
