package language

import "strings"

func segments(path string) []string { return strings.Split(strings.Trim(path, "/"), "/") }

func isParam(seg string) bool { return strings.HasPrefix(seg, "{") }

// pattern is the path with its parameters' names taken out.
func pattern(segs []string) string {
	var b strings.Builder
	for _, s := range segs {
		b.WriteByte('/')
		if isParam(s) {
			s = "{}"
		}
		b.WriteString(s)
	}
	return b.String()
}

// conflict says whether two paths of equal length both match some request while
// neither matches a part of what the other does.
func conflict(a, b []string) bool {
	aNarrower, bNarrower := false, false
	for i := range a {
		switch pa, pb := isParam(a[i]), isParam(b[i]); {
		case !pa && !pb && a[i] != b[i]:
			return false
		case pa && !pb:
			bNarrower = true
		case !pa && pb:
			aNarrower = true
		}
	}
	return aNarrower && bNarrower
}
