// Package routetest runs the tests that stand beside a route (`*.test.yaml`).
//
// A case is one request to the real engine: the real journal on an in-memory
// store, the real bus, undo, timers and replay. Only two things are made up:
// time, which is virtual and jumps to the next alarm as soon as all work rests
// (a wait of three days takes no time), and the outside, whose operations and
// events answer what `given` says. So what a test proves holds for `dime serve`.
//
// The words of a test file are in the table of parse.go (Words); how values are
// merged and matched is written at value.go and match.go.
package routetest

import (
	"context"
	"io/fs"
	"time"

	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
)

// Suffix is how a test file's name ends; what stands before it is the name of
// the route file beside it.
const Suffix = ".test.yaml"

// Load reads the test files below paths (files or folders of fsys, slash
// separated; none means all of `routes`) and checks them against the city. It
// returns every file that could be read and all problems of all files, sorted.
// A file with problems that are not warnings must not be run.
func Load(fsys fs.FS, city *language.City, paths ...string) ([]*File, []yamldoc.Problem) {
	return load(fsys, city, paths)
}

// Check is Load for lint: only the problems.
func Check(fsys fs.FS, city *language.City) []yamldoc.Problem {
	_, ps := load(fsys, city, nil)
	return ps
}

// Options of Run; the zero value runs every case, as many at once as there are
// processors.
type Options struct {
	Match    string        // regular expression over "route: it"; empty runs all
	Seed     uint64        // for cases that name none; 0 means 1, so that a run repeats
	Parallel int           // cases at once; 0 is GOMAXPROCS
	Horizon  time.Duration // virtual time that a case may take; 0 is 100 days
	Each     func(*Result) // called as each case ends, in the order of the files; may be nil

	noIntent bool // the control of the crash matrix: an engine that breaks the rule
}

// Run runs the cases of files, which Load returned without problems. The error
// is of the runner's own (a bad Match, a store that can't be opened, ctx ended);
// failing cases are in the report.
func Run(ctx context.Context, city *language.City, files []*File, o Options) (Report, error) {
	return runAll(ctx, city, files, o)
}

// Report is what Run found. It is also the shape of `dime test -o json`.
type Report struct {
	Cases    []*Result   `json:"cases"`
	Passed   int         `json:"passed"`
	Failed   int         `json:"failed"`
	Coverage []*Coverage `json:"coverage"` // one a tested route, by name
}

// OK says whether every case passed.
func (r *Report) OK() bool { return r.Failed == 0 }

// Result is what became of one case.
type Result struct {
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Column   int           `json:"column"`
	Route    string        `json:"route"`
	It       string        `json:"it"`
	OK       bool          `json:"ok"`
	Duration time.Duration `json:"virtual_ns"` // virtual time from the request to the last thing that happened
	Seed     uint64        `json:"seed"`
	Variants int           `json:"variants"` // how often the case was run: 1, 2 for `send`, 2N+1 for N commits under `crash`
	Failures []Failure     `json:"failures,omitempty"`
}

// Failure is one thing that was not as `then` says.
type Failure struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	What     string   `json:"what"` // "effects pagopa.open_position"
	Want     string   `json:"want,omitempty"`
	Got      string   `json:"got,omitempty"`
	Variant  string   `json:"variant,omitempty"`  // "crashed before commit 3 (intent position)"
	Timeline []string `json:"timeline,omitempty"` // of the variant's runs, one line a step; on a variant's first failure
}

// Coverage says which steps and outcomes of a route no case reached.
type Coverage struct {
	Route   string   `json:"route"`
	File    string   `json:"file"`
	Reached int      `json:"reached"`
	Total   int      `json:"total"`
	Missed  []Missed `json:"missed,omitempty"`
}

// Missed is a step ("certificate") or an outcome ("resident: errors not_found")
// that no case reached.
type Missed struct {
	What   string `json:"what"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}
