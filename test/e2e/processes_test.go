//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dime-bus/dime/test/cluster"
)

// TestCallersOfTwoProcesses: sixty-four callers ask for certificates at once, of two
// processes that share a database. ANPR takes no number that is lower than the last
// of its series (C001, idOperazioneClient), so the numbers must arrive in the order
// in which they rise, whichever process sends them; and nobody is refused.
func TestCallersOfTwoProcesses(t *testing.T) {
	const callers = 64
	content, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := filepath.Abs(*binFlag)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{dir: t.TempDir(), binary: binary}
	store, err := url.Parse(cluster.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := store.User.Password()
	store.User = url.User(store.User.Username())
	for name, text := range map[string]string{"password": password, "master.key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shared := []string{"--content", content, "--store", store.String(), "--store-password", "file:" + filepath.Join(s.dir, "password")}
	if out, err := exec.Command(binary, append([]string{"migrate"}, shared...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.city = s.run(t, "city", "city", "--content", content, "--data", filepath.Join(s.dir, "data"), "--listen", "127.0.0.1:0")["city"]
	var processes [2]string
	for i := range processes {
		name := fmt.Sprint("process-", i)
		processes[i] = s.run(t, name, append([]string{"serve", "--city", s.city, "--master-key", "file:" + filepath.Join(s.dir, "master.key"),
			"--data", filepath.Join(s.dir, name+".data"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--soap", "127.0.0.1:0"}, shared...)...)["public"]
	}

	owner := s.token(t, citizen)
	follow, errs := make([]string, callers), make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { follow[i], errs[i] = insist(processes[i%len(processes)], owner, fmt.Sprint("two-", i)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, u := range follow {
		s.ended(t, u, owner)
	}

	var arrivals []struct{ Path, Body string }
	s.json(t, http.MethodGet, s.city+"/arrivals?connector=anagrafe", "", nil, &arrivals)
	last, count := map[string]int64{}, map[string]int{}
	for _, a := range arrivals {
		var body struct {
			Number string `json:"idOperazioneClient"`
		}
		if json.Unmarshal([]byte(a.Body), &body) != nil || body.Number == "" {
			continue
		}
		n, err := strconv.ParseInt(body.Number, 10, 64)
		if err != nil || n <= last[a.Path] {
			t.Errorf("%s: %s arrives after %d", a.Path, body.Number, last[a.Path])
		}
		last[a.Path] = n
		count[filepath.Base(filepath.Dir(filepath.Dir(a.Path)))]++
	}
	if count["C020-servizioAccertamentoResidenza"] < callers {
		t.Errorf("what arrived: %v", count)
	}
}

// insist asks for a free certificate, under the same number again where a busy
// machine has no room just now, and answers where the run can be followed.
func insist(public, token, id string) (string, error) {
	ask := fmt.Sprintf(`{"request_id": %q, "tax_code": %q, "exemption": "art-16-tab-b"}`, id, citizen)
	for try := 1; ; try++ {
		r, err := http.NewRequest(http.MethodPost, public+"/v1/certificates/residence", strings.NewReader(ask))
		if err != nil {
			return "", err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return "", err
		}
		var a struct {
			FollowAt string `json:"follow_at"`
		}
		switch {
		case resp.StatusCode == http.StatusAccepted:
			err := json.Unmarshal(b, &a)
			return a.FollowAt, err
		case resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusGatewayTimeout || try == 10:
			return "", fmt.Errorf("%s, asked %d times: %d %s", id, try, resp.StatusCode, b)
		}
	}
}
