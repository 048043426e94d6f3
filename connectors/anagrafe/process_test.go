package anagrafe

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/citizens"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/store/serial"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// callersOf makes this binary a process of the municipality: the far side's
// address, the folder of the numbers, and whom to ask for first.
const callersOf = "ANAGRAFE_TEST_CALLERS"

const callersEach = 32

func TestMain(m *testing.M) {
	if what := os.Getenv(callersOf); what != "" {
		if err := callers(strings.Fields(what)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// callers asks for the residence of thirty-two people at once, each call under its
// process's name.
func callers(what []string) error {
	url, dir := what[0], what[1]
	first, err := strconv.Atoi(what[2])
	if err != nil {
		return err
	}
	numbers, err := serial.Open(dir)
	if err != nil {
		return err
	}
	n, ps := yamldoc.Parse("anagrafe.yaml", []byte(settings))
	if len(ps) > 0 {
		return fmt.Errorf("%v", ps)
	}
	client := httpclient.New(httpclient.Config{})
	defer client.Close()
	c, ps := New(connectors.Spec{Name: "anagrafe", File: "anagrafe.yaml", Node: n, Client: client, City: url, Host: connectors.Host{Clock: clock.Real{}, Numbers: numbers}})
	if c == nil {
		return fmt.Errorf("%v", ps)
	}
	people := citizens.New("").All()
	errs := make([]error, callersEach)
	// One call first, so that both processes are at work when the others begin.
	ask := func(i int) {
		_, errs[i] = c.residence(context.Background(), connectors.Call{Args: map[string]any{"tax_code": people[first+i].TaxCode}, Run: "process-" + what[2]})
	}
	ask(0)
	fmt.Println("ready")
	var word string
	if _, err := fmt.Scanln(&word); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for i := 1; i < callersEach; i++ {
		wg.Go(func() { ask(i) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("caller %d: %w", i, err)
		}
	}
	return nil
}

var (
	numberOf  = regexp.MustCompile(`"idOperazioneClient":"([0-9]+)"`)
	processOf = regexp.MustCompile(`"motivoRichiesta":"(process-[0-9]+)"`)
)

// TestTwoProcesses: sixty-four callers in two processes whose numbers lie in one
// folder. Nobody is refused, and the numbers arrive in the order in which they rise
// (C001: one that is lower than the last is an error).
func TestTwoProcesses(t *testing.T) {
	w := newTown(t)
	dir := t.TempDir()
	var mu sync.Mutex
	last, asked, by, changes := map[string]int64{}, map[string]int{}, map[string]string{}, 0
	w.watching(func(r *http.Request, body []byte) {
		m := numberOf.FindSubmatch(body)
		if m == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		n, _ := strconv.ParseInt(string(m[1]), 10, 64)
		if n <= last[r.URL.Path] {
			t.Errorf("%s: %d after %d", r.URL.Path, n, last[r.URL.Path])
		}
		last[r.URL.Path] = n
		asked[r.URL.Path]++
		if p := string(processOf.FindSubmatch(body)[1]); p != by[r.URL.Path] {
			by[r.URL.Path] = p
			changes++
		}
	})
	type process struct {
		*exec.Cmd
		out bytes.Buffer
	}
	two := make([]*process, 2)
	go2 := make([]*os.File, 2)
	for i := range two {
		p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0])}
		p.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", callersOf, w.url, dir, i*callersEach))
		p.Stderr = &p.out
		in, begin, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ready, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		p.Stdin, p.Stdout = in, out
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		_, _ = in.Close(), out.Close()
		if _, err := ready.Read(make([]byte, 6)); err != nil {
			_ = p.Wait()
			t.Fatalf("process %d: %v: %s", i, err, p.out.String())
		}
		_ = ready.Close()
		two[i], go2[i] = p, begin
	}
	for _, f := range go2 {
		if _, err := f.WriteString("go\n"); err != nil {
			t.Error(err)
		}
		_ = f.Close()
	}
	for i, p := range two {
		if err := p.Wait(); err != nil {
			t.Errorf("process %d: %v: %s", i, err, p.out.String())
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 {
		t.Errorf("%d e-services were asked", len(asked))
	}
	for path, n := range asked {
		if n != 2*callersEach {
			t.Errorf("%s: %d requests arrived, want %d", path, n, 2*callersEach)
		}
	}
	t.Logf("the turn went %d times from one process to the other", changes)
}
