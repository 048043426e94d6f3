// Package routes is the city's routes, by service, each with its tests beside it.
package routes

import "embed"

// Files holds the routes as they were when the binary was built, below their
// services' folders. Files on disk win over them.
//
//go:embed */*.yaml
var Files embed.FS
