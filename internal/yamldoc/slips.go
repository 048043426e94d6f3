package yamldoc

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	gluedColon  = regexp.MustCompile(`^(\s*(?:- +)*)([A-Za-z_][\w-]*):([^\s:/].*)$`)
	gluedDash   = regexp.MustCompile(`^(\s*)-([A-Za-z_][\w-]*:(?:\s.*)?)$`)
	commaBefore = regexp.MustCompile(`[^\s,{\[:]\s+([A-Za-z_][\w-]*:)\s`)
	blockHeader = regexp.MustCompile(`^([|>][-+0-9]*)\s+[^\s#]`)
)

// slip explains slips of the hand that stop YAML's reader: where they are made,
// and what to write. "" if the lines show none.
func slip(lines []string, line int, msg string) (l, col int, fix string) {
	for _, l := range []int{line, line + 1, line - 1} {
		if l < 1 || l > len(lines) {
			continue
		}
		raw := cutComment(lines[l-1])
		if m := gluedDash.FindStringSubmatch(raw); m != nil {
			return l, len([]rune(m[1])) + 1, fmt.Sprintf("a space is missing behind the dash: write `- %s`", clip(m[2]))
		}
		if m := gluedColon.FindStringSubmatch(raw); m != nil {
			return l, len([]rune(m[1])) + 1, fmt.Sprintf("a space is missing behind the colon: write `%s: %s`", m[2], clip(m[3]))
		}
		m := keyed.FindStringSubmatch(raw)
		if m == nil || m[3] == "" {
			continue
		}
		at := len([]rune(m[1]+m[2])) + 1
		switch v := m[3]; {
		case strings.ContainsRune("{[", rune(v[0])):
			if strings.Contains(strings.ReplaceAll(v, " ", ""), ",,") {
				return l, at, "two commas follow each other: remove one"
			}
			if i := commaBefore.FindStringSubmatchIndex(v); i != nil && !strings.ContainsAny(v[:i[2]], "\"'") {
				return l, at + len([]rune(v[:i[2]])), fmt.Sprintf("a comma is missing before `%s`", v[i[2]:i[3]])
			}
		case v[0] == '"' || v[0] == '\'':
		case blockHeader.MatchString(v):
			return l, at, fmt.Sprintf("a text can't begin on the line of its `%c`: begin it on the next line, deeper, or quote it", v[0])
		case strings.HasPrefix(v, "- "), strings.HasPrefix(v, "? "):
			return l, at, fmt.Sprintf("a value can't begin with `%s`: quote it, or begin a list on the next line", v[:1])
		case l == line && (strings.Contains(v, ": ") || strings.HasSuffix(v, ":")):
			return l, at, "`: ` inside a value can't be read by YAML: put { } around a map, and quotes around a text"
		}
	}
	// A quote that is not closed swallows lines until the next one.
	if strings.Contains(msg, "end character of") || strings.Contains(msg, "not allowed in this context") || strings.Contains(msg, "must be specified") {
		for l := line; l >= 1; l-- {
			m := keyed.FindStringSubmatch(lines[l-1])
			if m == nil || m[3] == "" || m[3][0] != '"' && m[3][0] != '\'' {
				continue
			}
			if q := m[3][:1]; strings.Count(strings.ReplaceAll(m[3], `\"`, ""), q)%2 == 1 {
				return l, len([]rune(m[1]+m[2])) + 1, fmt.Sprintf("the quote that opens here is not closed on its line: close it with %s", q)
			}
		}
	}
	return 0, 0, ""
}
