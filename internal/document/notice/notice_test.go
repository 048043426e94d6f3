package notice

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sample() Notice {
	return Notice{
		Creditor: "Comune di Venezia", Office: "Servizi demografici", CreditorCode: "00339370272", CBILL: "A1B2C",
		Payer: "Łucja Đorđević D'Angiò", PayerCode: "RSSMRA77L18H501W", Subject: "Diritti di segreteria: certificato di residenza (più copia)",
		Number: "301011100007347557", AmountCent: 123456, Due: time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC),
	}
}

func TestCode(t *testing.T) {
	n := sample()
	if got, err := n.Code(); err != nil || got != "PAGOPA|002|301011100007347557|00339370272|123456" {
		t.Error(got, err)
	}
	n.AmountCent = 5
	if got, _ := n.Code(); !strings.HasSuffix(got, "|05") {
		t.Errorf("%s: an amount has two digits at least", got)
	}
	for _, change := range []func(*Notice){
		func(n *Notice) { n.Number = "30101110000734755" }, func(n *Notice) { n.Number = "30101110000734755x" },
		func(n *Notice) { n.CreditorCode = "" }, func(n *Notice) { n.AmountCent = 0 }, func(n *Notice) { n.AmountCent = 100_000_000_000 },
	} {
		n := sample()
		change(&n)
		if _, err := PDF(n); err == nil {
			t.Errorf("%+v was printed", n)
		}
	}
}

// run calls a tool of the system that the tests need.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("running %s (Debian: poppler-utils, zbar-tools): %v", name, err)
	}
	return string(out)
}

func TestPDF(t *testing.T) {
	a, err := PDF(sample())
	if err != nil {
		t.Fatal(err)
	}
	b, err := PDF(sample())
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the same notice gave other bytes, %v", err)
	}
	file := filepath.Join(t.TempDir(), "avviso.pdf")
	if err := os.WriteFile(file, a, 0o600); err != nil {
		t.Fatal(err)
	}
	words := run(t, "pdftotext", "-layout", file, "-")
	for _, want := range []string{
		"AVVISO DI PAGAMENTO", "Comune di Venezia", "Łucja Đorđević D'Angiò", "RSSMRA77L18H501W", "(più copia)", "1.234,56", "24/12/2026", "3010 1110 0007 3475 57", "00339370272", "A1B2C",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if dir := os.Getenv("DIME_PAGES"); dir != "" { // to look at
		run(t, "pdftoppm", "-r", "110", "-png", "-singlefile", file, filepath.Join(dir, "notice"))
	}
	// What a counter's scanner reads off the printed page.
	run(t, "pdftoppm", "-r", "150", "-png", "-singlefile", file, strings.TrimSuffix(file, ".pdf"))
	if got := strings.TrimSpace(run(t, "zbarimg", "-q", "--raw", strings.TrimSuffix(file, ".pdf")+".png")); got != "PAGOPA|002|301011100007347557|00339370272|123456" {
		t.Errorf("the scanner reads %q", got)
	}
}

func TestLongTextsStayOnThePage(t *testing.T) {
	n := sample()
	n.Subject, n.Payer, n.Creditor = strings.Repeat("oggetto ", 17), strings.Repeat("W", 70), strings.Repeat("ente ", 28)
	pdf, err := PDF(n)
	if err != nil || bytes.Count(pdf, []byte("/Type /Page\n")) != 1 {
		t.Fatalf("%v, %d pages", err, bytes.Count(pdf, []byte("/Type /Page\n")))
	}
	file := filepath.Join(t.TempDir(), "avviso.pdf")
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("DIME_PAGES"); dir != "" { // to look at
		run(t, "pdftoppm", "-r", "110", "-png", "-singlefile", file, filepath.Join(dir, "notice-long"))
	}
	if words := run(t, "pdftotext", file, "-"); strings.Count(words, "oggetto") < 2*17 {
		t.Errorf("the subject is cut:\n%s", words)
	}
}
