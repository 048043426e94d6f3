// Package rabbitmq holds the broker's configuration that a city installs. The
// tests' broker runs on these very files.
package rabbitmq

import (
	_ "embed"
	"maps"
	"slices"
	"strings"
)

// VHost is the virtual host of the definitions.
const VHost = "dime"

//go:embed definitions.json
var definitions string

//go:embed rabbitmq.conf
var conf string

// Definitions is definitions.json: virtual host, users without passwords, their
// permissions, policies and the topology that all roles share.
func Definitions() []byte { return []byte(definitions) }

// Configure is rabbitmq.conf with the values of some keys changed or added.
func Configure(set map[string]string) string {
	set = maps.Clone(set)
	var b strings.Builder
	for line := range strings.Lines(conf) {
		key, _, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if v, changed := set[key]; ok && changed && !strings.HasPrefix(key, "#") {
			delete(set, key)
			line = key + " = " + v + "\n"
		}
		b.WriteString(line)
	}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		b.WriteString(key + " = " + set[key] + "\n")
	}
	return b.String()
}
