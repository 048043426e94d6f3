package kill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dime-bus/dime/test/cluster"
)

// refusal asks for jobs until one is refused, and holds the refusal against what a
// full disk's must say. What is asked for under the same id later is the same job.
func (r *rig) refusal() {
	r.t.Helper()
	n := 0
	r.until(60*time.Second, "a request to be refused for the full disk", func() bool {
		n++
		b, err := json.Marshal(map[string]any{"id": fmt.Sprintf("refused-%d", n), "stamps": []int{1}, "tell": false})
		if err != nil {
			r.t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.public+"/v1/kill/jobs", bytes.NewReader(b))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := r.client.Do(req)
		if err != nil {
			r.t.Fatalf("with a full disk the bus answers nothing: %v", err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		if resp.StatusCode != http.StatusServiceUnavailable {
			return false
		}
		if why := unhelpful(resp, body); why != "" {
			r.t.Fatal(why)
		}
		return true
	})
	var openapi json.RawMessage
	if err := r.get(r.public+"/openapi.json", &openapi); err != nil {
		r.t.Errorf("with a full disk: %v", err)
	}
}

// unhelpful is what is wrong with a refusal for a store that can't be used; "" for none.
func unhelpful(resp *http.Response, body []byte) string {
	var said struct{ Type, Title, Detail string }
	if json.Unmarshal(body, &said) != nil || said.Type != "urn:dime:problem:unavailable" || said.Title == "" || said.Detail == "" || resp.Header.Get("Retry-After") == "" {
		return fmt.Sprintf("refused with %s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), body)
	}
	return ""
}

// reads asks for the runs: they are shown, or, where the database itself has
// stopped for its full disk, refused with words.
func (r *rig) reads(stopped bool) {
	r.t.Helper()
	resp, err := r.client.Get(r.admin + "/runs?limit=1")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		return
	}
	if !stopped {
		r.t.Errorf("a full disk takes no reads: %s", resp.Status)
	}
	if why := unhelpful(resp, body); why != "" {
		r.t.Error(why)
	}
}

func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs)
}

// more waits until the load has got so many more answers.
func (r *rig) more(l *load, n int) {
	r.t.Helper()
	from := l.answered()
	r.until(60*time.Second, fmt.Sprintf("%d more jobs", n), func() bool { return l.answered() >= from+n })
}

// smallDisk says aloud where there can be none.
func smallDisk(t *testing.T) bool {
	t.Helper()
	err := cluster.CanMount(t.TempDir())
	if err != nil {
		t.Log("not checked:", err)
	}
	return err == nil
}

// The disk of the data folder is full: new requests are refused with words, readers
// are served, nothing that was accepted is lost; with room again the bus goes on by
// itself, and also after a kill in that state.
func TestTheEmbeddedStoresDiskIsFull(t *testing.T) {
	if !smallDisk(t) {
		return
	}
	rnd := seeded(t)
	r := newRig(t, binary(t))
	data := filepath.Join(r.dir, "bus")
	unmount, err := cluster.SmallDisk(data, 32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.bus != nil && r.bus.alive() {
			_ = r.bus.cmd.Process.Kill()
			<-r.bus.done
		}
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	r.await(r.start(), filepath.Join(r.dir, "bus.ready"))
	l := startLoad(r, 4, true, rnd)
	for _, kill := range []bool{false, true} {
		r.more(l, 30)
		free, err := cluster.FillDisk(data, 64<<10)
		if err != nil {
			t.Fatal(err)
		}
		r.refusal()
		r.reads(false)
		if !r.bus.alive() {
			t.Fatalf("a full disk ended the bus: %v", r.bus.err)
		}
		if out, err := exec.Command(r.binary, "doctor", "--content", filepath.Join(r.dir, "content"), "--data", data, "--admin", strings.TrimPrefix(r.admin, "http://")).CombinedOutput(); err == nil || !strings.Contains(string(out), "disk") {
			t.Errorf("dime doctor finds nothing wrong with a full disk: %v: %s", err, out)
		}
		if kill {
			if err := r.bus.cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if !r.bus.killed() {
				t.Fatalf("the bus ended otherwise: %v", r.bus.err)
			}
		}
		if err := free(); err != nil {
			t.Fatal(err)
		}
		if kill {
			r.await(r.start(), filepath.Join(r.dir, "bus.ready"))
		}
	}
	r.more(l, 30)
	l.stop.Store(true)
	r.settled(l)
	r.complain(r.judge(l))
	t.Logf("%d jobs over two full disks", len(l.jobs))
	r.stopBus()
}

// The disks of PostgreSQL and of RabbitMQ are full, one after the other.
func TestTheServersDisksAreFull(t *testing.T) {
	if !smallDisk(t) {
		return
	}
	rnd := seeded(t)
	f := newFleetOn(t, "content", "RSSMRA80A01L736U",
		cluster.RabbitOptions{Nodes: 1, Disk: 96, Set: map[string]string{"disk_free_limit.absolute": "24MB", "raft.wal_max_size_bytes": "8388608"}},
		cluster.PostgresOptions{Disk: 160}, 1, 1)
	f.startAll()
	l := startLoad(f.rig, 4, true, rnd)
	f.more(l, 30)
	f.postgresFull(l)
	f.brokerAlarmed(l)
	f.brokerFull(l)
	f.more(l, 30)
	l.stop.Store(true)
	f.settled(l)
	f.complain(f.judge(l))
	t.Logf("%d jobs over full disks", len(l.jobs))
}

// postgresFull: as deploy/postgres/README.md says.
func (f *fleet) postgresFull(l *load) {
	f.t.Helper()
	free, err := cluster.FillDisk(f.pg.Dir(), 1<<20)
	if err != nil {
		f.t.Fatal(err)
	}
	f.refusal()
	f.reads(true)
	f.t.Logf("refused; PostgreSQL runs: %v", f.pg.Running())
	if err := free(); err != nil {
		f.t.Fatal(err)
	}
	if !f.pg.Running() {
		if err := f.pg.Start(); err != nil {
			f.t.Fatal(err)
		}
	}
	f.more(l, 30)
}

// brokerAlarmed: the broker blocks who publishes long before its disk is full.
// Requests are still taken, for the journal owns them; their messages wait.
func (f *fleet) brokerAlarmed(l *load) {
	f.t.Helper()
	n := f.mq.Nodes[0]
	free, err := cluster.FillDisk(n.Dir(), 12<<20)
	if err != nil {
		f.t.Fatal(err)
	}
	f.until(60*time.Second, "the broker's alarm", func() bool {
		out, err := n.Ctl(f.t.Context(), "eval", "rabbit_alarm:get_alarms().")
		return err == nil && strings.Contains(out, "disk")
	})
	f.unpublished("alarm")
	if err := free(); err != nil {
		f.t.Fatal(err)
	}
	f.until(60*time.Second, "the end of the alarm", func() bool {
		out, err := n.Ctl(f.t.Context(), "eval", "rabbit_alarm:get_alarms().")
		return err == nil && !strings.Contains(out, "disk")
	})
	f.more(l, 30)
}

// unconfirmed asks for a confirmation, which is taken and whose event stays behind
// in the outbox.
func (f *fleet) unconfirmed(id string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	a, err := f.insist(ctx, f.public+"/v1/kill/confirmations", map[string]any{"id": "behind-" + id})
	if err != nil || a.status >= 300 {
		f.t.Fatalf("a full broker keeps the city from taking requests: %v %v", a, err)
	}
}

// unpublished is unconfirmed, and waits until a process says that the broker does
// not take what is in the outbox.
func (f *fleet) unpublished(id string) {
	f.t.Helper()
	var logs []string
	read := func() (all string) {
		for _, m := range f.members {
			b, err := os.ReadFile(filepath.Join(f.dir, m.name+".log"))
			if err != nil {
				f.t.Fatal(err)
			}
			all += string(b)
		}
		return all
	}
	const says = `"msg":"publishing"`
	before := strings.Count(read(), says)
	f.unconfirmed(id)
	f.until(30*time.Second, "a process to say that the broker takes nothing", func() bool { return strings.Count(read(), says) > before })
	for line := range strings.Lines(read()) {
		if strings.Contains(line, says) {
			logs = append(logs, line)
		}
	}
	f.t.Logf("%s: %s", id, logs[len(logs)-1])
}

// brokerFull: without the alarm's distance the disk fills, and the node is
// restarted with room, as deploy/rabbitmq/README.md says.
func (f *fleet) brokerFull(l *load) {
	f.t.Helper()
	n := f.mq.Nodes[0]
	if _, err := n.Ctl(f.t.Context(), "set_disk_free_limit", "1000"); err != nil {
		f.t.Fatal(err)
	}
	free, err := cluster.FillDisk(n.Dir(), 64<<10)
	if err != nil {
		f.t.Fatal(err)
	}
	f.until(60*time.Second, "the broker's disk to be full", func() bool {
		f.unconfirmed(fmt.Sprint("filling-", time.Now().UnixNano()))
		left, err := cluster.DiskLeft(n.Dir())
		return err == nil && left == 0
	})
	f.unpublished("full")
	if err := free(); err != nil {
		f.t.Fatal(err)
	}
	if err := n.Kill(); err != nil {
		f.t.Fatal(err)
	}
	if err := n.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	if err := n.Await(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.more(l, 30)
}
