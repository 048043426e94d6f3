package config

import "embed"

// Files holds the configuration as it was when the binary was built: the annotated
// dime.yaml, purposes, messages and the connectors. Files on disk win over them.
//
//go:embed *.yaml *.json connectors
var Files embed.FS
