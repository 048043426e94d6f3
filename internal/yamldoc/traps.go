package yamldoc

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	goccy "github.com/goccy/go-yaml"
	goccyparser "github.com/goccy/go-yaml/parser"
)

// Keys whose value is an expression without a leading `=` (route-language,
// "A leading = marks an expression").
var expressionKeys = [...]string{"allow", "check", "if", "where", "until", "case"}

func isExpression(key, text string) bool {
	if strings.HasPrefix(text, "=") {
		return true
	}
	for _, k := range expressionKeys {
		if k == key {
			return true
		}
	}
	return false
}

// unbalanced says that text opens a bracket or a quote that it does not close.
func unbalanced(text string) bool {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case '"', '\'', '`':
			j := i + 1
			for j < len(text) && text[j] != c {
				if text[j] == '\\' && c != '`' {
					j++
				}
				j++
			}
			if j >= len(text) {
				return true
			}
			i = j
		}
	}
	return depth > 0
}

var danglingWord = regexp.MustCompile(`(^|[\s)\]"'])(and|or|not|in|matches|contains|startsWith|endsWith|if|else)$`)

// unfinished says that an expression can't end where text ends.
func unfinished(text string) bool {
	t := strings.TrimSpace(text)
	return unbalanced(t) || t == "" || t == "=" || strings.ContainsRune(",+-*/%<>=&|?:!.", rune(t[len(t)-1])) || danglingWord.MatchString(t)
}

// tabs refuses them in indentation, where YAML forbids them and its readers
// point at the wrong line.
func (p *parser) tabs() []Problem { return findTabs(p.file, p.lines) }

func findTabs(file string, lines []string) []Problem {
	var ps []Problem
	for i, l := range lines {
		trimmed := strings.TrimLeft(l, " ")
		if strings.HasPrefix(trimmed, "\t") && strings.TrimSpace(trimmed) != "" {
			ps = append(ps, Problem{Pos: Pos{file, i + 1, len(l) - len(trimmed) + 1}, Rule: "yaml", Message: "a tab stands in the indentation: use spaces"})
		}
		if strings.HasPrefix(trimmed, "\u00a0") {
			ps = append(ps, Problem{Pos: Pos{file, i + 1, len(l) - len(trimmed) + 1}, Rule: "yaml", Message: "a no-break space (U+00A0) stands in the indentation: use plain spaces"})
		}
	}
	return ps
}

func (p *parser) secondDocument() int {
	content := false
	for i, l := range p.lines {
		t := strings.TrimSpace(l)
		if content && (strings.HasPrefix(l, "---") || strings.HasPrefix(l, "...")) {
			return i + 1
		}
		if t != "" && t != "---" && !strings.HasPrefix(t, "#") && !strings.HasPrefix(t, "%") {
			content = true
		}
	}
	return 1
}

var v3line = regexp.MustCompile(`line (\d+): (.*)$`)

// refused explains why yaml.v3 gave up. Its errors carry no column and often the
// wrong line, so goccy locates; where one of the known traps stands on or just
// before that line, the message is the trap's. What is wrong is then blanked and
// the rest read again, so that one mistake does not hide the next.
func (p *parser) refused(err error) []Problem {
	lines := append([]string(nil), p.lines...)
	var ps []Problem
	for range 20 {
		line, col, msg := locate(strings.Join(lines, "\n"), err)
		line = max(1, min(line, len(lines)))
		tl, tc, fix := trapNear(lines, line)
		if fix == "" {
			line, col, msg = nearby(lines, line, max(col, 1), msg)
			ps = append(ps, Problem{Pos: Pos{p.file, line, col}, Rule: "yaml", Message: msg})
			break
		}
		ps = append(ps, Problem{Pos: Pos{p.file, tl, tc}, Rule: "yaml", Message: fix})
		r := []rune(lines[tl-1])
		lines[tl-1] = string(r[:blankFrom(r, tc-1)]) + `""`
		if err = readable(strings.Join(lines, "\n")); err == nil {
			break
		}
	}
	return Sort(ps)
}

// inFlowBefore is the part of an unquoted value that stands before a bracket in it.
var inFlowBefore = regexp.MustCompile(`[^\s,{}\[\]:](?:[^,{}\[\]:]|:[^\s,{}\[\]])*$`)

var (
	unknownAnchor = regexp.MustCompile(`unknown anchor '([^']*)'`)
	dashes        = regexp.MustCompile(`^\s*(?:- +)*`)
)

// nearby moves a syntax error from where YAML's reader stumbled to where the
// author's hand slipped: a bracket that is never closed, a line indented deeper
// than its neighbours, an alias.
func nearby(lines []string, line, col int, msg string) (int, int, string) {
	if m := unknownAnchor.FindStringSubmatch(msg); m != nil {
		alias := regexp.MustCompile(`(?:^|[\s\[{,])(\*` + regexp.QuoteMeta(m[1]) + `)(?:$|[\s\]},])`)
		for i, l := range lines {
			if at := alias.FindStringSubmatchIndex(l); at != nil {
				return i + 1, len([]rune(l[:at[2]])) + 1, "anchors and aliases are not allowed: write the value out instead of *" + m[1]
			}
		}
	}
	flow := strings.Contains(msg, "must be specified") || strings.Contains(msg, "flow map content") || strings.Contains(msg, "flow sequence")
	for l := line; l >= 1 && l > line-6; l-- {
		raw := cutComment(lines[l-1])
		if m := keyed.FindStringSubmatch(raw); m != nil && m[3] != "" && strings.ContainsRune("{[", rune(m[3][0])) && unbalanced(m[3]) && flow {
			return l, len([]rune(m[1]+m[2])) + 1, fmt.Sprintf("the `%c` that opens here is never closed: close it, or quote the whole if it is a text", m[3][0])
		}
	}
	if l, c, fix := slip(lines, line, msg); fix != "" {
		return l, c, fix
	}
	if strings.Contains(msg, "value is not allowed in this context") {
		// The reader names the deeper line or the one before it.
		for _, l := range []int{line, line + 1} {
			if l < 2 || l > len(lines) {
				continue
			}
			indent := len(lines[l-1]) - len(strings.TrimLeft(lines[l-1], " "))
			m := keyed.FindStringSubmatch(lines[l-2])
			if m != nil && cutComment(m[3]) != "" && indent > len(dashes.FindString(lines[l-2])) {
				return l, indent + 1, "this line is indented deeper than the one before it, which has its value already: let both begin in one column"
			}
		}
	}
	return line, col, msg
}

// blankFrom is where the value that holds rune i begins, so that no bracket
// opened before i stays open.
func blankFrom(r []rune, i int) int {
	for j := 0; j < i && j < len(r); j++ {
		if (r[j] == '{' || r[j] == '[') && (j == 0 || r[j-1] == ' ') {
			return j
		}
	}
	return min(i, len(r))
}

// locate finds the place of a syntax error.
func locate(src string, err error) (line, col int, msg string) {
	line, col, msg = 1, 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := v3line.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = m[2]
	}
	if gl, gc, gm, ok := locateGoccy(src); ok {
		line, col = gl, gc
		if gm != "" {
			msg = gm
		}
	}
	return line, col, "YAML can't be read here: " + msg
}

func locateGoccy(src string) (line, col int, msg string, ok bool) {
	defer func() {
		if recover() != nil { // the locator must not be worse than the error it explains
			ok = false
		}
	}()
	if len(src) > MaxBytes {
		return 0, 0, "", false
	}
	_, err := goccyparser.ParseBytes([]byte(src), 0)
	var ge goccy.Error
	if err == nil || !errors.As(err, &ge) || ge.GetToken() == nil || ge.GetToken().Position == nil {
		return 0, 0, "", false
	}
	pos := ge.GetToken().Position
	return pos.Line, pos.Column, ge.GetMessage(), true
}

var (
	keyed      = regexp.MustCompile(`^(\s*(?:- +)*)((?:[A-Za-z_][\w.\-]*|"[^"]*")\s*:\s+)(.*)$`)
	quotedThen = regexp.MustCompile(`^("(?:[^"\\]|\\.)*"|'[^']*')\s*([^\s#].*)$`)
)

// trapNear looks for a known trap on the line, then on the lines before it.
func trapNear(lines []string, line int) (tl, tc int, fix string) {
	for l := line; l >= 1 && l > line-6; l-- {
		if col, fix := trapOn(lines[l-1]); fix != "" {
			return l, col, fix
		}
	}
	if line < len(lines) {
		if col, fix := trapOn(lines[line]); fix != "" {
			return line + 1, col, fix
		}
	}
	return 0, 0, ""
}

// trapOn explains a line that YAML can't read; col is where the value begins.
func trapOn(raw string) (col int, fix string) {
	before, value, key := "", raw, ""
	if m := keyed.FindStringSubmatch(raw); m != nil {
		before, value = m[1]+m[2], m[3]
		key = strings.Trim(strings.TrimRight(m[2], ": "), `"`)
	} else if t := strings.TrimLeft(raw, " "); strings.HasPrefix(t, "- ") {
		v := strings.TrimLeft(t[1:], " ")
		before, value = raw[:len(raw)-len(v)], v
	}
	column := func(offset int) int { return len([]rune(before+value[:offset])) + 1 }
	if strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[") {
		return trapInFlow(value, column)
	}
	if m := quotedThen.FindStringSubmatch(value); m != nil {
		return column(0), fmt.Sprintf("a value that begins with a quote ends with it, and `%s` is left over: put the whole in single quotes, '%s'", clip(m[2]), clip(value))
	}
	if strings.HasPrefix(value, "!") && !isExpression(key, "") {
		return column(0), "`!` begins a YAML tag: quote the whole"
	}
	if strings.HasPrefix(value, "!") {
		return column(0), fmt.Sprintf("`!` begins a YAML tag: write `not %s`", clip(strings.TrimPrefix(value, "!")))
	}
	v := cutComment(value)
	if isExpression(key, v) && (strings.Contains(v, ": ") || strings.HasSuffix(v, ":")) {
		if strings.Contains(v, "?") && !strings.Contains(v, "{") {
			return column(0), "`: ` ends a YAML value, so `c ? a : b` can't be read: write `if c {a} else {b}`, or quote the whole expression"
		}
		return column(0), "`: ` inside an expression can't be read by YAML: quote the whole expression with single quotes, or put it in a block after `|`"
	}
	if strings.HasPrefix(v, "*") && strings.ContainsAny(v, " /") {
		return column(0), fmt.Sprintf("a value can't begin with `*`: quote it, '%s'", clip(v))
	}
	if strings.HasPrefix(v, "`") || strings.HasPrefix(v, "@") || strings.HasPrefix(v, "%") {
		return column(0), fmt.Sprintf("a value can't begin with `%c`: quote it", v[0])
	}
	return 0, ""
}

// trapInFlow finds the first expression inside { } or [ ] that YAML can't read.
func trapInFlow(value string, column func(int) int) (int, string) {
	depth := 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; c {
		case '"', '\'':
			j := strings.IndexByte(value[i+1:], c)
			if j < 0 {
				return 0, ""
			}
			i += j + 1
		case '{', '[':
			if depth > 0 && !strings.ContainsRune(" {[,", rune(value[i-1])) {
				from := i - len(inFlowBefore.FindString(value[:i]))
				return column(from), fmt.Sprintf("`%c` inside the value `%s` can't stand within { } or [ ]: put it on its own line, or quote it", c, clip(flowExpression(value[from:])))
			}
			depth++
		case '}', ']':
			depth--
		case '#':
			if i > 0 && value[i-1] == ' ' {
				return 0, ""
			}
		case '=':
			if i == 0 || !strings.ContainsRune(" [{,", rune(value[i-1])) || (i+1 < len(value) && value[i+1] == '=') || (i > 1 && !strings.ContainsRune(":,[{", rune(lastNonSpace(value[:i])))) {
				continue
			}
			e := flowExpression(value[i:])
			if strings.ContainsAny(e, "[]{}?\"'") || strings.Contains(e, ": ") || unbalanced(e) {
				hint := "put it on its own line, or quote it"
				if strings.Contains(e, "?") && strings.Contains(e, " : ") {
					hint = "put it on its own line as `if c {a} else {b}`, or quote it"
				}
				return column(i), fmt.Sprintf("the expression `%s` can't stand inside { } or [ ] as it is: %s", clip(e), hint)
			}
			i += len(e) - 1
		case '!':
			if i > 0 && value[i-1] == ' ' {
				return column(i), "`!` begins a YAML tag: write `not`"
			}
		}
	}
	return 0, ""
}

func lastNonSpace(s string) byte {
	s = strings.TrimRight(s, " ")
	if s == "" {
		return ':'
	}
	return s[len(s)-1]
}

// flowExpression is the expression at the beginning of s as its author meant it:
// up to a comma or closing bracket outside its own brackets and quotes.
func flowExpression(s string) string {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth == 0 {
				return strings.TrimRight(s[:i], " ")
			}
			depth--
		case ',':
			if depth == 0 {
				return strings.TrimRight(s[:i], " ")
			}
		case '"', '\'':
			if j := strings.IndexByte(s[i+1:], c); j >= 0 {
				i += j + 1
			}
		}
	}
	return s
}

func cutComment(s string) string {
	if i := strings.Index(s, " #"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimRight(s, " ")
}

func clip(s string) string {
	s = strings.TrimSpace(s)
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "..."
	}
	return s
}
