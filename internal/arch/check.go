package arch

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Violation is a rule broken at a place.
type Violation struct {
	File    string // slash-separated, relative to the root
	Line    int
	Rule    string
	Message string // what is wrong and what to do
}

func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: %s [%s]", v.File, v.Line, v.Message, v.Rule)
}

type file struct {
	path string
	test bool
	ast  *ast.File
	fset *token.FileSet
	size int
}

// Check reads every file below root and returns what breaks a rule, ordered by
// file and line. It skips .git, testdata, bin and folders of tools.
func Check(root fs.FS) ([]Violation, error) {
	var vs []Violation
	packages := map[string][]*file{}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (name == ".git" || name == "testdata" || name == "node_modules" || p == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := fs.ReadFile(root, p)
		if err != nil {
			return fmt.Errorf("reading %s: %w", p, err)
		}
		if isText(b) && p != "go.sum" && p != "LICENSE" {
			vs = append(vs, words(p, b)...)
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		f, err := parse(p, b)
		if err != nil {
			return err
		}
		packages[path.Dir(p)] = append(packages[path.Dir(p)], f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for dir, files := range packages {
		vs = append(vs, checkPackage(dir, files)...)
	}
	slices.SortFunc(vs, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule))
	})
	return vs, nil
}

func parse(p string, b []byte) (*file, error) {
	f := &file{path: p, test: strings.HasSuffix(p, "_test.go"), fset: token.NewFileSet(), size: codeLines(b)}
	var err error
	if f.ast, err = parser.ParseFile(f.fset, p, b, parser.ParseComments); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", p, err)
	}
	return f, nil
}

// codeLines counts the lines that hold code: comments and empty lines are free,
// so that nobody saves on them.
func codeLines(src []byte) int {
	fset := token.NewFileSet()
	tf := fset.AddFile("", fset.Base(), len(src))
	var s scanner.Scanner
	s.Init(tf, src, nil, 0)
	count, last := 0, 0
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return count
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue // inserted at the end of a line
		}
		from := max(tf.Line(pos), last+1)
		to := tf.Line(pos) + strings.Count(lit, "\n")
		if to > last {
			count += to - from + 1
			last = to
		}
	}
}

func (f *file) at(n ast.Node, rule, format string, args ...any) Violation {
	return Violation{f.path, f.fset.Position(n.Pos()).Line, rule, fmt.Sprintf(format, args...)}
}

func checkPackage(dir string, files []*file) []Violation {
	var vs []Violation
	pkg := strings.TrimPrefix(dir, ".")
	layer := layerOf(pkg)
	lines := 0
	vars := packageVars(files)
	for _, f := range files {
		if layer == nil {
			vs = append(vs, f.at(f.ast.Name, "folder", "package %s lies in no folder of the architecture; move it, or give the folder a layer in internal/arch/rules.go", pkg))
		} else {
			vs = append(vs, f.imports(pkg, layer)...)
		}
		if f.size > MaxFileLines {
			vs = append(vs, Violation{f.path, f.size, "file-size", fmt.Sprintf("%d lines of code, at most %d: split it by what it does", f.size, MaxFileLines)})
		}
		if !f.test {
			lines += f.size
			vs = append(vs, f.state(pkg, vars)...)
		}
	}
	if lines > MaxPackageLines {
		vs = append(vs, Violation{dir, 0, "package-size", fmt.Sprintf("%d lines of code without tests, at most %d: part of it is a package of its own", lines, MaxPackageLines)})
	}
	return vs
}

// imports checks the layer, the readers and the owners.
func (f *file) imports(pkg string, layer *Layer) []Violation {
	var vs []Violation
	for _, im := range f.ast.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err != nil {
			continue
		}
		if p != Module && !strings.HasPrefix(p, Module+"/") {
			if v, bad := f.owner(pkg, p, im); bad {
				vs = append(vs, v)
			}
			if p == "log" {
				vs = append(vs, f.at(im, "log", "imports log: take a *slog.Logger instead"))
			}
			continue
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, Module), "/")
		if rel == pkg { // an external test of its own package
			continue
		}
		may := under(rel, layer.May...) || f.test && under(rel, layer.Tests...)
		if !may {
			vs = append(vs, f.at(im, "import-"+layer.Name, "%s may not import %s: %s", pkg, rel, layer.Because))
			continue
		}
		for _, r := range readers {
			if under(rel, r.Package) && !under(pkg, r.By...) && !under(pkg, r.Package) && !(f.test && under(rel, layer.Tests...)) {
				vs = append(vs, f.at(im, "reader", "%s may not import %s: %s", pkg, rel, r.Because))
			}
		}
	}
	return vs
}

func (f *file) owner(pkg, library string, im *ast.ImportSpec) (Violation, bool) {
	if first, _, _ := strings.Cut(library, "/"); !strings.Contains(first, ".") {
		return Violation{}, false // the standard library
	}
	for _, o := range owners {
		if library != o.Library && !strings.HasPrefix(library, o.Library+"/") {
			continue
		}
		if under(pkg, o.By...) || measures(pkg) || o.Tests && (f.test || suite(pkg)) {
			return Violation{}, false
		}
		if len(o.By) == 0 {
			return f.at(im, "owner", "imports %s, which is for tests", library), true
		}
		return f.at(im, "owner", "imports %s, which %s owns: use what that package offers", library, strings.Join(o.By, " and ")), true
	}
	return f.at(im, "owner", "imports %s, which has no owner: add a row to internal/arch/rules.go, and a decision if it is more than a helper", library), true
}

// suite says whether a package is a contract's suite (storetest, clienttest):
// code of tests, though not in test files.
func suite(pkg string) bool { return strings.HasSuffix(pkg, "test") }

// packageVars are the names of the package-level variables outside tests.
func packageVars(files []*file) map[string]bool {
	names := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, s := range g.Specs {
					for _, n := range s.(*ast.ValueSpec).Names {
						names[n.Name] = true
					}
				}
			}
		}
	}
	delete(names, "_")
	return names
}

// state finds init functions, variables that can only be there to change, writes
// to package-level variables, and reads of the environment.
func (f *file) state(pkg string, vars map[string]bool) []Violation {
	var vs []Violation
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				vs = append(vs, f.mutable(d)...)
			}
		case *ast.FuncDecl:
			if d.Name.Name == "init" && d.Recv == nil {
				vs = append(vs, f.at(d, "init", "has an init function: make a constructor and call it in wire.go"))
			}
			vs = append(vs, f.writes(d, vars)...)
		}
	}
	if !under(pkg, environmentReaders()...) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if ok && x.Name == "os" && x.Obj == nil && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Args"}, s.Sel.Name) {
				vs = append(vs, f.at(s, "environment", "reads os.%s: take the value as a parameter", s.Sel.Name))
			}
			return true
		})
	}
	return vs
}

// mutable finds package-level variables whose declaration alone says that they
// will change. A sync.Pool is only a cache of allocations, and a variable with an
// embed directive is filled by the compiler.
func (f *file) mutable(d *ast.GenDecl) []Violation {
	var vs []Violation
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		if v.Names[0].Name == "_" || embedded(d.Doc) || embedded(v.Doc) {
			continue
		}
		what := typeName(v.Type)
		if len(v.Values) == 1 {
			switch x := v.Values[0].(type) {
			case *ast.CompositeLit:
				what = typeName(x.Type)
			case *ast.CallExpr:
				if id, ok := x.Fun.(*ast.Ident); ok && (id.Name == "make" || id.Name == "new") {
					what = id.Name
				}
			}
		}
		locks := strings.HasPrefix(what, "sync.") && what != "sync.Pool" || strings.HasPrefix(what, "atomic.")
		empty := len(v.Values) == 0 && what != "sync.Pool"
		if locks || empty || what == "make" || what == "new" {
			vs = append(vs, f.at(v, "global", "%s is mutable package-level state: put it in a struct that its user owns", v.Names[0].Name))
		}
	}
	return vs
}

func embedded(c *ast.CommentGroup) bool {
	if c == nil {
		return false
	}
	return slices.ContainsFunc(c.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	}
	return ""
}

// writes finds assignments to package-level variables. The parser resolves names
// inside a file only: what it leaves unresolved, or resolves to a declaration at
// the top level, is the package's.
func (f *file) writes(d *ast.FuncDecl, vars map[string]bool) []Violation {
	var vs []Violation
	global := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
				continue
			case *ast.SelectorExpr:
				e = x.X
				continue
			case *ast.StarExpr:
				e = x.X
				continue
			case *ast.ParenExpr:
				e = x.X
				continue
			case *ast.Ident:
				if vars[x.Name] && (x.Obj == nil || f.ast.Scope.Objects[x.Name] == x.Obj) {
					vs = append(vs, f.at(x, "global", "changes the package-level variable %s: put it in a struct that its user owns", x.Name))
				}
			}
			return
		}
	}
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, l := range n.Lhs {
					global(l)
				}
			}
		case *ast.IncDecStmt:
			global(n.X)
		}
		return true
	})
	return vs
}

// words finds what may not stand in the tree. The list is spelt in two halves so
// that it does not find itself.
func words(p string, b []byte) []Violation {
	var vs []Violation
	for i, line := range bytes.Split(b, []byte("\n")) {
		for _, w := range [...]struct{ word, why string }{
			{"TO" + "DO", "finish it, or say what is missing where a user would look for it"},
			{"FIX" + "ME", "fix it"},
			{"XX" + "X:", "fix it"},
			{"for " + "now", "say what holds, and until when"},
			{"/ro" + "ot/", "a path of one machine"},
			{"/wo" + "rk/", "a path of one machine"},
			{"/tm" + "p/", "a path of one machine; take a folder from the caller, or t.TempDir"},
			{"proxy.gol" + "ang.org", "name the module, not the host that serves it"},
			{"registry.np" + "mjs", "name the package, not the host that serves it"},
			{"py" + "pi.org", "name the package, not the host that serves it"},
			{"deb.deb" + "ian.org", "name the package, not the host that serves it"},
		} {
			if has(string(line), w.word) {
				vs = append(vs, Violation{p, i + 1, "word", fmt.Sprintf("holds %q: %s", w.word, w.why)})
			}
		}
	}
	return vs
}

// has says whether line holds word, not as a part of a longer word.
func has(line, word string) bool {
	for from := 0; ; {
		i := strings.Index(line[from:], word)
		if i < 0 {
			return false
		}
		i += from
		before, after := ' ', ' '
		if i > 0 {
			before = rune(line[i-1])
		}
		if j := i + len(word); j < len(line) {
			after = rune(line[j])
		}
		letters := unicode.IsLetter(rune(word[0]))
		end := unicode.IsLetter(rune(word[len(word)-1]))
		inWord := letters && unicode.IsLetter(before) || end && unicode.IsLetter(after)
		inPath := !letters && (unicode.IsLetter(before) || before == '.' || before == '}')
		if !inWord && !inPath {
			return true
		}
		from = i + len(word)
	}
}

func isText(b []byte) bool { return bytes.IndexByte(b[:min(len(b), 8000)], 0) < 0 }
