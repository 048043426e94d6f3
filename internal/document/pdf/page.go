package pdf

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
)

// What fpdf numbers alike in every document: the first page, its content, and
// the resources that all pages share.
const (
	pagesNumber     = 1
	resourcesNumber = 2
	pageNumber      = 3
	contentNumber   = 4
)

var contentsKey = regexp.MustCompile(`/Contents (\[[0-9 R]+\]|\d{1,9} 0 R)`)

// Overlay draws the only page of top over the first page of base.
func Overlay(base, top []byte) ([]byte, error) {
	f, err := Read(base)
	if err != nil {
		return nil, err
	}
	t, err := Read(top)
	if err != nil {
		return nil, err
	}
	by := f.size - 1
	objects := map[int]Object{}
	for n := range t.offsets {
		if n == pagesNumber || n == pageNumber || n == t.root || n == t.info {
			continue
		}
		o, err := t.Object(n)
		if err != nil {
			return nil, err
		}
		if n == contentNumber {
			rest, ok := bytes.CutPrefix(o.Dict, []byte("<<"))
			if !ok || o.Stream == nil {
				return nil, errors.New("laying a page over another: its content is no stream")
			}
			o.Dict = append(fmt.Appendf(nil, "<</Type /XObject /Subtype /Form /BBox [0 0 595.28 841.89] /Resources %d 0 R ", resourcesNumber), rest...)
		}
		objects[n+by] = o.moved(by)
	}
	form, draw := contentNumber+by, t.size+by
	// The page's own graphics state may be left changed at its end: its content is
	// bracketed (ISO 32000-1, 8.4.2).
	objects[draw] = stream("Q q /Seal Do Q")
	objects[draw+1] = stream("q")
	resources, err := f.Object(resourcesNumber)
	if err != nil {
		return nil, err
	}
	if bytes.Count(resources.Dict, []byte("/XObject <<")) != 1 {
		return nil, errors.New("laying a page over another: the resources have no place for it")
	}
	objects[resourcesNumber] = Object{Dict: bytes.Replace(resources.Dict, []byte("/XObject <<"), fmt.Appendf(nil, "/XObject <<\n/Seal %d 0 R", form), 1)}
	page, err := f.Object(pageNumber)
	if err != nil {
		return nil, err
	}
	m := contentsKey.FindSubmatch(page.Dict)
	if m == nil {
		return nil, errors.New("laying a page over another: the first page has no content")
	}
	objects[pageNumber] = Object{Dict: bytes.Replace(page.Dict, m[0], fmt.Appendf(nil, "/Contents [%d 0 R %s %d 0 R]", draw+1, bytes.Trim(m[1], "[]"), draw), 1)}
	return f.Append(objects), nil
}

func stream(s string) Object {
	return Object{Dict: fmt.Appendf(nil, "<</Length %d>>", len(s)), Stream: []byte(s)}
}
