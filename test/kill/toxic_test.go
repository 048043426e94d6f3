package kill

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// toxic is a connection between the bus and a server that can be slow or cut.
type toxic struct {
	proxy *toxiproxy.Proxy
	addr  string
}

func newToxic(t *testing.T, name, upstream string) *toxic {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	x := &toxic{addr: freeAddr(t)}
	x.proxy = toxiproxy.NewProxy(server, name, x.addr, upstream)
	if err := x.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.proxy.Stop)
	return x
}

// slow adds a latency to what comes back, until heal.
func (x *toxic) slow(ms int) error {
	_, err := x.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
		`{"name":"slow","type":"latency","stream":"downstream","attributes":{"latency":%d,"jitter":%d}}`, ms, ms/2)))
	return err
}

func (x *toxic) heal() error { return x.proxy.Toxics.RemoveToxic(context.Background(), "slow") }

// cut ends all connections and takes no new ones, until mend.
func (x *toxic) cut() { x.proxy.Stop() }

func (x *toxic) mend() error { return x.proxy.Start() }
