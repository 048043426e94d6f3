package language

import (
	"strings"
	"testing"
)

// Whoever follows a message to the letter is done: the mistake is refused with
// the fix in the message, and what the message says to write lints clean.
func TestFixes(t *testing.T) {
	base, o := baseCity(t), baseOptions(t)
	const certificate, fines, cron = "routes/residence-certificate.yaml", "routes/fine-notices.yaml", "routes/fine-reminders.yaml"
	for _, tt := range []struct{ file, old, mistake, says, followed string }{
		{certificate, "version: 3", "version: 010", "write 10", "version: 10"},
		{certificate, "version: 3", "version: 3.0", "write 3", "version: 3"},
		{certificate, "version: 3", "version: 1_0", "write 10", "version: 10"},
		{certificate, "version: 3", "version: 0x10", "write 16", "version: 16"},
		{certificate, "version: 3", "version: +3", "write 3", "version: 3"},
		{certificate, "version: 3", "version: \"3\"", "without quotes", "version: 3"},
		{certificate, "version: 3", "version: 2026-11-24", "must be a whole number", "version: 20261124"},
		{certificate, "version: 3", "version:3", "write `version: 3`", "version: 3"},
		{certificate, "commit: true", "commit: True", "true or false", "commit: true"},
		{certificate, "commit: true", "commit: yes", "true or false", "commit: true"},
		{certificate, "timeout: 2s", "timeout: 2", "write for instance 2s", "timeout: 2s"},
		{certificate, "timeout: 2s", "timeout: 2 sec", "write 2s", "timeout: 2s"},
		{certificate, "for: 3d", "for: 1:30", "as in 1m30s", "for: 1m30s"},
		{certificate, "for: 3d", "for: 3 days", "write 3d", "for: 3d"},
		{certificate, "for: 3d", "for: P3D", "write for instance 500ms, 30s, 15m, 2h, 3d", "for: 3d"},
		{certificate, "about: Certificate", "about: Note: certificate", "quotes around a text", "about: \"Note: certificate of residence\" #"},
		{certificate, "about: Certificate", "about: %Certificate", "quote it", "about: \"%Certificate\" #"},
		{certificate, "about: Certificate", "about: *Certificate", "quote it", "about: '*Certificate' #"},
		{certificate, "about: Certificate", "about: - Certificate", "quote it", "about: '- Certificate' #"},
		{certificate, "about: Certificate", "about: !Certificate", "quote the whole", "about: '!Certificate' #"},
		{certificate, "about: Certificate", "about: > Certificate", "begin it on the next line, deeper", "about: >\n  Certificate"},
		{certificate, "about: Certificate", "about: {Certificate", "never closed: close it, or quote the whole if it is a text", "about: '{Certificate' #"},
		{certificate, "about: Certificate", "about: \"Certificate", "close it with \"", "about: \"Certificate\" #"},
		{certificate, "if: req.exemption == nil", "if: !req.exemption", "write `not req.exemption`", "if: not (req.exemption != nil)"},
		{certificate, "if: req.exemption == nil", "if: \"req.exemption == nil", "close it with \"", "if: \"req.exemption == nil\""},
		{certificate, "as: resident\n", "as:resident\n", "write `as: resident`", "as: resident\n"},
		{certificate, "  - call: anagrafe.residence", "  -call: anagrafe.residence", "write `- call: anagrafe.residence`", "  - call: anagrafe.residence"},
		{certificate, "    as: resident\n", "\u00a0   as: resident\n", "use plain spaces", "    as: resident\n"},
		{certificate, "    as: resident\n", "\tas: resident\n", "use spaces", "    as: resident\n"},
		{certificate, "reply: 202", "reply: \"202\"", "write 202, without quotes", "reply: 202"},
		{certificate, "reply: 202", "reply: 0202", "write 202", "reply: 202"},
		{certificate, "{reply: 404, say: no-resident}", "{reply: 404 say: no-resident}", "a comma is missing before `say:`", "{reply: 404, say: no-resident}"},
		{certificate, "{reply: 404, say: no-resident}", "{reply:404, say: no-resident}", "write `reply: 404`", "{reply: 404, say: no-resident}"},
		{certificate, "{reply: 404, say: no-resident}", "{reply: 404, say: no-resident", "never closed: close it", "{reply: 404, say: no-resident}"},
		{certificate, "{reply: 404, say: no-resident}", "reply: 404, say: no-resident", "put { } around a map", "{reply: 404, say: no-resident}"},
		{certificate, "allow: caller.assurance", "allow: caller.channel != “x” and caller.assurance", "straight quotes", "allow: caller.channel != \"x\" and caller.assurance"},
		{fines, "within: 5s", "within: 5", "write for instance 5s", "within: 5s"},
		{fines, "parallel: 4", "parallel: 04", "write 4", "parallel: 4"},
		{fines, "parallel: 4", "parallel: 4.0", "write 4", "parallel: 4"},
		{fines, "retry: 2", "retry: 02", "write 2", "retry: 2"},
		{fines, "cents: =fine.amount", "cents: 0100", "write 100", "cents: 100"},
		{fines, "cents: =fine.amount", "cents: 1_000", "write 1000", "cents: 1000"},
		{fines, "cents: =fine.amount", "cents: 10.00", "write 10", "cents: 10"},
		{fines, "size: large", "size: large, x: 041041", `quote it: "041041"`, `size: large, x: "041041"`},
		{fines, "size: large", "size: large, x: 2026-11-23", `quote it: "2026-11-23"`, `size: large, x: "2026-11-23"`},
		{fines, "size: large", "size: large, x: True", "write true or false in small letters", "size: large, x: true"},
		{fines, "size: large", "size: large, x: =1 > 0 ? 1 : 2", "quote it", "size: large, x: '=1 > 0 ? 1 : 2'"},
		{fines, "size: large", "size: large, x: =[1, 2]", "quote it", "size: large, x: '=[1, 2]'"},
		{fines, "size: large", "size: large, x:1", "write `x: 1`", "size: large, x: 1"},
		{fines, "size: large", "size: large,, x: 1", "remove one", "size: large, x: 1"},
		{fines, `case: fine.status == "open"`, `case: "open" == fine.status`, `put the whole in single quotes, '"open" == fine.status'`, `case: '"open" == fine.status'`},
		{fines, `case: fine.status == "open"`, `case: fine.status = "open"`, "write ==", `case: fine.status == "open"`},
		{cron, "CRON", "cron: */5 * * * *", "quote it, '*/5 * * * *'", "cron: '*/5 * * * *'"},
		{cron, "CRON", "cron: 0 7 31 2 *", "never fires", "cron: 0 7 28 2 *"},
		{cron, "CRON", "cron: 0 7 30,31 2 *", "never fires", "cron: 0 7 28 2 *"},
		{cron, "CRON", "every: 100ms", "at least 1s", "every: 1s"},
		{cron, "CRON", "every: 0s", "at least 1s", "every: 1s"},
		{cron, "CRON", "every: 20000h", "at most a year", "every: 8784h"},
	} {
		old := tt.old
		if old == "CRON" {
			old = trigger(string(base[tt.file].Data))
		}
		if _, ps := Load(edit(t, base, tt.file, old, tt.followed), o); len(ps) > 0 {
			t.Errorf("%q, as the message says, gives %v", tt.followed, ps)
		}
		_, ps := Load(edit(t, base, tt.file, old, tt.mistake), o)
		told := false
		for _, p := range ps {
			told = told || strings.Contains(p.Message, tt.says)
		}
		if !told {
			t.Errorf("%q: no message says %q: %v", tt.mistake, tt.says, ps)
		}
	}
}

// trigger is a route's line that says when it begins.
func trigger(src string) string {
	for _, l := range strings.Split(src, "\n") {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "cron:") || strings.HasPrefix(l, "every:") {
			return l
		}
	}
	return ""
}
