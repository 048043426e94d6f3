package e2e

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme: what the README's first stop tells a newcomer to paste works, pasted.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tour, _ := strings.Cut(string(b), "**1. The first certificate**")
	tour, _, _ = strings.Cut(tour, "**2. ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(tour, -1)
	if len(blocks) != 2 {
		t.Fatalf("the tour's first stop has %d blocks of commands, want 2: ask, and fetch after paying", len(blocks))
	}
	s := startOn(t, t.TempDir())
	dir := t.TempDir()
	paste := func(commands string) string {
		t.Helper()
		commands = strings.NewReplacer("http://127.0.0.1:8080", s.public, "bin/dime token", s.binary+" token --data "+filepath.Join(s.dir, "data")).Replace(commands)
		cmd := exec.Command("sh", "-eu", "-c", commands)
		cmd.Dir = dir
		var bad bytes.Buffer
		cmd.Stderr = &bad
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, bad.String(), commands)
		}
		return string(out)
	}
	ask := blocks[0][1]
	answer := paste(ask)
	field := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`"` + name + `":"([^"]*)"`).FindStringSubmatch(answer)
		if m == nil {
			t.Fatalf("the answer has no %s: %s", name, answer)
		}
		return m[1]
	}
	browser := newBrowser(t)
	browser.press(browser.get(field("pay_at")), "Paga")
	s.ended(t, field("follow_at"), s.token(t, citizen))
	who, _, _ := strings.Cut(ask, "\n") // the shell's variable, as in one terminal
	lines := strings.Split(strings.TrimSpace(paste(who+"\n"+blocks[1][1])), "\n")
	if pdf, err := os.ReadFile(filepath.Join(dir, "certificate.pdf")); err != nil || !bytes.HasPrefix(pdf, []byte("%PDF")) {
		t.Errorf("certificate.pdf: %v %.40q", err, pdf)
	}
	verify := lines[len(lines)-1]
	if i := strings.LastIndex(verify, "http"); i > 0 { // the run's view ends without a newline
		verify = verify[i:]
	}
	if p := newBrowser(t).get(verify); p.status != http.StatusOK || !strings.Contains(strings.ToLower(p.body), "valid") {
		t.Errorf("%s: %d", verify, p.status)
	}
}
