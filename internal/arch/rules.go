// Package arch holds the architecture: who may import whom, which outside
// library has which owner, how large a file and a package may grow, and what may
// not stand in the tree. The rules are tables; the same tables are checked by
// this package's test and printed into docs/reference by Markdown.
package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Module is the path of the Go module whose tree is checked.
const Module = "github.com/dime-bus/dime"

// Limits of size, in lines that hold code: comments and empty lines are free.
const (
	MaxFileLines    = 600  // of any Go file, tests included
	MaxPackageLines = 5200 // of a package's Go files without its tests
)

// Layer says what the packages below a folder may import of this module. Paths
// are relative to the module; "x/..." is x and everything below it; "" is the
// module's root.
type Layer struct {
	Name    string   // also the name of the rule that a violation reports
	Of      []string // the packages that the layer is made of
	Except  []string // packages below Of that another layer owns
	May     []string // what they may import
	Tests   []string // what their tests may import besides
	Because string
}

// The first layer that a package belongs to decides.
var layers = [...]Layer{
	{
		Name: "control", Of: []string{"bench/control"}, May: nil,
		Because: "What Dime is measured against is the standard library alone.",
	},
	{
		Name: "cmd", Of: []string{"cmd/...", "bench/...", "test/..."}, May: []string{"..."},
		Because: "All wiring is done by hand in cmd's wire.go; benchmarks and kill tests drive the whole.",
	},
	{
		Name: "pipeline", Of: []string{"pipeline/..."},
		May:     []string{"pipeline/...", "connectors", "internal/..."},
		Because: "The engine knows the connector contract, never a connector.",
	},
	{
		Name: "connectors-all", Of: []string{"connectors/all"},
		May:     []string{"connectors/...", "internal/..."},
		Tests:   []string{"config"},
		Because: "connectors/all is the one list: adding a connector touches one existing line.",
	},
	{
		Name: "connectors-city", Of: []string{"connectors/city", "connectors/connectortest"},
		May:     []string{"connectors/...", "internal/..."},
		Tests:   []string{"config"},
		Because: "The virtual city mounts the far side of every connector; connectortest is the suite that judges them.",
	},
	{
		Name: "connector", Of: []string{"connectors/..."},
		May: []string{"connectors", "internal/fault", "internal/clock", "internal/schema", "internal/expression",
			"internal/yamldoc", "internal/httpclient", "internal/taxcode", "internal/citizens", "internal/xml/...", "internal/jose/...", "internal/document/...", "internal/page"},
		Tests:   []string{"connectors/connectortest", "connectors/readmetest", "connectors/city", "internal/store/serial"},
		Because: "A connector never knows pipeline, bus, routes or a neighbour.",
	},
	{
		Name: "module", Of: []string{"modules/..."},
		May:     []string{"internal/bus/client/...", "internal/store/...", "internal/fault", "internal/clock", "internal/schema", "internal/identity"},
		Because: "A module speaks to the city only through the bus client and to its own tables through the store, so that it can run alone.",
	},
	{
		Name: "deploy", Of: []string{"deploy/..."}, May: nil, Tests: []string{"test/cluster"},
		Because: "What a city installs is files; their tests run on a server that loads them.",
	},
	{
		Name: "internal", Of: []string{"internal/..."}, May: []string{"internal/..."},
		Tests:   []string{"test/cluster"},
		Because: "internal never looks upstairs; its tests may start servers.",
	},
	{
		Name: "content", Of: []string{"routes/...", "schemas/..."}, May: nil,
		Tests:   []string{"pipeline/language", "pipeline/routetest", "connectors", "connectors/all", "connectors/city", "internal/...", "routes", "schemas", "config"},
		Because: "Content folders hold one embed file and one test that checks every file in them.",
	},
	{
		Name: "config", Of: []string{"config/..."}, May: []string{"internal/..."},
		Tests:   []string{"pipeline/language", "connectors", "connectors/all", "routes", "schemas"},
		Because: "config reads the configuration and hands out values.",
	},
}

// Reader is a package that only the named folders may import.
type Reader struct {
	Package string
	By      []string
	Because string
}

// Owner is an outside library and the folders that may import it.
type Owner struct {
	Library string   // import path prefix
	By      []string // folders; the first is the owner
	Tests   bool     // also in every test
	Because string
}

var owners = [...]Owner{
	{Library: "gopkg.in/yaml.v3", By: []string{"internal/yamldoc"}},
	{Library: "github.com/goccy/go-yaml", By: []string{"internal/yamldoc"}},
	{Library: "github.com/santhosh-tekuri/jsonschema/v6", By: []string{"internal/schema"}},
	{Library: "github.com/go-json-experiment/json", By: []string{"internal/schema"}},
	{Library: "github.com/expr-lang/expr", By: []string{"internal/expression"}},
	{Library: "github.com/ThreeDotsLabs/watermill/message", By: []string{"internal/bus/...", "cmd/..."},
		Because: "The bus's contract is Watermill's Publisher and Subscriber, so the wiring meets its messages."},
	{Library: "github.com/ThreeDotsLabs/watermill", By: []string{"internal/bus/..."}},
	{Library: "github.com/ThreeDotsLabs/watermill-amqp", By: []string{"internal/bus/..."}},
	{Library: "github.com/rabbitmq/amqp091-go", By: []string{"internal/bus/..."}, Tests: true, Because: "Tests play other people's programs, and each role of the broker."},
	{Library: "github.com/prometheus", By: []string{"internal/telemetry"}},
	{Library: "go.opentelemetry.io", By: []string{"internal/telemetry"}},
	{Library: "zombiezen.com/go/sqlite", By: []string{"internal/store/..."}},
	{Library: "modernc.org/sqlite", By: []string{"internal/store/..."}},
	{Library: "github.com/jackc/pgx", By: []string{"internal/store/...", "test/cluster"}, Because: "The tests' private server is asked whether it answers."},
	{Library: "github.com/pressly/goose/v3", By: []string{"internal/store/postgres"}},
	{Library: "github.com/klauspost/compress", By: []string{"internal/store/..."}},
	{Library: "golang.org/x/crypto/chacha20poly1305", By: []string{"internal/store/seal"}, Because: "The standard library has no authenticated cipher whose nonces may be drawn at random without a count."},
	{Library: "github.com/go-jose/go-jose/v4", By: []string{"internal/jose", "internal/identity"}},
	{Library: "github.com/russellhaering/goxmldsig", By: []string{"internal/xml/signature"}},
	{Library: "github.com/beevik/etree", By: []string{"internal/xml/signature"}},
	{Library: "github.com/mattermost/xml-roundtrip-validator", By: []string{"internal/xml/signature"}},
	{Library: "github.com/boombuler/barcode", By: []string{"internal/document/..."}},
	{Library: "github.com/go-pdf/fpdf", By: []string{"internal/document/..."}},
	{Library: "github.com/pdfcpu/pdfcpu", Tests: true, Because: "It validates the documents that internal/document writes; no program carries it."},
	{Library: "github.com/failsafe-go/failsafe-go", By: []string{"connectors"}, Because: "guard.go holds the policies of every backend."},
	{Library: "github.com/fsnotify/fsnotify", By: []string{"cmd/..."}, Because: "Hot reload watches the content folder."},
	{Library: "github.com/spf13", By: []string{"cmd/..."}},
	{Library: "github.com/rogpeppe/go-internal", By: []string{"cmd/..."}, Tests: true, Because: "testscript and txtar are the form of golden tests."},
	{Library: "github.com/Shopify/toxiproxy/v2", Tests: true, Because: "test/kill lets connections be slow or cut."},
	{Library: "github.com/rs/zerolog", Tests: true, Because: "Toxiproxy asks for a logger of it."},
	{Library: "github.com/google/go-cmp", Tests: true, Because: "Tests and suites (storetest ...) are the standard library and go-cmp."},
	{Library: "golang.org/x/text", By: []string{"internal/page", "internal/gateway/...", "internal/taxcode"}, Because: "Language negotiation at the edge; names without their accents."},
}

// Layers, Owners and Readers return copies of the tables.
func Layers() []Layer { return slices.Clone(layers[:]) }

// Owners returns the table of outside libraries.
func Owners() []Owner { return slices.Clone(owners[:]) }

// Readers returns the packages that only some may import.
func Readers() []Reader { return slices.Clone(readers[:]) }

var readers = [...]Reader{
	{Package: "cmd/...", By: nil, Because: "Nobody imports cmd."},
	{Package: "config", By: []string{"cmd/...", "config/...", "bench/...", "test/..."},
		Because: "Only cmd and config read configuration; everyone else is handed values."},
	{Package: "routes/...", By: []string{"cmd/...", "bench/...", "test/..."}, Because: "Content is handed in as a file system."},
	{Package: "schemas/...", By: []string{"cmd/...", "bench/...", "test/..."}, Because: "Content is handed in as a file system."},
}

// environmentReaders are the packages that the rule `environment` lets through.
func environmentReaders() []string {
	return []string{"cmd/...", "config", "connectors", "bench/...", "test/..."}
}

// measures says whether a package may use any library that has an owner: bench
// sets what we built beside the library it is built on.
func measures(pkg string) bool { return under(pkg, "bench/...") && !under(pkg, "bench/control") }

// under says whether the module-relative package p is named by one of patterns.
func under(p string, patterns ...string) bool {
	for _, pat := range patterns {
		if base, deep := strings.CutSuffix(pat, "..."); deep {
			base = strings.TrimSuffix(base, "/")
			if base == "" || p == base || strings.HasPrefix(p, base+"/") {
				return true
			}
		} else if p == pat {
			return true
		}
	}
	return false
}

// layerOf returns the layer that owns p, or nil.
func layerOf(p string) *Layer {
	for i := range layers {
		if under(p, layers[i].Of...) && !under(p, layers[i].Except...) {
			return &layers[i]
		}
	}
	return nil
}

// Rules lists the name of every rule and what it says, in the order in which
// Markdown prints them.
func Rules() [][2]string {
	rs := [][2]string{
		{"reader", "Some packages may be imported by few: the table below."},
		{"owner", "Each outside library has one owner, so that a switch of library is a change in one folder."},
		{"folder", "Every Go package lies in a folder that architecture.md names."},
		{"init", "No init functions: whoever reads wire.go has seen all that runs."},
		{"global", "No mutable package-level state."},
		{"environment", "Only cmd and config read the environment; connectors do so for secret references alone, which are resolved at use so that a rotated secret counts at once."},
		{"log", "log/slog only; nothing prints to the log package."},
		{"file-size", fmt.Sprintf("A Go file has at most %d lines of code; comments and empty lines are free.", MaxFileLines)},
		{"package-size", fmt.Sprintf("A package has at most %d lines of code without its tests.", MaxPackageLines)},
		{"word", "Nothing unfinished, and nothing of one person's machine, stands in the tree."},
	}
	for _, l := range layers {
		rs = append(rs, [2]string{"import-" + l.Name, l.Because})
	}
	return rs
}

// Markdown prints the tables: the reference of the architecture.
func Markdown() string {
	var b strings.Builder
	b.WriteString("# Rules of the house\n\nChecked by `go test ./internal/arch`. Paths are relative to the module; `x/...` is x and all below it.\n\n")
	b.WriteString("## Rules\n\n| rule | what it says |\n|---|---|\n")
	for _, r := range Rules() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r[0], r[1])
	}
	b.WriteString("\n## Who may import whom\n\n| packages | may import | their tests also | because |\n|---|---|---|---|\n")
	for _, l := range layers {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(l.Of), code(l.May), code(l.Tests), l.Because)
	}
	b.WriteString("\n## Who is imported by few\n\n| package | only by | because |\n|---|---|---|\n")
	for _, r := range readers {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Package, code(r.By), r.Because)
	}
	b.WriteString("\n## Owners of outside libraries\n\n| library | owner | note |\n|---|---|---|\n")
	for _, o := range owners {
		note := o.Because
		if o.Tests {
			note = strings.TrimSpace("Every test may use it. " + note)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", o.Library, code(o.By), note)
	}
	return b.String()
}

func code(ps []string) string {
	if len(ps) == 0 {
		return "-"
	}
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = "`" + p + "`"
	}
	return strings.Join(out, " ")
}
