package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdfcpu/pdfcpu/pkg/api"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/model"

	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/document/certificate"
	"github.com/dime-bus/dime/internal/document/seal"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

const holder = "RSSMRA77L18H501W"

type fixture struct {
	*Archive
	now       time.Time
	ca        string
	numbers   map[string]string // by key: what a keyed protocol does
	calls     int
	broken    error // of the protocol
	published []string
	mu        sync.Mutex
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Options{Path: sqlite.Memory, MasterKey: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f := &fixture{now: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC), numbers: map[string]string{}}
	dir := filepath.Join(t.TempDir(), "seal")
	c, err := seal.Virtual(dir, "Comune di Venezia", f.now)
	if err != nil {
		t.Fatal(err)
	}
	f.ca = filepath.Join(dir, "ca.pem")
	f.Archive = New(Config{
		Table: s.Table("documents"), Now: func() time.Time { return f.now },
		City:   certificate.City{Name: "Comune di Venezia", Office: "Servizi demografici"},
		URL:    func() string { return "https://servizi.comune.example" },
		Sealer: seal.NewSoftware(func() time.Time { return f.now }, c),
		Protocol: func(_ context.Context, r Registration) (string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.calls++; f.broken != nil {
				return "", f.broken
			}
			if f.numbers[r.Key] == "" {
				f.numbers[r.Key] = fmt.Sprintf("VE-2026-%07d", len(f.numbers)+1)
			}
			return f.numbers[r.Key], nil
		},
		Withdrawn: func(_ context.Context, id string, _ Withdrawn) error {
			f.published = append(f.published, id)
			return nil
		},
	})
	return f
}

func content() document.Content {
	return document.Content{Kind: "residence", Holder: holder, Data: map[string]any{
		"name": "Niccolò D'Angiò", "born": "1977-07-18", "birth_place": "Roma", "address": "Cannaregio 2345, 30121 Venezia",
	}}
}

func kind(err error) fault.Kind { return fault.From(err).Kind }

func (f *fixture) issue(t testing.TB, key string) (document.Draft, document.Issued) {
	t.Helper()
	d, err := f.Prepare(context.Background(), "p-"+key, content())
	if err != nil {
		t.Fatal(err)
	}
	i, err := f.Issue(context.Background(), "i-"+key, d.ID, stampFor(d))
	if err != nil {
		t.Fatal(err)
	}
	return d, i
}

func stampFor(d document.Draft) *document.Stamp {
	return &document.Stamp{IUBD: "01234567890123", SHA256: d.SHA256, Bought: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), AmountCent: 1600}
}

func TestPrepareAndIssueOnce(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	d, err := f.Prepare(ctx, "k", content())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.Prepare(ctx, "k", content()); err != nil || again != d {
		t.Errorf("the same key prepared %v, %v", again, err)
	}
	if found, err := f.Prepared(ctx, "k"); err != nil || found != d {
		t.Errorf("found %v, %v", found, err)
	}
	other := content()
	other.Data["name"] = "Altra Persona"
	if _, err := f.Prepare(ctx, "k", other); kind(err) != fault.Conflict {
		t.Errorf("the key of another content: %v", err)
	}
	if _, err := f.IssuedBy(ctx, "i"); kind(err) != fault.NotFound {
		t.Errorf("issued by nobody: %v", err)
	}
	wrong := stampFor(d)
	wrong.SHA256[0] ^= 1
	for name, s := range map[string]*document.Stamp{"stamp_missing": nil, "stamp_mismatch": wrong} {
		if _, err := f.Issue(ctx, "i", d.ID, s); fault.From(err).Name != name || f.calls != 0 {
			t.Errorf("%s: %v, %d calls of the protocol", name, err, f.calls)
		}
	}
	f.broken = errors.New("down")
	if _, err := f.Issue(ctx, "i", d.ID, stampFor(d)); err == nil {
		t.Error("issued without a number")
	}
	if _, err := f.IssuedBy(ctx, "i"); kind(err) != fault.NotFound {
		t.Errorf("a failed issue was found: %v", err)
	}
	f.broken = nil
	var all [8]document.Issued
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = f.Issue(ctx, fmt.Sprintf("i%d", i%2), d.ID, stampFor(d)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, i := range all {
		if i != all[0] {
			t.Errorf("issued as %v and as %v", all[0], i)
		}
	}
	if found, err := f.IssuedBy(ctx, "i1"); err != nil || found != all[0] {
		t.Errorf("found %v, %v", found, err)
	}
	d2, err := f.Prepare(ctx, "k2", content())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Issue(ctx, "i1", d2.ID, stampFor(d2)); kind(err) != fault.Conflict {
		t.Errorf("one key issued two drafts: %v", err)
	}
	if len(f.numbers) != 1 {
		t.Errorf("%d numbers for one document", len(f.numbers))
	}
}

func TestExemptDocument(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	c := content()
	c.Exemption = "art-16-tab-b"
	d, err := f.Prepare(ctx, "k", c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Issue(ctx, "i", d.ID, stampFor(d)); fault.From(err).Name != "stamp_unwanted" {
		t.Errorf("a stamp on an exempt document: %v", err)
	}
	if _, err := f.Issue(ctx, "i", d.ID, nil); err != nil {
		t.Error(err)
	}
}

func TestDraftsExpire(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	f.issue(t, "kept")
	d, err := f.Prepare(ctx, "k", content())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Expire(ctx, 100); n != 0 || err != nil {
		t.Errorf("%d expired at once, %v", n, err)
	}
	f.now = d.Until
	if _, err := f.Issue(ctx, "i", d.ID, stampFor(d)); kind(err) != fault.NotFound {
		t.Errorf("an expired draft was issued: %v", err)
	}
	f.now = d.Until.Add(time.Second)
	if n, err := f.Expire(ctx, 100); n != 1 || err != nil {
		t.Errorf("%d expired, %v", n, err)
	}
	if _, err := f.Prepared(ctx, "k"); kind(err) != fault.NotFound {
		t.Errorf("the expired draft is there: %v", err)
	}
	if _, err := f.IssuedBy(ctx, "i-kept"); err != nil {
		t.Errorf("an issued document expired: %v", err)
	}
}

func TestRegister(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	_, i := f.issue(t, "k")
	e, err := f.Entry(ctx, strings.ToLower(i.Code[:6]+"-"+i.Code[6:]))
	if err != nil || e.Kind != "residence" || e.Withdrawn || e.Protocol != i.Protocol {
		t.Errorf("%+v, %v", e, err)
	}
	b, err := f.Get(ctx, i.Code, is(holder))
	if err != nil || sha256.Sum256(b) != e.SHA256 {
		t.Errorf("%v, or another digest", err)
	}
	for _, code := range []string{"", "x", strings.Repeat("A", 26), i.Code + "A"} {
		if _, err := f.Entry(ctx, code); kind(err) != fault.NotFound {
			t.Errorf("%q: %v", code, err)
		}
	}
	if _, err := f.Get(ctx, i.Code, is("VRDLGU80A01H501X")); kind(err) != fault.NotFound {
		t.Errorf("another's document: %v", err)
	}
	for range maxTries - 1 {
		if _, err := f.Holder(ctx, i.Code, "VRDLGU80A01H501X"); kind(err) != fault.Denied {
			t.Fatal(err)
		}
	}
	if h, err := f.Holder(ctx, i.Code, " rssmra77l18h501w"); err != nil || h.Rows[0].Value != "Niccolò D'Angiò" {
		t.Errorf("%+v, %v", h, err)
	}
	for range maxTries {
		_, _ = f.Holder(ctx, i.Code, "VRDLGU80A01H501X")
	}
	if _, err := f.Holder(ctx, i.Code, holder); kind(err) != fault.Throttled {
		t.Errorf("after %d wrong ones: %v", maxTries, err)
	}
	f.now = f.now.Add(triesFor)
	if _, err := f.Holder(ctx, i.Code, holder); err != nil {
		t.Errorf("an hour later: %v", err)
	}
	if _, err := f.Withdraw(ctx, i.Code, "", "ufficio"); kind(err) != fault.Invalid {
		t.Errorf("without a reason: %v", err)
	}
	for range 2 {
		if w, err := f.Withdraw(ctx, i.Code, "errore materiale", "ufficio"); err != nil || w.Protocol != i.Protocol {
			t.Errorf("%+v, %v", w, err)
		}
	}
	if e, _ := f.Entry(ctx, i.Code); !e.Withdrawn || len(f.published) != 2 || f.published[0] != f.published[1] {
		t.Errorf("%+v, published as %v", e, f.published)
	}
}

// run calls a tool of the system that the tests need.
func run(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing (Debian: poppler-utils, openssl)", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}

var byteRange = regexp.MustCompile(`/ByteRange \[0 (\d+) +(\d+) +(\d+) *\]`)

func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDebiansToolsAcceptTheSealAndRefuseAnyChange(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	d, i := f.issue(t, "k")
	b, err := f.Get(ctx, i.Code, is(holder))
	if err != nil {
		t.Fatal(err)
	}
	prefix := false
	for n := 1000; n <= len(b) && !prefix; n++ { // the draft ends with its %%EOF
		prefix = bytes.HasSuffix(b[:n], []byte("%%EOF\n")) && sha256.Sum256(b[:n]) == d.SHA256
	}
	if !prefix {
		t.Error("what the stamp was bought for is not the document's beginning")
	}
	strict := model.NewDefaultConfiguration()
	strict.ValidationMode = model.ValidationStrict
	if err := api.Validate(bytes.NewReader(b), strict); err != nil {
		t.Errorf("pdfcpu refuses: %v", err)
	}
	out, err := run(t, "pdfsig", "-nocert", write(t, b))
	if err != nil || !strings.Contains(out, "Signature is Valid") || !strings.Contains(out, "ETSI.CAdES.detached") || !strings.Contains(out, "Total document signed") {
		t.Fatalf("pdfsig refuses: %v\n%s", err, out)
	}
	var from, to, rest int
	if m := byteRange.FindSubmatch(b); m == nil {
		t.Fatal("no ByteRange")
	} else if _, err := fmt.Sscan(string(m[1])+" "+string(m[2])+" "+string(m[3]), &from, &to, &rest); err != nil || to+rest != len(b) {
		t.Fatalf("the ByteRange covers not the whole file: %v", err)
	}
	var cms []byte
	if _, err := fmt.Sscanf(string(b[from+1:to-1]), "%x", &cms); err != nil {
		t.Fatal(err)
	}
	openssl := func(signed []byte) (string, error) {
		return run(t, "openssl", "cms", "-verify", "-cades", "-inform", "DER", "-in", write(t, cms), "-content", write(t, signed), "-binary",
			"-CAfile", f.ca, "-purpose", "any", "-attime", fmt.Sprint(f.now.Unix()), "-out", os.DevNull)
	}
	signed := append(append([]byte(nil), b[:from]...), b[to:]...)
	if out, err := openssl(signed); err != nil {
		t.Fatalf("openssl refuses: %s", out)
	}
	for at := 0; at < len(b); at += len(b) / 60 {
		bad := append([]byte(nil), b...)
		bad[at] ^= 0x10 // of a hex digit: another digit or none
		if out, err := run(t, "pdfsig", "-nocert", write(t, bad)); err == nil && strings.Contains(out, "Signature is Valid") && strings.Contains(out, "Total document signed") {
			t.Errorf("pdfsig accepts a changed byte at %d:\n%s", at, out)
		}
		if at < from || at >= to {
			if out, err := openssl(append(append([]byte(nil), bad[:from]...), bad[to:]...)); err == nil {
				t.Errorf("openssl accepts a changed byte at %d: %s", at, out)
			}
		}
	}
}

func is(taxCode string) func(string) bool {
	return func(holder string) bool { return holder == taxCode }
}

// Drafts are nobody's yet, and documents are their holder's.
func TestHeldBy(t *testing.T) {
	f, ctx := newFixture(t), context.Background()
	_, one := f.issue(t, "a")
	f.issue(t, "b")
	if _, err := f.Prepare(ctx, "draft", content()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Withdraw(ctx, one.Code, "errore", "anna"); err != nil {
		t.Fatal(err)
	}
	held, err := f.HeldBy(ctx, strings.ToLower(holder))
	if err != nil || len(held) != 2 {
		t.Fatalf("%+v, %v", held, err)
	}
	for _, k := range held {
		if k.Kind != "residence" || k.Protocol == "" || k.Data["name"] != "Niccolò D'Angiò" || (k.Withdrawn != nil) != (k.Code == one.Code) {
			t.Errorf("%+v", k)
		}
	}
	if held, err := f.HeldBy(ctx, "VRDLGU80A01H501X"); err != nil || len(held) != 0 {
		t.Errorf("another's: %+v, %v", held, err)
	}
}
