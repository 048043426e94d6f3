package connectors

import (
	"io/fs"

	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// CityOff as Spec.City: every connector calls its own base_url.
const CityOff = "off"

// Spec is what a kind of connector is built from: one file of
// config/connectors.
type Spec struct {
	Name    string        // from the file's name
	File    string        // path in FS
	Node    *yamldoc.Node // the file, parsed
	FS      fs.FS
	Client  *httpclient.Client // nil where nothing is called (lint)
	Schemas *schema.Set        // the city's, for kinds whose operations name them
	Host    Host               // zero where nothing is called
	City    string             // URL of the virtual city, CityOff, or "" where nothing is called
}
