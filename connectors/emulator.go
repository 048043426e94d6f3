package connectors

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
)

// Emulator is the far side of a connector, as the virtual city plays it: it
// speaks the true wire protocol and refuses what the real one would refuse. It is
// mounted at the city's /NAME/, with that prefix taken away.
type Emulator interface {
	http.Handler
	// Faults lists the names that EmulatorConfig.On may be asked for: OPERATION.FAULT
	// and no-dedupe, without the connector's name.
	Faults() []string
	Effects() ([]LedgerRow, error) // the ledger so far
	// Close ends the memory's files; what still comes is refused with 503.
	Close() error
	// Resume makes an emulator that has not been used yet go on from what a closed
	// one of its own type had in memory, where there is no folder.
	Resume(closed Emulator)
}

// Emulated is a connector whose far side the virtual city can play.
type Emulated interface {
	Connector
	Emulator(EmulatorConfig) (Emulator, error)
}

// Arrival is a request as it came in, before anything was made of it.
type Arrival struct {
	Connector string    `json:"connector"`
	Operation string    `json:"operation"` // "" where the path fits none
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Key       string    `json:"key,omitempty"` // Idempotency-Key, else X-Request-ID
	Subject   string    `json:"subject,omitempty"`
	Body      string    `json:"body,omitempty"`
	At        time.Time `json:"at"`
}

// LedgerRow is one effect that was carried out.
type LedgerRow struct {
	Connector string    `json:"connector"`
	Operation string    `json:"operation"`
	Subject   string    `json:"subject"`
	Key       string    `json:"key"`
	At        time.Time `json:"at"`
}

// EmulatorConfig is what the far side of a connector is played with.
type EmulatorConfig struct {
	Data  string         // folder of its memory; "" forgets at the end
	Clock clock.Clock    // nil is the machine's
	Zone  *time.Location // the city's; nil is Europe/Rome
	Seed  string         // of the values that stand in for a state file
	Log   *slog.Logger
	// Citizens are the people of the city, the same for every far side; nil is those
	// of the seed.
	Citizens func() *citizens.Register
	// URL is where the city serves this far side, for the links that it hands out.
	URL func() string
	// Record is told of every request before any deduplication; an error refuses
	// the request, for what is not on record must not have an effect.
	Record func(Arrival) error
	// On says whether the fault CONNECTOR.x is switched on, by the part behind the
	// connector's name: "hold.timeout", "no-dedupe". Latency is added to every answer.
	On      func(name string) bool
	Latency func() time.Duration
}
