// Package postgres holds what a city installs on its PostgreSQL. The tests'
// server runs these very statements.
package postgres

import _ "embed"

//go:embed roles.sql
var roles string

// Roles is roles.sql: who owns the schema, and who works in it.
func Roles() string { return roles }
