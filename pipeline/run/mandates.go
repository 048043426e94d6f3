package run

// mayActFor is caller.may_act_for: oneself, or whom the register of mandates says
// now. What the caller's token claims (acting_for, mandate) is never enough: a
// mandate may have ended since.
func (x *exec) mayActFor(taxCode string) (bool, error) {
	c := x.head.Caller
	switch {
	case c == nil || c.TaxCode == "" || taxCode == "":
		return false, nil
	case c.TaxCode == taxCode:
		return true, nil
	case x.e.cfg.Mandates == nil:
		return false, nil
	}
	x.mu.Lock()
	may, known := x.mandates[taxCode]
	x.mu.Unlock()
	if known {
		return may, nil
	}
	may, err := x.e.cfg.Mandates(x.ctx, c.TaxCode, taxCode, x.p.route.Purpose)
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mandates == nil {
		x.mandates = map[string]bool{}
	}
	x.mandates[taxCode] = may
	return may, nil
}
