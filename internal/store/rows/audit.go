package rows

import "github.com/dime-bus/dime/internal/store"

// auditPage is how many rows are read at a time: a reader holds up nobody for long.
const auditPage = 1000

// EachAudit reads an audit in pages and hands on each row.
func EachAudit(page func(after int64, max int) ([]store.AuditRow, error), row func(store.AuditRow) error) error {
	for after := int64(-1 << 62); ; { // a row in front of the first was put there by hand, and must be seen
		rs, err := page(after, auditPage)
		if err != nil {
			return err
		}
		for _, r := range rs {
			if err := row(r); err != nil {
				return err
			}
			after = r.Seq
		}
		if len(rs) < auditPage {
			return nil
		}
	}
}
