package language

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// manyRoutes is the base with n copies of the whole example.
func manyRoutes(b testing.TB, n int) fstest.MapFS {
	city := baseCity(b)
	src := string(city["routes/residence-certificate.yaml"].Data)
	for i := range n {
		s := strings.Replace(src, "route: residence-certificate", fmt.Sprintf("route: copy-%d", i), 1)
		s = strings.Replace(s, "/v1/certificates/residence", fmt.Sprintf("/v1/copies/n%d", i), 1)
		city[fmt.Sprintf("routes/copy-%d.yaml", i)] = &fstest.MapFile{Data: []byte(s)}
	}
	return city
}

func BenchmarkLint1000(b *testing.B) {
	city, o := manyRoutes(b, 1000), baseOptions(b)
	for b.Loop() {
		if _, ps := Load(city, o); len(ps) > 0 {
			b.Fatal(ps[0])
		}
	}
}

func BenchmarkParse1000(b *testing.B) {
	city := manyRoutes(b, 1000)
	for b.Loop() {
		for name, f := range city {
			if strings.HasPrefix(name, "routes/") {
				yamldoc.Parse(name, f.Data)
			}
		}
	}
}

func BenchmarkReloadOneOf1000(b *testing.B) {
	city, o := manyRoutes(b, 1000), baseOptions(b)
	prev, _ := Load(city, o)
	i := 0
	for b.Loop() {
		i++
		f := city["routes/copy-7.yaml"]
		f.Data = []byte(strings.Replace(string(f.Data), "version: 3", fmt.Sprintf("version: %d3", i), 1))
		now, ps := Reload(prev, city, o)
		if len(ps) > 0 {
			b.Fatal(ps[0])
		}
		prev = now
	}
}
