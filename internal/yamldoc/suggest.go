package yamldoc

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Suggest returns the candidate that word is most likely a misspelling of: the
// one at the least edit distance (a transposition counts one), at most a third of
// the word's length away and never more than 3; or "" where nothing is near.
func Suggest(word string, candidates []string) string {
	if len(word) > 100 {
		return ""
	}
	best, bestAt := "", 4
	for _, c := range candidates {
		if c == word || len(c) > 100 {
			continue
		}
		d := distance(strings.ToLower(word), strings.ToLower(c))
		allowed := max(1, min(3, utf8.RuneCountInString(word)/3))
		if d <= allowed && (d < bestAt || d == bestAt && c < best) {
			best, bestAt = c, d
		}
	}
	if best == "" && len(word) >= 3 {
		// "resident_status" for "status": one holds the other whole.
		for _, c := range candidates {
			if len(c) >= 3 && c != word && (strings.Contains(c, word) || strings.Contains(word, c)) && (best == "" || c < best) {
				best = c
			}
		}
	}
	return best
}

// DidYouMean returns `; did you mean "x"?`, or "" where nothing is near.
func DidYouMean(word string, candidates []string) string {
	if s := Suggest(word, candidates); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	return ""
}

// distance is the optimal string alignment distance of two short words.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if d := len(x) - len(y); d > 3 || d < -3 {
		return 4
	}
	prev2, prev, cur := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(x); i++ {
		cur[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(y)]
}
