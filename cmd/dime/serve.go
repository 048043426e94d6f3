package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
)

func newServe() *cobra.Command {
	var dir, cityListen string
	var timeline int
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the city's routes",
		Long: `Serve the city's routes: check everything under --content, refuse to start on any
mistake, then answer on --listen (public) and --admin. Files under --content are
watched: a change is checked whole and put in force at once, or refused with the
old set kept. SIGTERM drains and stops.

Sockets that a service manager hands over (LISTEN_FDS, called listen, admin or soap:
deploy/systemd) are used in place of its own; then a SIGTERM leaves them to the
next process, and no request fails between the two.

Every flag but --content is also DIME_<FLAG> in the environment and a line of
config/dime.yaml; the command line wins, then the environment.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const readyFlag = "ready-file"
			asked := os.Getenv("DIME_READY_FILE")
			if cmd.Flags().Changed(readyFlag) {
				asked = cmd.Flags().Lookup(readyFlag).Value.String()
			}
			if _, err := newReadyFile(asked); err != nil { // nothing that follows may leave a stale one
				return err
			}
			c, err := openContent(dir)
			if err != nil {
				return usageError{err}
			}
			given := map[string]string{}
			for _, f := range config.Flags() {
				if cmd.Flags().Changed(f.Name) {
					given[f.Name] = cmd.Flags().Lookup(f.Name).Value.String()
				}
			}
			cfg, problems := config.Load(c, os.LookupEnv, given)
			if bad := refusals(problems); len(bad) > 0 {
				for _, p := range bad {
					fmt.Fprintln(cmd.ErrOrStderr(), p)
				}
				return errQuiet
			}
			return serve(cmd.Context(), cmd.ErrOrStderr(), c, cfg, serveOptions{cityListen: cityListen, timeline: timeline})
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "content", contentDefault(), "the city's content folder; its files win over the shipped ones")
	f.StringVar(&cityListen, "city-listen", "", "address of the embedded virtual city (default 127.0.0.1:8082, or a free port where --listen takes one)")
	f.IntVar(&timeline, "timeline", 10_000, "how many runs that changed nothing keep their timeline in memory")
	for _, fl := range config.Flags() {
		f.String(fl.Name, "", fl.Usage+" ["+fl.Env+"]")
	}
	return cmd
}

// serveOptions are what only the command line knows.
type serveOptions struct {
	cityListen string
	timeline   int
}

// loadPercent lets the heap grow while the content is read, for most of that is
// thrown away once it is read; what it took is given back when the bus is ready.
const loadPercent = 400

// gcPercent lets the heap grow further than Go's default before it is collected:
// collection is the largest single cost of a request, and an idle bus stays
// below its 60 MiB (`make bench`, idle_memory). GOGC overrides it.
const gcPercent = 150

// serve runs until ctx ends, then drains.
func serve(ctx context.Context, errOut io.Writer, c *content, cfg config.Config, o serveOptions) (err error) {
	ready, err := newReadyFile(cfg.ReadyFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ready.withdraw()) }()
	ownPace := os.Getenv("GOGC") == ""
	if ownPace {
		debug.SetGCPercent(loadPercent)
	}
	s, err := newServer(ctx, c, cfg, o, newLog(errOut, cfg.Log))
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		var refused refusedError
		if errors.As(err, &refused) {
			for _, p := range refused.problems {
				fmt.Fprintln(errOut, p)
			}
			return errors.Join(errors.New("the content was refused"), errQuiet)
		}
		return err
	}
	failed, err := s.start(ctx)
	if err != nil {
		return err
	}
	s.announce(errOut)
	if err := ready.write(s.urls()); err != nil {
		return err
	}
	if ownPace {
		debug.SetGCPercent(gcPercent)
		debug.FreeOSMemory()
	}
	select {
	case <-ctx.Done():
		s.log.Info("stopping: no new runs, those under way finish or hand back")
		err := ready.withdraw()
		s.drain()
		s.trail.Stopped()
		return err
	case err := <-failed:
		return err
	}
}

// urls is what the ready file holds.
type urls struct {
	Public string `json:"public"`
	Admin  string `json:"admin"`
	Soap   string `json:"soap"`
	City   string `json:"city"`
}

// announce says to people where everything is.
func (s *server) announce(w io.Writer) {
	u := s.urls()
	fmt.Fprintf(w, "public  %s\nadmin   %s\n", u.Public, u.Admin)
	fmt.Fprintf(w, "soap    %s\n", u.Soap)
	if u.City != "" {
		fmt.Fprintf(w, "city    %s\n", u.City)
	}
	if s.cfg.City.Mode == "embedded" {
		fmt.Fprintf(w, `
Try:
  curl '%[1]s/v1/addresses?q=san+marco'
  curl -X POST %[1]s/v1/appointments -H "Authorization: Bearer $(bin/dime token --data %[3]s --citizen RSSMRA80A01L736U --assurance 2)" -H 'Content-Type: application/json' -d "{\"request_id\":\"try-1\",\"tax_code\":\"RSSMRA80A01L736U\",\"service\":\"identity-card\",\"slot\":\"$(curl -s %[1]s/v1/offices/anagrafe-venezia/slots | grep -o '"id":"[^"]*' | head -1 | cut -c7-)\"}"
  curl %[2]s/runs

`, u.Public, u.Admin, s.cfg.Data)
	}
}

// writeWhole replaces a file so that a reader sees the old or the new one, never half.
func writeWhole(name string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// listen opens a TCP listener and says which flag to change if it can't.
func listen(flag, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w (choose another with --%s; port 0 takes a free one)", addr, err, flag)
	}
	return l, nil
}

// listen gives a face's socket: the one that was handed over, else its own.
func (s *server) listen(name, addr string) (net.Listener, error) {
	if l := s.handed[name]; l != nil {
		return l, nil
	}
	return listen(name, addr)
}

// httpURL is a listener's address as a URL that this machine can use.
func httpURL(l net.Listener) string {
	addr := l.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		return fmt.Sprintf("http://127.0.0.1:%d", addr.Port)
	}
	return "http://" + addr.String()
}
