package schema

// Hide returns a copy of v in which what t marks as personal is "***"; nil stays
// nil. Strict, everything of which no type is known is hidden too.
func (t *Type) Hide(v any, strict bool) any {
	switch {
	case v == nil:
		return nil
	case t == nil || t.Kind == Unknown || t.Kind == Any:
		if strict || t != nil && t.Personal {
			return masked
		}
		return v
	case t.Personal:
		return masked
	}
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, e := range x {
			ft := t.Extra
			if f := t.Fields[k]; f != nil {
				ft = f.Type
			}
			m[k] = ft.Hide(e, strict)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i := range x {
			l[i] = t.Items.Hide(x[i], strict)
		}
		return l
	}
	return v
}
