package main

import (
	"fmt"
	"strings"

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
func (c *content) load() loaded { return c.loadFor(nil, nil, "") }

// loadFor reads the folder. prev, if not nil, is the city in force: only what
// changed since is checked again. client and cityURL are what connectors call with.
func (c *content) loadFor(prev *language.City, client *httpclient.Client, cityURL string) loaded {
	l := c.loadOnce(prev, client, cityURL)
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
		l = c.loadOnce(prev, client, cityURL)
	}
	l.problems = yamldoc.Sort(append(l.problems, warnings...))
	return l
}

func (c *content) loadOnce(prev *language.City, client *httpclient.Client, cityURL string) loaded {
	schemas, _ := schema.Load(c, "schemas") // its problems come again from language.Load
	cs, problems := all.Build(c, all.Deps{Client: client, Schemas: schemas, City: cityURL})
	descriptions := map[string]connectors.Description{}
	for name, k := range cs {
		descriptions[name] = k.Describe()
	}
	var city *language.City
	var ps []yamldoc.Problem
	o := language.Options{Connectors: descriptions}
	if prev != nil {
		city, ps = language.Reload(prev, c, o)
	} else {
		city, ps = language.Load(c, o)
	}
	return loaded{cs, city, yamldoc.Sort(append(problems, ps...))}
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
