// Package all is the one list of the kinds of connectors, and reads the city's
// config/connectors with it. Adding a kind touches one line of Kinds.
package all

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"sync"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/anagrafe"
	"github.com/dime-bus/dime/connectors/http"
	"github.com/dime-bus/dime/connectors/openapi"
	"github.com/dime-bus/dime/connectors/pagopa"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Dir is where the city's connectors are declared, one file each.
const Dir = "config/connectors"

// Kind is a kind of connector.
type Kind struct {
	Field string // the field of config/connectors/NAME.yaml that says "this kind"
	About string
	New   func(connectors.Spec) (connectors.Connector, []yamldoc.Problem)
}

// Kinds is the list.
func Kinds() []Kind {
	return []Kind{
		{openapi.Field, "operations of an OpenAPI 3.0 or 3.1 document", build(openapi.New)},
		{anagrafe.Field, "the national register of the population: PDND, ModI, ANPR, certificates", build(anagrafe.New)},
		{pagopa.Field, "payments through pagoPA as its creditor: positions, Checkout, stamps, receipts", build(pagopa.New)},
		{http.Field, "operations of a plain HTTP and JSON backend, declared one by one", build(http.New)},
	}
}

// build makes a nil *T a nil Connector.
func build[T any, C interface {
	*T
	connectors.Connector
}](f func(connectors.Spec) (C, []yamldoc.Problem)) func(connectors.Spec) (connectors.Connector, []yamldoc.Problem) {
	return func(s connectors.Spec) (connectors.Connector, []yamldoc.Problem) {
		c, ps := f(s)
		if c == nil {
			return nil, ps
		}
		return c, ps
	}
}

// Deps is what connectors are handed.
type Deps struct {
	Client  *httpclient.Client // nil where nothing is called (lint)
	Schemas *schema.Set        // the city's; nil where none are named
	Host    connectors.Host
	City    string // URL of the virtual city, connectors.CityOff, or "" where nothing is called
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)

// Build reads config/connectors/*.yaml of fsys. The connectors that are fine are
// returned even when others are not. Files whose names hold a further dot
// (agenda.openapi.yaml, agenda.state.yaml), and OpenAPI documents themselves,
// are read by the connectors that name them.
func Build(fsys fs.FS, d Deps) (map[string]connectors.Connector, []yamldoc.Problem) {
	cs := map[string]connectors.Connector{}
	entries, err := fs.ReadDir(fsys, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return cs, nil
	}
	if err != nil {
		return cs, []yamldoc.Problem{{Pos: yamldoc.Pos{File: Dir, Line: 1, Column: 1}, Rule: "connector", Message: fmt.Sprintf("reading the folder: %v", err)}}
	}
	type made struct {
		name, file string
		connector  connectors.Connector
		problems   []yamldoc.Problem
	}
	var files []*made
	for _, e := range entries {
		base, isYAML := cutYAML(e.Name())
		if e.IsDir() || !isYAML || strings.Contains(base, ".") {
			continue
		}
		files = append(files, &made{name: base, file: path.Join(Dir, e.Name())})
	}
	// Documents are the largest part of what is read before a city is served.
	var working sync.WaitGroup
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, m := range files {
		working.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			m.connector, m.problems = one(fsys, m.file, m.name, d)
		})
	}
	working.Wait()
	var ps []yamldoc.Problem
	for _, m := range files {
		ps = append(ps, m.problems...)
		if m.connector == nil {
			continue
		}
		if _, twice := cs[m.name]; twice {
			ps = append(ps, yamldoc.Problem{Pos: yamldoc.Pos{File: m.file, Line: 1, Column: 1}, Rule: "connector", Message: fmt.Sprintf("the connector %s is declared in two files", m.name)})
			continue
		}
		cs[m.name] = m.connector
	}
	return cs, yamldoc.Sort(ps)
}

func cutYAML(name string) (string, bool) {
	for _, ext := range []string{".yaml", ".yml"} {
		if base, ok := strings.CutSuffix(name, ext); ok {
			return base, true
		}
	}
	return name, false
}

func one(fsys fs.FS, file, name string, d Deps) (connectors.Connector, []yamldoc.Problem) {
	at := func(msg string) []yamldoc.Problem {
		return []yamldoc.Problem{{Pos: yamldoc.Pos{File: file, Line: 1, Column: 1}, Rule: "connector", Message: msg}}
	}
	b, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, at(fmt.Sprintf("reading the file: %v", err))
	}
	if isDocument(b) {
		return nil, nil
	}
	n, ps := yamldoc.Parse(file, b)
	if n == nil || len(ps) > 0 {
		return nil, ps
	}
	if n.Kind != yamldoc.Map {
		return nil, at("a connector's file is a map, not " + n.What())
	}
	if !nameForm.MatchString(name) {
		return nil, at(fmt.Sprintf("the file's name is the connector's: %q must be small letters, digits, - and _, beginning with a letter", name))
	}
	var fields []string
	for _, k := range Kinds() {
		fields = append(fields, k.Field)
		if n.Get(k.Field) == nil {
			continue
		}
		return k.New(connectors.Spec{Name: name, File: file, Node: n, FS: fsys, Client: d.Client, Schemas: d.Schemas, Host: d.Host, City: d.City})
	}
	sort.Strings(fields)
	for _, p := range n.Pairs {
		if s := yamldoc.Suggest(p.Key.Text, fields); s != "" {
			return nil, []yamldoc.Problem{p.Key.Problem("field", fmt.Sprintf("unknown field %q; did you mean %q?", p.Key.Text, s))}
		}
	}
	return nil, at("which kind of connector is it? One of these fields must be there: " + strings.Join(fields, ", "))
}

var documentLine = regexp.MustCompile(`(?m)^\s*["']?openapi["']?\s*:\s*["']?3\.[0-9]`)

// isDocument says that a file is an OpenAPI document and no declaration.
func isDocument(b []byte) bool { return documentLine.Match(b[:min(len(b), 8<<10)]) }
