// Package doctor looks at what a bus stands on, its folder, disk, keys,
// certificates and clock, and says of each what is wrong and what to do.
package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Level says how bad a finding is.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, and will not for ever
	Problem Level = "problem"
	Skipped Level = "not checked"
)

// Finding is one thing that was looked at.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	What  string `json:"what"`
	Do    string `json:"do,omitempty"`
}

// Fine, Warn, Bad and Skip make findings of one check.
func Fine(check, what string, args ...any) Finding {
	return Finding{check, OK, fmt.Sprintf(what, args...), ""}
}
func Warn(check, do, what string, args ...any) Finding {
	return Finding{check, Warning, fmt.Sprintf(what, args...), do}
}
func Bad(check, do, what string, args ...any) Finding {
	return Finding{check, Problem, fmt.Sprintf(what, args...), do}
}
func Skip(check, what string, args ...any) Finding {
	return Finding{check, Skipped, fmt.Sprintf(what, args...), ""}
}

// Certificates warns of what ends within 30 days. pems are of one file or secret,
// called name.
func Certificates(name string, pems []byte, now time.Time) []Finding {
	const check, soon = "certificates", 30 * 24 * time.Hour
	var out []Finding
	for {
		var b *pem.Block
		if b, pems = pem.Decode(pems); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			out = append(out, Bad(check, "put a certificate in PEM there", "%s: it can't be read: %v", name, err))
			continue
		}
		day := c.NotAfter.Format(time.DateOnly)
		switch left := c.NotAfter.Sub(now); {
		case left <= 0:
			out = append(out, Bad(check, "put a new certificate there; it is read anew without a restart", "%s: %s ended on %s", name, c.Subject, day))
		case now.Before(c.NotBefore):
			out = append(out, Bad(check, "check the clock, or wait", "%s: %s is not valid before %s", name, c.Subject, c.NotBefore.Format(time.DateTime)))
		case left < soon:
			out = append(out, Warn(check, "order a new certificate now", "%s: %s ends on %s", name, c.Subject, day))
		default:
			out = append(out, Fine(check, "%s: %s is valid until %s", name, c.Subject, day))
		}
	}
	if out == nil {
		out = append(out, Bad(check, "put a certificate in PEM there", "%s: it holds no certificate", name))
	}
	return out
}

// Private says whether nobody but the owner may read a file or folder. What is not
// there is no finding.
func Private(path string) []Finding {
	const check = "permissions"
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return []Finding{Bad(check, "let the user that serves read it", "%s: %v", path, err)}
	case st.Mode().Perm()&0o077 != 0:
		mode := "600"
		if st.IsDir() {
			mode = "700"
		}
		return []Finding{Bad(check, "chmod "+mode+" "+path, "%s: others than its owner may use it (%v)", path, st.Mode().Perm())}
	}
	return []Finding{Fine(check, "%s: its owner's alone", path)}
}

// Folder looks at a data folder: it can be written, on a disk with room, by a
// clock that agrees with ours.
func Folder(path string, now func() time.Time) []Finding {
	out := Private(path)
	f, err := os.CreateTemp(path, ".doctor-")
	if err != nil {
		return append(out, Bad("data", "let the user that serves write it, and see to the disk", "%s can't be written: %v", path, err))
	}
	st, err := f.Stat()
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return append(out, Bad("data", "see to the disk", "%s: %v", path, err))
	}
	out = append(out, Fine("data", "%s can be written", path))
	out = append(out, skew("the disk of "+path, st.ModTime().Sub(now())))
	newest := st.ModTime()
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that went meanwhile says nothing
		}
		if i, err := d.Info(); err == nil && i.ModTime().After(newest) {
			newest = i.ModTime()
		}
		return nil
	})
	if ahead := newest.Sub(now()); err == nil && ahead > time.Minute {
		out = append(out, Bad("clock", "set the clock right: timers are late until it has caught up", "a file of %s was written in %s from now: the clock was set back", path, ahead.Round(time.Second)))
	}
	return append(out, space(path)...)
}

// tolerated is how far clocks may be apart: tokens and certificates bear no more.
const tolerated = 30 * time.Second

func skew(of string, d time.Duration) Finding {
	if d.Abs() > tolerated {
		return Bad("clock", "let the machine follow an NTP server, such as chrony", "the clock of %s differs from ours by %s", of, d.Round(time.Second))
	}
	return Fine("clock", "the clock of %s agrees with ours", of)
}

// Clock compares ours with what a far side said at an instant; its Date header has
// whole seconds.
func Clock(of string, date, at time.Time) Finding {
	return skew(of, date.Sub(at.Truncate(time.Second)))
}

func share(free, all uint64) float64 {
	if all == 0 {
		return 1
	}
	return float64(free) / float64(all)
}

// room judges what is left of a disk.
func room(path string, freeBytes, bytes, freeFiles, files uint64) []Finding {
	const check = "disk"
	do := "make room or enlarge the disk; a full one refuses new runs with 503 and loses nothing"
	mib := freeBytes >> 20
	var out []Finding
	switch left := share(freeBytes, bytes); {
	case mib < 256 || left < 0.03:
		out = append(out, Bad(check, do, "%s: %d MiB are free (%.0f %%)", path, mib, 100*left))
	case mib < 1024 || left < 0.10:
		out = append(out, Warn(check, do, "%s: %d MiB are free (%.0f %%)", path, mib, 100*left))
	default:
		out = append(out, Fine(check, "%s: %d MiB are free (%.0f %%)", path, mib, 100*left))
	}
	if left := share(freeFiles, files); files > 0 && left < 0.05 {
		out = append(out, Bad(check, "delete files that nobody needs: the disk has no room for more of them", "%s: %.0f %% of its inodes are free", path, 100*left))
	}
	return out
}
