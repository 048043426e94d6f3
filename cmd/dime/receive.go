package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/store"
)

// faceSoap is the one face of its own that connectors ask for.
const faceSoap = "soap"

// outside is what connectors do beside being called: they receive what the
// outside sends, and work by themselves. It follows each reload.
type outside struct {
	publish connectors.Publish
	log     *slog.Logger

	soap atomic.Pointer[http.ServeMux]

	mu      sync.Mutex
	ctx     context.Context // nil until start: nothing works before the bus does
	sources map[string]*source
}

type source struct {
	of   connectors.Source
	stop func() // and wait until it has
}

func newOutside(publish connectors.Publish, log *slog.Logger) *outside {
	o := &outside{publish: publish, log: log, sources: map[string]*source{}}
	o.soap.Store(http.NewServeMux())
	return o
}

// handlers makes the mux of the soap face, or says what is wrong with it.
func (o *outside) handlers(cs map[string]connectors.Connector) (mux *http.ServeMux, err error) {
	mux = http.NewServeMux()
	defer func() {
		if p := recover(); p != nil { // net/http panics on patterns that clash
			err = fmt.Errorf("mounting the receivers: %v", p)
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(cs)) {
		r, ok := cs[name].(connectors.Receiver)
		if !ok {
			continue
		}
		for _, e := range r.Receive(o.publish) {
			if e.Face != faceSoap {
				return nil, fmt.Errorf("mounting the receivers: %s asks for the face %q; there is %q", name, e.Face, faceSoap)
			}
			method, path, ok := strings.Cut(e.Pattern, " ")
			if !ok {
				method, path = "", e.Pattern
			} else {
				method += " "
			}
			mux.Handle(method+"/"+name+path, http.StripPrefix("/"+name, e.Handler))
		}
	}
	return mux, nil
}

// swap takes the connectors of a reload; mux is of the same ones.
func (o *outside) swap(cs map[string]connectors.Connector, mux *http.ServeMux) {
	o.soap.Store(mux)
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, s := range o.sources {
		if cs[name] != connectors.Connector(nil) && any(cs[name]) == any(s.of) {
			continue
		}
		s.stop()
		delete(o.sources, name)
	}
	for name, c := range cs {
		if s, ok := c.(connectors.Source); ok && o.sources[name] == nil {
			o.sources[name] = &source{of: s, stop: func() {}}
			o.run(name)
		}
	}
}

// start lets the sources work.
func (o *outside) start(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ctx = ctx
	for name := range o.sources {
		o.run(name)
	}
}

// run begins a source's goroutine; o.mu is held.
func (o *outside) run(name string) {
	if o.ctx == nil {
		return
	}
	s := o.sources[name]
	ctx, cancel := context.WithCancel(o.ctx)
	ended := make(chan struct{})
	s.stop = func() { cancel(); <-ended }
	go func() {
		defer close(ended)
		for pause := time.Second; ; pause = min(2*pause, time.Minute) {
			err := s.of.Run(ctx, o.publish)
			if err == nil || ctx.Err() != nil {
				return
			}
			o.log.Warn("a connector's own work failed", "connector", name, "again_in", pause, "error", err)
			if clock.Sleep(ctx, clock.Real{}, pause) != nil {
				return
			}
		}
	}()
}

// end stops the sources.
func (o *outside) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.sources {
		s.stop()
	}
	clear(o.sources)
}

// ServeHTTP is the soap face.
func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.soap.Load().ServeHTTP(w, r)
}

// soapAddr is the configured address, or a free port beside a public face that
// takes one.
func soapAddr(cfg config.Config) string {
	if _, port, err := net.SplitHostPort(cfg.Listen); err == nil && port == "0" && cfg.Soap == config.Default().Soap {
		return "127.0.0.1:0"
	}
	return cfg.Soap
}

// table is the store's table as connectors see it.
type table struct{ store.Table }

const tablePage = 256

func (t table) List(ctx context.Context, prefix string, each func(key string, value []byte) error) error {
	after := ""
	for {
		rows, err := t.Table.List(ctx, prefix, after, tablePage)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := each(r.Key, r.Value); err != nil {
				return err
			}
			after = r.Key
		}
		if len(rows) < tablePage {
			return nil
		}
	}
}

// publishEvent lets connectors publish; what is no event of the city is refused.
func (s *server) publishEvent(ctx context.Context, eventType, id string, data any) error {
	if !s.ready.Load() {
		return errors.New("publishing an event: the bus is starting or stopping")
	}
	return s.engine.Publish(ctx, eventType, id, data)
}

// host is what connectors at work are lent.
func (s *server) host() connectors.Host {
	h := connectors.Host{
		Clock: clock.Real{}, Log: s.log, Numbers: s.numbers,
		Table: func(owner string) connectors.Table { return table{s.store.Table("connector." + owner)} },
		URL: func(face string) string {
			u := s.urls()
			if face == faceSoap {
				return u.Soap
			}
			return u.Public
		},
	}
	if s.documents != nil { // else an interface that is not nil would hold a nil
		h.Documents = s.documents
	}
	return h
}
