package main

import (
	"bytes"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// login makes the caller of the following requests; an empty file is nobody.
func login(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("auth", strings.TrimSpace(ts.ReadFile(args[0])))
}

// answer looks at the last answer, so that a status that fits does not hide a
// body that does not.
func answer(ts *testscript.TestScript, not bool, args []string) {
	got := ts.ReadFile("answer")
	if regexp.MustCompile(args[0]).MatchString(got) == not {
		ts.Fatalf("want %q (not: %t) in %s", args[0], not, got)
	}
}

// count tells one effect from two: the city's pages are lists with a row each.
func count(ts *testscript.TestScript, _ bool, args []string) {
	_, body := ask(ts, http.MethodGet, args[1], "")
	if got := strconv.Itoa(len(regexp.MustCompile(args[2]).FindAllString(body, -1))); got != args[0] {
		ts.Fatalf("%s holds %q %s times, not %s: %s", args[1], args[2], got, args[0], body)
	}
}

// reload changes a file over and over while requests run, and sees each change
// come into force before the next: the answers must say `turn N`.
func reload(ts *testscript.TestScript, _ bool, args []string) {
	turns, err := strconv.Atoi(args[0])
	ts.Check(err)
	file, url := ts.MkAbs(args[1]), args[2]
	source, err := os.ReadFile(file)
	ts.Check(err)
	var sent, failed atomic.Int64
	var last atomic.Pointer[string]
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				if status, body := ask(ts, http.MethodGet, url, ""); status != http.StatusOK {
					failed.Add(1)
					last.Store(&body)
				}
			}
		})
	}
	defer func() {
		close(stop)
		load.Wait()
		if failed.Load() > 0 {
			ts.Fatalf("%d of %d requests failed while the route changed, the last with %s", failed.Load(), sent.Load(), *last.Load())
		}
		ts.Logf("%d requests, none failed", sent.Load())
	}()
	for turn := 1; turn <= turns; turn++ {
		n := strconv.Itoa(turn)
		ts.Check(os.WriteFile(file, bytes.ReplaceAll(source, []byte("turn 0"), []byte("turn "+n)), 0o600))
		await(ts, false, []string{http.MethodGet, url, "200", "turn " + n + `\b`})
	}
}
