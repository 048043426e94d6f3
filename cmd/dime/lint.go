package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/routetest"
)

// problemView is a line of `dime lint -o json`.
type problemView struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
	warning bool   // in JSON the message says so: the keys are a contract
}

// contentFlag adds --content; the default is the nearest parent that holds routes/.
func contentFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "content", "", "the city's content folder (default: the nearest parent that holds routes/)")
}

// within turns the command's paths into paths of the content folder. A path is
// meant from where the command runs, else from the content folder.
func within(dir string, paths []string) ([]string, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		if _, missing := os.Stat(abs); missing != nil && !filepath.IsAbs(p) {
			abs = filepath.Join(root, p)
		}
		rel, err := filepath.Rel(root, abs)
		if err != nil || strings.HasPrefix(rel, "..") {
			return nil, usageError{fmt.Errorf("%s is outside the content folder %s", p, dir)}
		}
		if _, err := os.Stat(abs); err != nil {
			return nil, usageError{fmt.Errorf("nothing is at %s: %w", p, err)}
		}
		rel = filepath.ToSlash(rel)
		if rel != "." && !inTops(rel) {
			return nil, usageError{fmt.Errorf("%s is no content: a city's content lies in %s of %s", p, strings.Join(tops(), ", "), dir)}
		}
		out = append(out, rel)
	}
	return out, nil
}

// noteShipped says that a folder holds no content of its own, so that nobody takes
// the silence over what the binary ships for one over the files that he meant.
func noteShipped(w io.Writer, dir string) {
	for _, top := range tops() {
		if _, err := os.Stat(filepath.Join(dir, top)); err == nil {
			return
		}
	}
	fmt.Fprintf(w, "dime: there is no %s in %s: this is about the content that the binary ships\n", strings.Join(tops(), ", "), dir)
}

// below says whether a problem's file is one of paths or below one; no path
// means everything.
func below(paths []string, file string) bool {
	if len(paths) == 0 {
		return true
	}
	for _, p := range paths {
		if p == "." || file == p || strings.HasPrefix(file, p+"/") {
			return true
		}
	}
	return false
}

func newLint() *cobra.Command {
	var o output
	var dir string
	var all bool
	cmd := &cobra.Command{
		Use:   "lint [FILE|FOLDER]...",
		Short: "Check routes, schemas, configuration and route tests: every mistake of every file at once",
		Long: `Check routes, schemas, configuration and route tests. All mistakes of all files
are reported at once as FILE:LINE:COLUMN: MESSAGE [RULE]. What lint accepts,
serve starts: both use one loader. A warning, as of an example in an OpenAPI
document that does not fit its own schema, refuses nothing; its message begins
with "warning: ", with -o json too.

Exit code 1 if anything but warnings was found.`,
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
			_, settings := config.Load(c, func(string) (string, bool) { return "", false }, nil)
			problems := yamldoc.Sort(slices.Concat(loaded.problems, routetest.Check(c, loaded.city), settings))
			views := []problemView{}
			errors := 0
			for _, p := range problems {
				if !below(paths, p.File) {
					continue
				}
				// What the binary ships and leaves out or only warns of is nothing that
				// the author of this folder could mend; serve logs it.
				if p.Warning && c.shipped(p.File) && !all {
					continue
				}
				if p.Warning {
					p.Message = "warning: " + p.Message
				} else {
					errors++
				}
				file := filepath.Join(dir, filepath.FromSlash(p.File))
				views = append(views, problemView{file, p.Line, p.Column, p.Rule, p.Message, p.Warning})
			}
			err = o.print(cmd.OutOrStdout(), views, func(w io.Writer) error {
				for _, v := range views {
					colour := red
					if v.warning {
						colour = yellow
					}
					rule := paint(w, colour, "["+v.Rule+"]")
					if _, err := fmt.Fprintf(w, "%s:%d:%d: %s %s\n", v.File, v.Line, v.Column, v.Message, rule); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if errors > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d found\n", errors)
				return errQuiet
			}
			return nil
		},
	}
	o.flag(cmd)
	contentFlag(cmd, &dir)
	cmd.Flags().BoolVar(&all, "all", false, "also warn of content that the binary ships and this folder does not have")
	return cmd
}
