// Package run is the engine: it accepts requests, events and timers, walks a
// checked route's steps, keeps the journal, retries, rests, wakes, undoes and
// lets people mend. semantics.md is its specification; comments name its sections.
package run

import (
	"time"

	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/store"
)

// Request asks for one run.
type Request struct {
	Route    string
	Req      any // decoded JSON; validated here against the route's `req`
	Caller   *identity.Caller
	Trigger  string    // "http", "event", "queue", "cron", "every", "start", "client"
	Deadline time.Time // the caller's; zero: the route's `within`
	Key      string    // message id or cron instant: the once key where the route has none
	Ack      *store.Ack
	Trace    string // trace id for the timeline, may be empty

	id     store.RunID // set aside before (start)
	parent string
}

// Answer is what the caller gets. Exactly one of Body and Problem is set unless
// Status is 204.
type Answer struct {
	Status  int
	Body    any
	Problem *Problem
	Header  map[string]string // Location, Retry-After, Idempotent-Replayed
	Run     string            // public id; "" if no run existed
	Say     string            // message key of the body or problem, for the edge to translate
}

// Problem is RFC 9457 with the run's id.
type Problem struct {
	Type   string       `json:"type"` // "urn:dime:problem:KIND"
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail,omitempty"`
	Run    string       `json:"run,omitempty"`
	URL    string       `json:"run_url,omitempty"`
	Errors []FieldError `json:"errors,omitempty"`
	Say    string       `json:"say,omitempty"`
}

// FieldError names a field that is wrong.
type FieldError struct {
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

// Line is one line of a run's timeline, personal fields masked.
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

// Summary is a run in a listing.
type Summary struct {
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

// Detail is a run with its timeline.
type Detail struct {
	Summary
	Digest   string `json:"digest"`
	Lines    []Line `json:"timeline"`
	Volatile bool   `json:"volatile,omitempty"` // kept in memory only; a crash loses it
}

// View is what the owner of a run sees at run.url.
type View struct {
	Run    string `json:"run"`
	Route  string `json:"route"`
	State  string `json:"state"`
	Result any    `json:"result,omitempty"`
}

// Act is a person's act on a run (semantics 10).
type Act struct {
	As       string // who
	Reason   string // why
	DryRun   bool
	From     string // replay: path
	Path     string // resolve: the step in doubt or stuck undo
	Happened *bool  // resolve
	Result   any    // resolve: the result of what happened
}

// Owner is who asks for a View; nil is nobody.
type Owner = *identity.Caller

// Filter of Runs; zero fields do not restrict.
type Filter struct {
	Route  string
	States []string
	Before string // public id: runs older than it
	Limit  int    // 100 if zero
}

// Report says what a person's act did, or with DryRun would do.
type Report struct {
	Run    string   `json:"run"`
	State  string   `json:"state"` // after the act
	DryRun bool     `json:"dry_run,omitempty"`
	Undo   []string `json:"undo,omitempty"`  // paths of effects that are undone first, in order
	Keep   []string `json:"keep,omitempty"`  // paths of effects that keep their recorded outcome
	Again  []string `json:"again,omitempty"` // paths of effects that get a new round
	Note   string   `json:"note,omitempty"`
}
