package yamldoc

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// place is a line and column of the source, both from 1.
type place struct{ line, column int }

// escapes of a double-quoted scalar (YAML 1.2.2, section 5.7) but for \x, \u and
// \U; yaml.v3 reads no others.
const (
	escapeNames  = "0abtnvfre \"/\\N_LP\t"
	escapeValues = "\x00\a\b\t\n\v\f\r\x1b \"/\\\u0085\u00a0\u2028\u2029\t"
)

// walk goes over the source of a scalar beside its text.
type walk struct {
	lines  [][]rune // the source from the scalar's first line on
	first  int      // number of that line
	indent int      // Block: what every line begins with; -1: all leading space is folded away
	double bool
	single bool
	li, ci int
}

func (w *walk) line() []rune {
	if w.li < len(w.lines) {
		return w.lines[w.li]
	}
	return nil
}

// over says whether nothing but space is left on the line.
func (w *walk) over() bool {
	l := w.line()
	return w.ci >= len(l) || strings.TrimLeft(string(l[w.ci:]), " \t\r") == ""
}

func (w *walk) down() bool {
	w.li, w.ci = w.li+1, 0
	for l := w.line(); w.ci < len(l) && w.ci != w.indent && (l[w.ci] == ' ' || l[w.ci] == '\t'); {
		w.ci++
	}
	return w.li < len(w.lines)
}

// take moves over the source of r; false if something else stands there.
func (w *walk) take(r rune) bool {
	for (r == ' ' || r == '\n') && w.over() {
		return w.down() || r == '\n'
	}
	for w.over() { // an empty line, whose break the text holds already
		if !w.down() {
			return false
		}
	}
	l := w.line()
	switch {
	case w.double && l[w.ci] == '\\':
		if w.ci++; w.over() { // the break is escaped
			return w.down() && w.take(r)
		}
		return w.escape(r)
	case l[w.ci] != r:
		return false
	case w.single && r == '\'':
		w.ci++
	}
	w.ci++
	return true
}

func (w *walk) escape(r rune) bool {
	l := w.line()
	c := l[w.ci]
	w.ci++
	if n := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]; n > 0 {
		if w.ci+n > len(l) {
			return false
		}
		v, err := strconv.ParseUint(string(l[w.ci:w.ci+n]), 16, 32)
		w.ci += n
		return err == nil && rune(v) == r
	}
	i := strings.IndexRune(escapeNames, c)
	if i < 0 {
		return false
	}
	return []rune(escapeValues)[utf8.RuneCountInString(escapeNames[:i])] == r
}

// places gives the place of every byte of a text that is written with breaks or
// escapes, and of its end; nil where the source can't be followed.
func (w *walk) places(text string) []place {
	out := make([]place, len(text)+1)
	for i, r := range text {
		// A break or escape of no width is passed before the character is placed.
		for w.over() && r != ' ' && r != '\n' {
			if !w.down() {
				return nil
			}
		}
		at := place{w.first + w.li, w.ci + 1}
		for j := range utf8.RuneLen(r) {
			out[i+j] = at
		}
		if !w.take(r) {
			return nil
		}
	}
	out[len(text)] = place{w.first + w.li, w.ci + 1}
	return out
}

// follow finds the places of a folded scalar's text from line:column of its first
// character on.
func (p *parser) follow(w walk, text string, line, column int) []place {
	if line < 1 || line > len(p.lines) {
		return nil
	}
	w.first, w.ci = line, column-1
	// A line of source gives a character of text or a break of it: no more lines
	// than that are read, whatever the file's length.
	for _, l := range p.lines[line-1 : min(len(p.lines), line+len(text)+strings.Count(text, "\n")+64)] {
		w.lines = append(w.lines, []rune(l))
		if len(w.lines) > len(text)+64 {
			break
		}
	}
	return w.places(text)
}
