package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/all"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
)

// loaded is one reading of a content folder: what lint checks, test runs and
// serve puts in force. There is no second path.
type loaded struct {
	connectors map[string]connectors.Connector
	city       *language.City
	problems   []yamldoc.Problem
}

// load reads the folder for checking only: no connector can call anything.
func (c *content) load() loaded {
	cfg, _ := config.Load(c, func(string) (string, bool) { return "", false }, nil) // its problems are lint's
	return c.loadFor(nil, reach{brokers: cfg.BrokerNames()})
}

// reach is what the server lends its content: what connectors call with, and
// what a route has that says nothing of its own.
type reach struct {
	client           *httpclient.Client
	host             connectors.Host
	city             string // URL
	within, patience time.Duration
	brokers          []string // that routes may name
}

// loadFor reads the folder. prev, if not nil, is the city in force: only what
// changed since is checked again.
func (c *content) loadFor(prev *language.City, r reach) loaded {
	l := c.loadOnce(prev, r)
	// A shipped route may not fit a city that brings its own messages, schemas or
	// paths. The city's own files are the truth: such a route is left out.
	var warnings []yamldoc.Problem
	for range 8 { // a route left out may be one that others call
		var unfit []string
		for _, p := range l.problems {
			if !p.Warning && strings.HasPrefix(p.File, "routes/") && c.shipped(p.File) && !c.leftOut[p.File] {
				unfit = append(unfit, p.File)
				warnings = append(warnings, yamldoc.Problem{Pos: p.Pos, Rule: p.Rule, Warning: true,
					Message: fmt.Sprintf("the shipped route is left out, for it does not fit this city: %s", p.Message)})
				if c.leftOut == nil {
					c.leftOut = map[string]bool{}
				}
				c.leftOut[p.File] = true
				c.leftOut[strings.TrimSuffix(p.File, ".yaml")+".test.yaml"] = true
			}
		}
		if len(unfit) == 0 {
			break
		}
		l = c.loadOnce(prev, r)
	}
	l.problems = yamldoc.Sort(append(l.problems, warnings...))
	return l
}

func (c *content) loadOnce(prev *language.City, r reach) loaded {
	b := c.connectors(r)
	var city *language.City
	var ps []yamldoc.Problem
	o := language.Options{Connectors: b.descriptions, Yields: c.shipped, Within: r.within, Patience: r.patience, Brokers: r.brokers}
	if prev != nil {
		city, ps = language.Reload(prev, c, o)
	} else {
		city, ps = language.Load(c, o)
	}
	return loaded{b.connectors, city, yamldoc.Sort(append(slices.Clone(b.problems), ps...))}
}

// built is the connectors of one state of the files that they are made of.
type built struct {
	from         string // digest of those files
	client       *httpclient.Client
	cityURL      string
	connectors   map[string]connectors.Connector
	descriptions map[string]connectors.Description
	problems     []yamldoc.Problem
}

// connectors makes the connectors, or hands out those that were made before from
// the same files. Routes hold the very operations that they call, so that new
// connectors make every route that calls one be checked again. What a connector
// is made of lies below config/ and schemas/: content opens nothing else.
func (c *content) connectors(r reach) *built {
	from, err := digestBelow(c, "config", "schemas")
	if last := c.last; err == nil && last != nil && last.from == from && last.client == r.client && last.cityURL == r.city {
		return last
	}
	b := &built{from: from, client: r.client, cityURL: r.city, descriptions: map[string]connectors.Description{}}
	schemas, _ := schema.Load(c, "schemas") // its problems come again from language.Load
	b.connectors, b.problems = all.Build(c, all.Deps{Client: r.client, Schemas: schemas, Host: r.host, City: r.city})
	for name, k := range b.connectors {
		b.descriptions[name] = k.Describe()
	}
	if err == nil {
		c.last = b
	}
	return b
}

// digestBelow is one digest of the names and contents of all files below folders.
func digestBelow(fsys fs.FS, folders ...string) (string, error) {
	sum := sha256.New()
	for _, dir := range folders {
		err := fs.WalkDir(fsys, dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := fs.ReadFile(fsys, file)
			if err != nil {
				return err
			}
			fmt.Fprintf(sum, "%q %d\n", file, len(b))
			sum.Write(b)
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("reading %s: %w", dir, err)
		}
	}
	return string(sum.Sum(nil)), nil
}

// refusals are the problems that are not warnings.
func refusals(ps []yamldoc.Problem) []yamldoc.Problem {
	var out []yamldoc.Problem
	for _, p := range ps {
		if !p.Warning {
			out = append(out, p)
		}
	}
	return out
}
