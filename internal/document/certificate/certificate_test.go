package certificate

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/document"
	"github.com/dime-bus/dime/internal/document/pdf"
	"github.com/dime-bus/dime/internal/fault"
)

func city() City { return City{Name: "Comune di Venezia", Office: "Servizi demografici"} }

func draft(kind string) Draft {
	data := map[string]any{
		"name": "Niccolò D'Angiò Übertreß", "born": "1977-07-18", "birth_place": map[string]any{"name": "Roma (RM)"}, "citizenship": "italiana",
		"address": map[string]any{"label": "Cannaregio 2345, 30121 Venezia (VE)"}, "since": "2004-03-01", "civil_status": "coniugato",
	}
	if kind == "family" {
		data["members"] = []any{
			map[string]any{"name": "Niccolò D'Angiò", "born": "1977-07-18", "birth_place": "Roma", "relation": "intestatario scheda"},
			map[string]any{"name": "Łucja Kowalska", "born": "1980-01-02", "birth_place": "Kraków (Polonia)", "relation": "moglie"},
		}
	}
	return Draft{
		City: city(), VerifyURL: "https://servizi.comune.example/verifica/ABCDEFGHJKMNPQRSTVWXYZ2345", At: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC),
		Content: document.Content{Kind: kind, Holder: "RSSMRA77L18H501W", Data: data},
	}
}

// run calls a tool of the system that the tests need.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("running %s (Debian: poppler-utils, zbar-tools): %v\n%s", name, err, out)
	}
	return string(out)
}

func TestDraftAndMarks(t *testing.T) {
	for _, kind := range []string{"residence", "family", "civil-status"} {
		t.Run(kind, func(t *testing.T) {
			d := draft(kind)
			a, err := d.PDF()
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if b, err := d.PDF(); err != nil || !bytes.Equal(a, b) {
					t.Fatalf("the same content gave other bytes, %v", err)
				}
			}
			m := Marks{City: city(), Protocol: "VE-2026-0000123", At: d.At, Stamp: &document.Stamp{IUBD: "01234567890123", Bought: d.At, AmountCent: 1600, SHA256: [32]byte{1, 2, 3}}}
			top, err := m.PDF()
			if err != nil {
				t.Fatal(err)
			}
			final, err := pdf.Overlay(a, top)
			if err != nil || !bytes.HasPrefix(final, a) {
				t.Fatalf("%v; the draft is no prefix: %v", err, !bytes.HasPrefix(final, a))
			}
			file := filepath.Join(t.TempDir(), "c.pdf")
			if err := os.WriteFile(file, final, 0o600); err != nil {
				t.Fatal(err)
			}
			words := run(t, "pdftotext", "-layout", file, "-")
			if kind == "residence" && !strings.Contains(words, "A questo indirizzo dal") { // `since` is the dwelling's: who moves within the Comune stays a resident
				t.Error("the day of the dwelling stands for the day of residence in the Comune")
			}
			for _, want := range []string{d.VerifyURL, "Niccolò D'Angiò", "RSSMRA77L18H501W", "VE-2026-0000123", "24/11/2026", "01234567890123", "EUR 16,00", "010203", "non può essere prodotto agli organi"} {
				if !strings.Contains(words, want) {
					t.Errorf("the page lacks %q:\n%s", want, words)
				}
			}
			if info := run(t, "pdfinfo", file); !strings.Contains(info, "Comune di Venezia") {
				t.Errorf("no title or author:\n%s", info)
			}
			run(t, "pdftoppm", "-r", "110", "-png", "-singlefile", file, strings.TrimSuffix(file, ".pdf"))
			if dir := os.Getenv("DIME_PAGES"); dir != "" { // to look at
				run(t, "cp", strings.TrimSuffix(file, ".pdf")+".png", filepath.Join(dir, kind+".png"))
			}
			if got := strings.TrimSpace(run(t, "zbarimg", "-q", "--raw", strings.TrimSuffix(file, ".pdf")+".png")); got != d.VerifyURL {
				t.Errorf("the scanner reads %q", got)
			}
		})
	}
}

// TestLongTexts: what is long is broken into lines and stays whole, above the foot.
func TestLongTexts(t *testing.T) {
	d := draft("residence")
	d.City.Name, d.City.Office = "Comune di San Valentino in Abruzzo Citeriore", "Ufficio associato dei servizi demografici, elettorali e statistici"
	d.Content.Data["name"] = "Maria Immacolata Concetta Addolorata Wolkenstein-Trostburg von und zu Hohenschwangau dell'Acquasanta"
	d.Content.Data["address"] = "Vicolo di San Francesco Saverio presso la Chiesa della Beata Vergine del Soccorso 1234/B interno 56, scala C, piano terzo, presso Hohenschwangau dell'Acquasanta, 65020 San Valentino in Abruzzo Citeriore (PE)"
	d.Content.Data["birth_place"] = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch (Regno Unito di Gran Bretagna e Irlanda del Nord)"
	b, err := d.PDF()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "c.pdf")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(run(t, "pdftotext", file, "-")), " ")
	for _, key := range []string{"name", "address", "birth_place"} {
		if want := d.Content.Data[key].(string); !strings.Contains(words, want) {
			t.Errorf("the page lacks %q:\n%s", want, words)
		}
	}
	run(t, "pdftoppm", "-r", "110", "-png", "-singlefile", file, strings.TrimSuffix(file, ".pdf"))
	if dir := os.Getenv("DIME_PAGES"); dir != "" { // to look at
		run(t, "cp", strings.TrimSuffix(file, ".pdf")+".png", filepath.Join(dir, "long.png"))
	}
	if got := strings.TrimSpace(run(t, "zbarimg", "-q", "--raw", strings.TrimSuffix(file, ".pdf")+".png")); got != d.VerifyURL {
		t.Errorf("the scanner reads %q", got)
	}
}

func TestExemptionIsPrinted(t *testing.T) {
	d := draft("residence")
	d.Content.Exemption = "art-16-tab-b"
	b, err := d.PDF()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "c.pdf")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if words := run(t, "pdftotext", "-layout", file, "-"); !strings.Contains(words, "n. 642, tabella allegato B, art. 16") {
		t.Errorf("the norm is not printed:\n%s", words)
	}
	d.Content.Exemption = "art-99"
	if _, err := d.PDF(); fault.From(err).Pointer != "/exemption" {
		t.Errorf("an unknown exemption: %v", err)
	}
}

func TestLargeFamilyGoesOn(t *testing.T) {
	d := draft("family")
	var members []any
	for i := range 40 {
		members = append(members, map[string]any{"name": fmt.Sprintf("Componente Numero%d", i), "born": "2000-01-01", "relation": "figlio"})
	}
	d.Content.Data["members"] = members
	b, err := d.PDF()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "c.pdf")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	words := run(t, "pdftotext", "-layout", file, "-")
	for i := range 40 {
		if !strings.Contains(words, fmt.Sprintf("Numero%d ", i)) {
			t.Errorf("member %d is missing", i)
		}
	}
}

func TestRefusals(t *testing.T) {
	for pointer, change := range map[string]func(*document.Content){
		"/kind":                func(c *document.Content) { c.Kind = "birth" },
		"/data/name":           func(c *document.Content) { delete(c.Data, "name") },
		"/data/born":           func(c *document.Content) { c.Data["born"] = "18/07/1977" },
		"/data/address":        func(c *document.Content) { c.Data["address"] = 5 },
		"/data/members":        func(c *document.Content) { c.Kind = "family"; delete(c.Data, "members") },
		"/data/members/0/name": func(c *document.Content) { c.Kind = "family"; c.Data["members"] = []any{map[string]any{}} },
	} {
		d := draft("residence")
		change(&d.Content)
		if _, err := d.PDF(); err == nil || fault.From(err).Pointer != pointer {
			t.Errorf("%s: %v", pointer, err)
		}
	}
}
