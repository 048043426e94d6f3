// Command bench measures Dime against limits taken in the same run and on the
// same machine: the same work by hand with the standard library (bench/control),
// the disk's own speed, or Dime itself with a part switched off. It prints a
// table and writes bench/results.json.
//
//	go run ./bench [-run REGEXP] [-quick] [-out bench/results.json]
//
// Exit code 1 if a row falls below its floor.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Row is one comparison. Ratio is better when higher; the row holds when
// Ratio >= Floor.
type Row struct {
	Name  string  `json:"name"`
	Ours  float64 `json:"ours"`
	Limit float64 `json:"limit"`
	Ratio float64 `json:"ratio"`
	Floor float64 `json:"floor"`
	Unit  string  `json:"unit"` // of Ours and Limit
}

// rate compares two speeds: more is better.
func rate(name, unit string, ours, limit, floor float64) Row {
	return Row{name, ours, limit, ours / limit, floor, unit}
}

// cost compares two costs, times or sizes: less is better, so that Ratio is
// limit/ours; most is how many times the limit is allowed.
func cost(name, unit string, ours, limit, most float64) Row {
	return Row{name, ours, limit, limit / max(ours, 1e-12), 1 / most, unit}
}

// bench is one measurement; it may give several rows.
type bench struct {
	name string
	run  func(*env) ([]Row, error)
}

// env is what a measurement may use.
type env struct {
	dime   string // the binary
	dir    string // scratch folder on a real disk
	self   string // this binary, for control processes
	rounds int
	length time.Duration // of one round
	rows   int           // of the large journal
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "control" {
		if err := serveControl(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench control:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	which := flag.String("run", ".", "only measurements whose name matches this expression")
	quick := flag.Bool("quick", false, "short rounds, small journal: to try the harness, not for publication")
	out := flag.String("out", filepath.Join("bench", "results.json"), "where the results go")
	binary := flag.String("dime", filepath.Join("bin", "dime"), "the binary that is measured")
	flag.Parse()
	match, err := regexp.Compile(*which)
	if err != nil {
		return fmt.Errorf("understanding -run: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if err := os.MkdirAll("bin", 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("bin", "bench-")
	if err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	dime, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dime); err != nil {
		return fmt.Errorf("%s is missing: run `make build` first: %w", *binary, err)
	}
	e := &env{dime: dime, dir: dir, self: self, rounds: 5, length: 4 * time.Second, rows: 5_000_000}
	if *quick {
		e.rounds, e.length, e.rows = 1, time.Second, 50_000
	}

	var rows []Row
	for _, b := range benches() {
		if !match.MatchString(b.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s ...\n", b.name)
		rs, err := b.run(e)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", b.name, err)
		}
		rows = append(rows, rs...)
	}
	if len(rows) == 0 {
		return fmt.Errorf("no measurement matches %q", *which)
	}
	return report(rows, *out)
}

// report prints the table, writes the file and fails if a floor is missed.
func report(rows []Row, out string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tOURS\tLIMIT\tUNIT\tRATIO\tFLOOR\tHOLDS")
	missed := 0
	for _, r := range rows {
		holds := "yes"
		if r.Ratio < r.Floor {
			holds = "NO"
			missed++
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%s\t%.3f\t%.3f\t%s\n", r.Name, r.Ours, r.Limit, r.Unit, r.Ratio, r.Floor, holds)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println(machine())
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the results: %w", err)
	}
	if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := os.WriteFile(strings.TrimSuffix(out, ".json")+".txt", []byte(machine()+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing the machine's description: %w", err)
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d rows are below their floor", missed, len(rows))
	}
	return nil
}

// machine describes where and when the figures were taken.
func machine() string {
	cpu := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(b), "\n") {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	kernel := ""
	if b, err := exec.Command("uname", "-sr").Output(); err == nil {
		kernel = strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s, %d cores, %s, %s, %s", cpu, runtime.NumCPU(), kernel, runtime.Version(), time.Now().Format(time.DateOnly))
}

// median of a few figures.
func median(xs []float64) float64 {
	xs = slices.Clone(xs)
	slices.Sort(xs)
	if len(xs)%2 == 1 {
		return xs[len(xs)/2]
	}
	return (xs[len(xs)/2-1] + xs[len(xs)/2]) / 2
}
