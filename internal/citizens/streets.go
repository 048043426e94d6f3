package citizens

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// directory is where the city's street directory keeps its rows.
const directory = "config/connectors/stradario.state.yaml"

// Addresses reads those of the city's street directory; none where the city has
// no such system.
func Addresses(fsys fs.FS) ([]Address, error) {
	b, err := fs.ReadFile(fsys, directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the street directory: %w", err)
	}
	n, ps := yamldoc.Parse(directory, b)
	if len(ps) > 0 {
		return nil, fmt.Errorf("reading the street directory: %s", ps[0])
	}
	rows := n
	for _, key := range []string{"collections", "addresses", "rows"} {
		if rows = rows.Get(key); rows == nil {
			return nil, nil
		}
	}
	var as []Address
	for _, row := range rows.Items {
		text := func(key string) string {
			if v := row.Get(key); v != nil {
				return v.Text
			}
			return ""
		}
		as = append(as, Address{ID: text("id"), Label: text("label"), Street: text("street_name"), Number: text("number"),
			Sestiere: text("sestiere"), PostalCode: text("postal_code"), Municipality: text("municipality")})
	}
	return as, nil
}
