package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// poll is how often a script looks again at what must come; it gives up at most.
const (
	poll = 10 * time.Millisecond
	most = 20 * time.Second
)

// commands are what scripts know besides testscript's own:
//
//	ready FILE             waits for a ready file and sets $public, $admin, $city
//	http METHOD URL STATUS [BODY]   one request with $auth and $key; the body goes to the file answer
//	await METHOD URL STATUS PATTERN the same, until status and body fit
//	pick NAME PATTERN      sets $NAME to the first group found in the last answer
//	login FILE             sets $auth to what a file holds
//	answer PATTERN         the last answer must fit, with ! must not
//	count N URL PATTERN    the body must hold the pattern N times
//	array                  the last stdout must be a JSON array
//	reload N FILE URL      rewrites FILE (%d is the turn) N times under load; no request may fail
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"ready": ready, "http": request, "await": await, "pick": pick, "array": array,
		"login": login, "answer": answer, "count": count, "reload": reload,
	}
}

func until(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(most); !ok(); time.Sleep(poll) {
		if time.Now().After(end) {
			ts.Fatalf("it never came: %s", what)
		}
	}
}

func ready(ts *testscript.TestScript, _ bool, args []string) {
	var urls map[string]string
	until(ts, args[0], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && json.Unmarshal(b, &urls) == nil
	})
	if len(urls) != 4 {
		ts.Fatalf("the ready file holds %v, not public, admin, soap and city", urls)
	}
	for name, u := range urls {
		ts.Setenv(name, u)
	}
}

func ask(ts *testscript.TestScript, method, url, body string) (int, string) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	ts.Check(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if a := ts.Getenv("auth"); a != "" {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(a))
	}
	if k := ts.Getenv("key"); k != "" {
		req.Header.Set("Idempotency-Key", k)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return resp.StatusCode, string(b)
}

func request(ts *testscript.TestScript, _ bool, args []string) {
	body := ""
	if len(args) > 3 {
		body = args[3]
	}
	status, got := ask(ts, args[0], args[1], body)
	ts.Check(os.WriteFile(ts.MkAbs("answer"), []byte(got), 0o600))
	if strconv.Itoa(status) != args[2] {
		ts.Fatalf("%s %s answered %d, not %s: %s", args[0], args[1], status, args[2], got)
	}
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	fits, err := regexp.Compile(args[3])
	ts.Check(err)
	last := ""
	defer func() { ts.Logf("last answer: %s", last) }()
	until(ts, args[3], func() bool {
		status, got := ask(ts, args[0], args[1], "")
		last = got
		if strconv.Itoa(status) != args[2] || !fits.MatchString(got) {
			return false
		}
		ts.Check(os.WriteFile(ts.MkAbs("answer"), []byte(got), 0o600))
		return true
	})
}

func pick(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("answer"))
	if len(m) != 2 {
		ts.Fatalf("%q is not in %s", args[1], ts.ReadFile("answer"))
	}
	ts.Setenv(args[0], m[1])
}

func array(ts *testscript.TestScript, _ bool, _ []string) {
	var v []any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil || v == nil {
		ts.Fatalf("not a JSON array: %s", ts.ReadFile("stdout"))
	}
}
