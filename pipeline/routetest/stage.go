package routetest

import (
	"strings"

	"github.com/dime-bus/dime/pipeline/language"
)

// stage is the part of the city that a route's tests run in: the route itself,
// begun by nothing but the test, and as a stand-in without steps every route
// that it starts. Routes that it calls inside its run are part of it.
type stage struct {
	route *language.Route
	city  *language.City
	facts *facts
}

func stageOf(city *language.City, r *language.Route) *stage {
	played := *r
	played.From = nil
	for _, t := range r.From {
		if t.Kind == language.HTTP {
			played.From = append(played.From, t)
		}
	}
	f := factsOf(city, r)
	routes := map[string]*language.Route{r.Name: &played}
	for started := range f.starts {
		name := strings.TrimPrefix(started, routeWord)
		real := city.Routes[name]
		if real == nil || name == r.Name {
			continue
		}
		stub := *real
		stub.From = []language.Trigger{{Kind: language.Called}}
		stub.Steps, stub.Allow, stub.Once, stub.OrderBy, stub.Limit = nil, nil, nil, nil, nil
		stub.Waits, stub.Calls, stub.Routes, stub.Safe, stub.Pipe = nil, nil, nil, true, false
		routes[name] = &stub
	}
	return &stage{route: r, facts: f, city: &language.City{
		Routes: routes, Events: city.Events, Purposes: city.Purposes, Messages: city.Messages,
		Cfg: city.Cfg, CfgType: city.CfgType, Schemas: city.Schemas, Connectors: city.Connectors,
		Zone: city.Zone, Files: city.Files,
	}}
}
