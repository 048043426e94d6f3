package kill

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func (r *rig) dime(args ...string) []byte {
	r.t.Helper()
	cmd := exec.Command(r.binary, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("dime %v: %v", args, err)
	}
	return out
}

// A backup under the load of the kill test holds every run that was accepted
// before it, and the bus goes on from it.
func TestBackupUnderLoad(t *testing.T) {
	r := newRig(t, binary(t))
	r.await(r.start(), filepath.Join(r.dir, "bus.ready"))
	l := startLoad(r, 8, false, rand.New(rand.NewPCG(1, 2)))
	data, file := filepath.Join(r.dir, "bus"), filepath.Join(r.dir, "bus.backup")
	accepted := map[string]runRow{}
	r.until(30*time.Second, "a hundred accepted runs", func() bool { accepted = r.allRuns(); return len(accepted) > 100 })

	var m struct{ Runs, Live int }
	if err := json.Unmarshal(r.dime("backup", "--content", filepath.Join(r.dir, "content"), "--data", data, "-o", "json", file), &m); err != nil {
		t.Fatal(err)
	}
	if m.Live == 0 {
		t.Error("no run was live at the backup's instant: there was no load")
	}
	r.until(30*time.Second, "runs from after the backup", func() bool { return len(r.allRuns()) > m.Runs+50 })
	l.stop.Store(true)
	l.wg.Wait()
	r.stopBus()

	// The data folder is lost; keys and list are kept elsewhere.
	if err := os.Rename(data, data+"-lost"); err != nil {
		t.Fatal(err)
	}
	r.dime("restore", "--content", filepath.Join(r.dir, "content"), "--data", data, file)
	r.await(r.start(), filepath.Join(r.dir, "bus.ready"))
	back := r.allRuns()
	for id := range accepted {
		if _, ok := back[id]; !ok {
			t.Errorf("run %s was accepted before the backup and is not in it", id)
		}
	}
	if len(back) < m.Runs {
		t.Errorf("the backup held %d runs, and %d came back", m.Runs, len(back))
	}
	t.Logf("%d runs accepted before the backup, %d in it, %d of them live, %d back", len(accepted), m.Runs, m.Live, len(back))
	r.settled(l)
	r.stopBus()
}
