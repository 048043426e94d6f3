package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/connectors/city"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// cityServer is the virtual city with its listener and the key that signs its
// citizens' tokens.
type cityServer struct {
	city   *city.City
	plays  map[string]connectors.Connector // whose far sides it plays now
	signer *identity.Signer
	l      net.Listener
	http   *http.Server
}

// newCityServer plays the far sides of cs; of those that it finds in c, if cs is nil.
func newCityServer(c *content, cs map[string]connectors.Connector, data, addr string, log *slog.Logger) (*cityServer, error) {
	signer, err := identity.OpenSigner(cityKeyFile(data))
	if err != nil {
		return nil, err
	}
	var l net.Listener
	vc, problems := city.New(city.Config{FS: c, Connectors: cs, Data: filepath.Join(data, "city"), Log: log, URL: func() string { return httpURL(l) }})
	if bad := refusals(problems); len(bad) > 0 {
		return nil, refusedError{bad}
	}
	l, err = listen("city-listen", addr)
	if err != nil {
		return nil, errors.Join(err, vc.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+identity.JWKSPath, signer)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ready") })
	mux.Handle("/", vc.Handler())
	return &cityServer{city: vc, plays: cs, signer: signer, l: l, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}}, nil
}

func (s *cityServer) url() string { return httpURL(s.l) }

// reload plays the far sides of cs from here on. Those that it plays already are
// left alone: what comes while one is exchanged is refused.
func (s *cityServer) reload(cs map[string]connectors.Connector) []yamldoc.Problem {
	if maps.Equal(s.plays, cs) {
		return nil
	}
	ps := s.city.Reload(nil, cs)
	if len(refusals(ps)) == 0 {
		s.plays = cs
	}
	return ps
}

func (s *cityServer) serve(failed chan<- error) {
	go func() { report(failed, "virtual city", s.http.Serve(s.l)) }()
}

func (s *cityServer) close() error {
	// Emulators that hang on purpose would hold a graceful end up for ever.
	// The server closes the listener that it serves; one never served is closed here.
	return errors.Join(s.http.Close(), ignoreClosed(s.l)(), s.city.Close())
}

func newCity() *cobra.Command {
	var dir, addr, data, ready, level string
	cmd := &cobra.Command{
		Use:   "city",
		Short: "Run the virtual city by itself: every connector's far side, on its true protocol",
		Long: `Run the virtual city by itself: every connector's far side, speaking its true
protocol, for serve --city URL. It keeps a log of every raw arrival (GET
/arrivals) and a ledger of every effect (GET /effects).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			word, err := newReadyFile(ready)
			if err != nil {
				return err
			}
			c, err := openContent(dir)
			if err != nil {
				return usageError{err}
			}
			log := newLog(cmd.ErrOrStderr(), level)
			s, err := newCityServer(c, nil, data, addr, log)
			if err != nil {
				var refused refusedError
				if errors.As(err, &refused) {
					for _, p := range refused.problems {
						fmt.Fprintln(cmd.ErrOrStderr(), p)
					}
					return errQuiet
				}
				return err
			}
			defer func() { err = errors.Join(err, s.close()) }()
			failed := make(chan error, 1)
			s.serve(failed)
			fmt.Fprintf(cmd.ErrOrStderr(), "city    %s\n", s.url())
			if err := word.write(urls{City: s.url()}); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, word.withdraw()) }()
			select {
			case <-cmd.Context().Done():
				return nil
			case err := <-failed:
				return err
			}
		},
	}
	env := func(name, def string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return def
	}
	f := cmd.Flags()
	f.StringVar(&dir, "content", env("DIME_CONTENT", "."), "the city's content folder")
	f.StringVar(&addr, "listen", "127.0.0.1:8082", "address, host:port; port 0 takes a free one")
	f.StringVar(&data, "data", env("DIME_DATA", "data"), "folder of the city's memory, below which `city` is made")
	f.StringVar(&ready, "ready-file", "", "file that gets the URL once the city answers")
	f.StringVar(&level, "log", "info", "least level that is logged: debug, info, warn, error")
	cmd.AddCommand(newCityFault(), newCityFaults(), newCityCitizens())
	return cmd
}

// cityFlag is how commands reach a running city.
func cityFlag(a *admin, cmd *cobra.Command) {
	a.flag(cmd, "city", "127.0.0.1:8082", "address or URL of the virtual city")
}

func newCityFault() *cobra.Command {
	var a admin
	cmd := &cobra.Command{
		Use:   "fault NAME on|off",
		Short: "Switch a fault of the virtual city by name",
		Long: `Switch a fault of the virtual city by name: CONNECTOR.OPERATION.FAULT,
CONNECTOR.latency.200ms, or CONNECTOR.no-dedupe. "dime city faults" lists them.`,
		Example: "  dime city fault agenda.hold.timeout on",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			method := http.MethodPut
			switch args[1] {
			case "on":
			case "off":
				method = http.MethodDelete
			default:
				return usageError{fmt.Errorf("say on or off, not %q", args[1])}
			}
			return a.do(cmd.Context(), method, "/faults/"+url.PathEscape(args[0]), nil, nil)
		},
	}
	cityFlag(&a, cmd)
	return cmd
}

func newCityCitizens() *cobra.Command {
	var a admin
	var o output
	cmd := &cobra.Command{
		Use:   "citizens",
		Short: "List the people of the virtual city; none of them is real",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := []citizens.Person{}
			if err := a.do(cmd.Context(), http.MethodGet, "/citizens", nil, &v); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), v, func(w io.Writer) error {
				var rows [][]string
				for _, p := range v {
					rows = append(rows, []string{p.TaxCode, p.Name, p.Born.Format(time.DateOnly), string(p.Status), p.Family, p.Address.Label})
				}
				return columns(w, []string{"TAX CODE", "NAME", "BORN", "STATUS", "FAMILY", "ADDRESS"}, rows)
			})
		},
	}
	o.flag(cmd)
	cityFlag(&a, cmd)
	return cmd
}

func newCityFaults() *cobra.Command {
	var a admin
	var o output
	cmd := &cobra.Command{
		Use:   "faults",
		Short: "List the faults that the virtual city knows and which are on",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listFaults(cmd.Context(), &a, &o, cmd.OutOrStdout())
		},
	}
	o.flag(cmd)
	cityFlag(&a, cmd)
	return cmd
}

func listFaults(ctx context.Context, a *admin, o *output, w io.Writer) error {
	v := []city.Fault{}
	if err := a.do(ctx, http.MethodGet, "/faults", nil, &v); err != nil {
		return err
	}
	return o.print(w, v, func(w io.Writer) error {
		var rows [][]string
		for _, f := range v {
			state := "off"
			if f.On {
				state = paint(w, yellow, "on")
			}
			rows = append(rows, []string{f.Name, state})
		}
		return columns(w, []string{"FAULT", "STATE"}, rows)
	})
}
