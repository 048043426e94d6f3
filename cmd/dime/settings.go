package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/cmd/dime/trail"
	"github.com/dime-bus/dime/config"
)

// settings are the flags of the commands that work beside a server, or instead of
// it: where its data and its keys are, told in the words of serve.
type settings struct {
	dir   string
	names []string
}

func (s *settings) flags(cmd *cobra.Command, names ...string) {
	s.names = names
	f := cmd.Flags()
	f.StringVar(&s.dir, "content", contentDefault(), "the city's content folder; its config/dime.yaml counts")
	for _, fl := range config.Flags() {
		for _, name := range names {
			if fl.Name == name {
				f.String(fl.Name, "", fl.Usage+" ["+fl.Env+"]")
			}
		}
	}
}

func newAudit() *cobra.Command {
	return trail.Command(func() trail.Host {
		var at settings
		return trail.Host{Flags: at.flags, Quiet: errQuiet, Usage: func(err error) error { return usageError{err} },
			Load: func(cmd *cobra.Command) (config.Config, error) { cfg, _, err := at.load(cmd); return cfg, err }}
	})
}

func contentDefault() string {
	if v := os.Getenv("DIME_CONTENT"); v != "" {
		return v
	}
	return "."
}

// load reads the configuration that serve would have.
func (s *settings) load(cmd *cobra.Command) (config.Config, *content, error) {
	c, err := openContent(s.dir)
	if err != nil {
		return config.Config{}, nil, usageError{err}
	}
	given := map[string]string{}
	for _, f := range config.Flags() {
		if fl := cmd.Flags().Lookup(f.Name); fl != nil && fl.Changed {
			given[f.Name] = fl.Value.String()
		}
	}
	// Of the environment only what has a flag here: DIME_ADMIN is also where a
	// command finds the server.
	getenv := func(name string) (string, bool) {
		for _, f := range config.Flags() {
			if f.Env == name && slices.Contains(s.names, f.Name) {
				return os.LookupEnv(name)
			}
		}
		return "", false
	}
	cfg, problems := config.Load(c, getenv, given)
	if bad := refusals(problems); len(bad) > 0 {
		for _, p := range bad {
			fmt.Fprintln(cmd.ErrOrStderr(), p)
		}
		return cfg, c, errQuiet
	}
	return cfg, c, nil
}
