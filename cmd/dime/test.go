package main

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/pipeline/routetest"
)

func newTest() *cobra.Command {
	var o output
	var dir, match string
	var seed uint64
	var parallel int
	var coverage bool
	cmd := &cobra.Command{
		Use:   "test [FILE|FOLDER]...",
		Short: "Run the tests that stand beside the routes, in virtual time",
		Long: `Run the tests that stand beside the routes (*.test.yaml): the real engine and
journal, virtual time, mocked operations. One line a case; exit code 1 if one
fails.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				dir = findContent(args)
			}
			paths, err := within(dir, args)
			if err != nil {
				return err
			}
			c, err := openContent(dir)
			if err != nil {
				return usageError{err}
			}
			noteShipped(cmd.ErrOrStderr(), dir)
			loaded := c.load()
			files, problems := routetest.Load(c, loaded.city, paths...)
			if bad := refusals(append(loaded.problems, problems...)); len(bad) > 0 {
				for _, p := range bad {
					p.File = filepath.Join(dir, filepath.FromSlash(p.File))
					fmt.Fprintln(cmd.ErrOrStderr(), p)
				}
				return errQuiet
			}
			if len(files) == 0 && len(args) > 0 {
				return usageError{fmt.Errorf("no *.test.yaml is at %s", strings.Join(args, ", "))}
			}
			opts := routetest.Options{Match: match, Seed: seed, Parallel: parallel}
			w := cmd.OutOrStdout()
			if o.format == "table" {
				opts.Each = func(r *routetest.Result) { printResult(w, dir, r) }
			}
			report, err := routetest.Run(cmd.Context(), loaded.city, files, opts)
			if err != nil {
				return err
			}
			err = o.print(w, report, func(w io.Writer) error {
				if coverage {
					printCoverage(w, dir, report)
				}
				_, err := fmt.Fprintf(w, "%d passed, %d failed\n", report.Passed, report.Failed)
				return err
			})
			if err != nil {
				return err
			}
			if !report.OK() {
				return errQuiet
			}
			return nil
		},
	}
	o.flag(cmd)
	contentFlag(cmd, &dir)
	f := cmd.Flags()
	f.StringVar(&match, "run", "", `only cases whose "route: it" matches this regular expression`)
	f.Uint64Var(&seed, "seed", 0, "seed of the random choices; a failure prints the one it had")
	f.IntVar(&parallel, "parallel", runtime.GOMAXPROCS(0), "cases at once")
	f.BoolVar(&coverage, "coverage", false, "also list the steps and outcomes that no case reached")
	return cmd
}

func printResult(w io.Writer, dir string, r *routetest.Result) {
	word := paint(w, green, "ok  ")
	if !r.OK {
		word = paint(w, red, "FAIL")
	}
	fmt.Fprintf(w, "%s %s: %s", word, r.Route, r.It)
	if r.Duration > 0 {
		fmt.Fprintf(w, " (%s)", r.Duration)
	}
	fmt.Fprintln(w)
	for _, f := range r.Failures {
		fmt.Fprintf(w, "     %s:%d:%d: %s", filepath.Join(dir, filepath.FromSlash(f.File)), f.Line, f.Column, f.What)
		if f.Variant != "" {
			fmt.Fprintf(w, " (%s)", f.Variant)
		}
		fmt.Fprintln(w)
		if f.Want != "" || f.Got != "" {
			fmt.Fprintf(w, "       want %s\n       got  %s\n", f.Want, f.Got)
		}
		for _, line := range f.Timeline {
			fmt.Fprintf(w, "       %s\n", paint(w, dim, line))
		}
	}
	if !r.OK {
		fmt.Fprintf(w, "     seed %d\n", r.Seed)
	}
}

func printCoverage(w io.Writer, dir string, report routetest.Report) {
	for _, c := range report.Coverage {
		fmt.Fprintf(w, "%s: %d of %d steps and outcomes reached\n", c.Route, c.Reached, c.Total)
		for _, m := range c.Missed {
			fmt.Fprintf(w, "  %s:%d:%d: not reached: %s\n", filepath.Join(dir, filepath.FromSlash(c.File)), m.Line, m.Column, m.What)
		}
	}
}
