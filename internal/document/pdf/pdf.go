// Package pdf appends incremental updates to the documents that certificate lays
// out (ISO 32000-1, 7.5.6): the bytes that are there stay, new and changed objects
// follow with a cross-reference section of their own. It reads what its own writer
// and go-pdf/fpdf write, classic cross-reference tables and direct lengths, and
// refuses everything else.
package pdf

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// maxObjects bounds what a cross-reference table may claim.
const maxObjects = 10_000

// File is a document that was read.
type File struct {
	bytes   []byte
	offsets map[int]int
	size    int // one more than the highest object number
	xref    int // offset of the newest section
	root    int
	info    int
	id      string // the first, lasting half of /ID in hex; "" if the file has none
}

// Object is what lies between `obj` and `endobj`.
type Object struct {
	Dict   []byte
	Stream []byte // as stored; nil if it has none
}

var (
	sizeKey   = regexp.MustCompile(`/Size (\d{1,9})`)
	rootKey   = regexp.MustCompile(`/Root (\d{1,9}) 0 R`)
	infoKey   = regexp.MustCompile(`/Info (\d{1,9}) 0 R`)
	prevKey   = regexp.MustCompile(`/Prev (\d{1,9})`)
	idKey     = regexp.MustCompile(`/ID \[<([0-9a-f]{32})>`)
	lengthKey = regexp.MustCompile(`/Length (\d{1,9})`)
	reference = regexp.MustCompile(`\b(\d{1,9}) 0 R\b`)
)

func number(re *regexp.Regexp, b []byte) (int, bool) {
	m := re.FindSubmatch(b)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil
}

// Read follows the cross-reference sections from the newest to the oldest.
func Read(b []byte) (*File, error) {
	f, err := read(b)
	if err != nil {
		return nil, fmt.Errorf("reading a PDF: %w", err)
	}
	return f, nil
}

func read(b []byte) (*File, error) {
	if !bytes.HasPrefix(b, []byte("%PDF-1.")) {
		return nil, errors.New("it does not begin with %PDF-1")
	}
	i := bytes.LastIndex(b, []byte("startxref\n"))
	if i < 0 {
		return nil, errors.New("it has no startxref")
	}
	line, _, _ := bytes.Cut(b[i+len("startxref\n"):], []byte("\n"))
	at, err := strconv.Atoi(string(line))
	if err != nil {
		return nil, errors.New("its startxref is no number")
	}
	f := &File{bytes: b, offsets: map[int]int{}, xref: at}
	for first := true; ; first = false {
		trailer, err := f.section(at)
		if err != nil {
			return nil, err
		}
		if first {
			var ok [3]bool
			f.size, ok[0] = number(sizeKey, trailer)
			f.root, ok[1] = number(rootKey, trailer)
			f.info, ok[2] = number(infoKey, trailer)
			if ok != [3]bool{true, true, true} || f.size > maxObjects {
				return nil, errors.New("its trailer lacks Size, Root or Info, or has too many objects")
			}
			if m := idKey.FindSubmatch(trailer); m != nil {
				f.id = string(m[1])
			}
		}
		prev, ok := number(prevKey, trailer)
		if !ok {
			break
		}
		if prev >= at { // so that the walk ends
			return nil, errors.New("its sections do not lead backwards")
		}
		at = prev
	}
	return f, nil
}

// section reads one table and returns its trailer. A newer entry stays.
func (f *File) section(at int) ([]byte, error) {
	if at < 0 || at >= len(f.bytes) || !bytes.HasPrefix(f.bytes[at:], []byte("xref\n")) {
		return nil, fmt.Errorf("no cross-reference table at %d", at)
	}
	rest := f.bytes[at+len("xref\n"):]
	for !bytes.HasPrefix(rest, []byte("trailer\n")) {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		var first, count int
		if _, err := fmt.Sscanf(string(line), "%d %d", &first, &count); err != nil || !ok || first < 0 || count < 1 || first > maxObjects || count > maxObjects-first {
			return nil, errors.New("a subsection's head is malformed")
		}
		// An entry has 20 bytes (ISO 32000-1, 7.5.4).
		if len(after) < 20*count {
			return nil, errors.New("a cross-reference table is cut off")
		}
		for i := range count {
			e := after[20*i : 20*i+20]
			offset, err := strconv.ParseUint(string(e[:10]), 10, 63)
			if err != nil || e[17] != 'n' && e[17] != 'f' {
				return nil, errors.New("a cross-reference entry is malformed")
			}
			if _, newer := f.offsets[first+i]; !newer && e[17] == 'n' {
				f.offsets[first+i] = int(offset) //nolint:gosec // 63 bits, says ParseUint
			}
		}
		rest = after[20*count:]
	}
	end := bytes.Index(rest, []byte("startxref"))
	if end < 0 {
		return nil, errors.New("a trailer is cut off")
	}
	return rest[:end], nil
}

// Root and Size are the catalog's number and the next free one.
func (f *File) Root() int { return f.root }

// Size is the next free object number.
func (f *File) Size() int { return f.size }

// Object returns object n.
func (f *File) Object(n int) (Object, error) {
	at, ok := f.offsets[n]
	head := fmt.Appendf(nil, "%d 0 obj\n", n)
	if !ok || at < 0 || at >= len(f.bytes) || !bytes.HasPrefix(f.bytes[at:], head) {
		return Object{}, fmt.Errorf("reading a PDF: object %d is not where the table says", n)
	}
	body := f.bytes[at+len(head):]
	end := bytes.Index(body, []byte("\nendobj"))
	stream := bytes.Index(body, []byte("\nstream\n"))
	if stream < 0 || end >= 0 && end < stream {
		if end < 0 {
			return Object{}, fmt.Errorf("reading a PDF: object %d does not end", n)
		}
		return Object{Dict: body[:end]}, nil
	}
	length, ok := number(lengthKey, body[:stream])
	from := stream + len("\nstream\n")
	if !ok || length > len(body)-from || !bytes.HasPrefix(body[from+length:], []byte("\nendstream")) {
		return Object{}, fmt.Errorf("reading a PDF: the stream of object %d has another length than it says", n)
	}
	return Object{Dict: body[:stream], Stream: body[from : from+length]}, nil
}

// Encode writes what stands between `obj` and `endobj`.
func (o Object) Encode() []byte {
	b := slices.Clone(o.Dict)
	if o.Stream != nil {
		b = append(b, "\nstream\n"...)
		b = append(b, o.Stream...)
		b = append(b, "\nendstream"...)
	}
	return b
}

// moved is o with all references by a distance higher.
func (o Object) moved(by int) Object {
	o.Dict = reference.ReplaceAllFunc(o.Dict, func(r []byte) []byte {
		n, _ := strconv.Atoi(string(r[:bytes.IndexByte(r, ' ')])) // 9 digits at most, says the pattern
		return fmt.Appendf(nil, "%d 0 R", n+by)
	})
	return o
}

// Append returns the file with objects added or replaced.
func (f *File) Append(objects map[int]Object) []byte {
	var b bytes.Buffer
	b.Write(f.bytes)
	if !bytes.HasSuffix(f.bytes, []byte("\n")) {
		b.WriteByte('\n')
	}
	numbers := make([]int, 0, len(objects))
	for n := range objects {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	start, offsets, size := b.Len(), make([]int, len(numbers)), f.size
	for i, n := range numbers {
		offsets[i] = b.Len()
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", n, objects[n].Encode())
		size = max(size, n+1)
	}
	id := f.id
	if id == "" {
		sum := sha256.Sum256(f.bytes)
		id = fmt.Sprintf("%x", sum[:16])
	}
	change := sha256.Sum256(b.Bytes()[start:])
	xref := b.Len()
	b.WriteString("xref\n")
	for i := 0; i < len(numbers); {
		j := i + 1
		for j < len(numbers) && numbers[j] == numbers[j-1]+1 {
			j++
		}
		fmt.Fprintf(&b, "%d %d\n", numbers[i], j-i)
		for ; i < j; i++ {
			fmt.Fprintf(&b, "%010d 00000 n \n", offsets[i])
		}
	}
	fmt.Fprintf(&b, "trailer\n<<\n/Size %d\n/Root %d 0 R\n/Info %d 0 R\n/Prev %d\n/ID [<%s><%x>]\n>>\nstartxref\n%d\n%%%%EOF\n",
		size, f.root, f.info, f.xref, id, change[:16], xref)
	return b.Bytes()
}
