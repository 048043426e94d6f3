// Package schemas is the city's canonical data model in JSON Schema 2020-12, and
// in events the schema of every event type.
package schemas

import "embed"

// Files holds the schemas as they were when the binary was built. Files on disk
// win over them.
//
//go:embed */*.json
var Files embed.FS
