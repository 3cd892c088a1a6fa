// Package cmd_test holds the rules of the code base that no compiler checks: who may import whom, which dependencies
// there are, and how long files, functions' parameter lists and silences may be.
package cmd_test

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers is the order of the top-level folders: a folder imports itself and what stands to its right.
var layers = []string{"cmd", "server", "sessions", "engine", "kvcache", "hardware"}

// rules are the imports inside the module that are allowed, by the longest matching prefix of the importing package.
// A rule ending in "/..." allows the whole folder.
var rules = []struct {
	from    string
	allowed []string
}{
	{"cmd/hearth-bench", []string{"bench/load"}},
	{"cmd/sharedtest", nil},
	{"cmd", []string{"cmd/...", "server", "sessions/...", "engine/...", "kvcache/...", "hardware/...", "bench/..."}},
	{"bench/load", nil},
	{"bench/state", nil},
	{"bench/inproc", []string{"engine/...", "hardware/..."}},
	{"server", []string{"server/...", "sessions/...", "engine", "engine/api"}},
	{"sessions/archive", nil},
	{"sessions/database", nil},
	{"sessions/items", nil},
	{"sessions", []string{"sessions/...", "engine", "engine/..."}},
	{"engine/api", nil},
	{"engine/embedded", nil},
	{"engine/tokenizer", nil},
	{"engine/chat/jinja", nil},
	{"engine/chat", []string{"engine/chat/jinja"}},
	{"engine/sample", []string{"engine/api"}},
	{"engine/weights/checkpointtest", []string{"engine/weights"}},
	{"engine/weights", []string{"hardware/quant"}},
	{"engine/draft", []string{"engine/model", "engine/tokenizer", "kvcache", "hardware", "hardware/quant"}},
	{"engine/model", []string{"engine/weights", "kvcache", "hardware", "hardware/quant"}},
	{"engine", []string{"engine/...", "kvcache", "kvcache/disk", "hardware", "hardware/quant"}},
	{"kvcache/disk", nil},
	{"kvcache", []string{"kvcache/disk", "hardware"}},
	{"hardware/quant", nil},
	{"hardware/all", []string{"hardware", "hardware/cpu", "hardware/gorgonia"}},
	{"hardware", []string{"hardware", "hardware/quant", "hardware/devicetest"}},
}

// generators are programs that write code; they may import what they need of the folder they write into.
var generators = []string{"hardware/cpu/gen", "hardware/quant/gen"}

// dependencies are the modules that may be imported directly.
var dependencies = []string{
	"github.com/gin-gonic/gin", "github.com/ollama/ollama", "gorgonia.org/gorgonia", "gorgonia.org/tensor",
	"go4.org/unsafe/assume-no-moving-gc", "github.com/shirou/gopsutil/v3", "github.com/prometheus/client_golang",
	"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/klauspost/cpuid/v2", "golang.org/x/sys",
	"golang.org/x/text", "golang.org/x/term", "github.com/santhosh-tekuri/jsonschema/v6",
	"github.com/HdrHistogram/hdrhistogram-go", "modernc.org/sqlite", "github.com/coder/websocket",
	"github.com/klauspost/compress", "golang.org/x/crypto",
}

const (
	maxFileLines  = 800
	maxParameters = 6
)

type sourceFile struct {
	path      string // slash-separated, from the module's root
	pkg       string // folder
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
	fset      *token.FileSet
}

func TestLayout(t *testing.T) {
	for _, f := range parseModule(t) {
		checkImports(t, f)
		checkLength(t, f)
		if !f.generated {
			checkDeclarations(t, f)
		}
	}
}

// TestAssemblyLength holds assembly to the same length as Go, unless it is generated.
func TestAssemblyLength(t *testing.T) {
	walk(t, func(path string, data []byte) {
		if strings.HasSuffix(path, ".s") && !isGenerated(data) && bytes.Count(data, []byte("\n")) > maxFileLines {
			t.Errorf("%s has more than %d lines", path, maxFileLines)
		}
	})
}

func checkImports(t *testing.T, f *sourceFile) {
	for _, spec := range f.syntax.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		own, inside := strings.CutPrefix(path, "hearth/")
		switch {
		case f.test && inside:
			// Tests may compare with anything.
		case inside && !mayImport(f.pkg, own):
			t.Errorf("%s imports %s, which the layers do not allow", f.path, own)
		case !inside && strings.Contains(strings.Split(path, "/")[0], ".") && !isDependency(path):
			t.Errorf("%s imports %s, which is not in the list of dependencies", f.path, path)
		}
	}
}

func mayImport(from, to string) bool {
	if slices.Contains(generators, from) {
		return strings.HasPrefix(filepath.ToSlash(filepath.Dir(from))+"/", strings.SplitN(to, "/", 2)[0])
	}
	best, allowed := -1, []string(nil)
	for _, r := range rules {
		if (from == r.from || strings.HasPrefix(from, r.from+"/")) && len(r.from) > best {
			best, allowed = len(r.from), r.allowed
		}
	}
	for _, a := range allowed {
		folder, whole := strings.CutSuffix(a, "/...")
		if to == folder || whole && strings.HasPrefix(to, folder+"/") {
			return true
		}
	}
	return false
}

func isDependency(path string) bool {
	return slices.ContainsFunc(dependencies, func(d string) bool { return path == d || strings.HasPrefix(path, d+"/") })
}

func checkLength(t *testing.T, f *sourceFile) {
	if !f.generated && f.lines > maxFileLines {
		t.Errorf("%s has %d lines, the most is %d", f.path, f.lines, maxFileLines)
	}
}

func checkDeclarations(t *testing.T, f *sourceFile) {
	if !f.test && f.syntax.Name.Name != "main" && !strings.HasPrefix(f.pkg, "cmd") {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "os" && (sel.Sel.Name == "Getenv" || sel.Sel.Name == "LookupEnv" || sel.Sel.Name == "Environ") {
					t.Errorf("%s: os.%s outside cmd", f.fset.Position(sel.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
	for _, decl := range f.syntax.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			checkFunction(t, f, d)
		case *ast.GenDecl:
			if !f.test {
				checkDocumented(t, f, d)
			}
		}
	}
}

func checkFunction(t *testing.T, f *sourceFile, d *ast.FuncDecl) {
	at := f.fset.Position(d.Pos())
	if d.Recv == nil && d.Name.Name == "init" {
		t.Errorf("%s: func init", at)
	}
	if d.Body != nil && d.Type.Params.NumFields() > maxParameters {
		t.Errorf("%s: %s has %d parameters, the most is %d", at, d.Name.Name, d.Type.Params.NumFields(), maxParameters)
	}
	if !f.test && d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
		t.Errorf("%s: exported %s is not documented", at, d.Name.Name)
	}
}

// exportedReceiver reports whether a function can be reached from outside: a method of an unexported type cannot.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func checkDocumented(t *testing.T, f *sourceFile, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
				t.Errorf("%s: exported %s is not documented", f.fset.Position(s.Pos()), s.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
					t.Errorf("%s: exported %s is not documented", f.fset.Position(name.Pos()), name.Name)
				}
			}
		}
	}
}

// TestPackagesDocumented checks that every package but test-only ones says what it is for.
func TestPackagesDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range parseModule(t) {
		if !f.test {
			documented[f.pkg] = documented[f.pkg] || f.syntax.Doc != nil
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

func parseModule(t *testing.T) []*sourceFile {
	t.Helper()
	var files []*sourceFile
	walk(t, func(path string, data []byte) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, path, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, &sourceFile{
			path: path, pkg: filepath.ToSlash(filepath.Dir(path)), test: strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "hardware/devicetest/") || strings.HasPrefix(path, "cmd/sharedtest/"),
			generated: isGenerated(data), lines: bytes.Count(data, []byte("\n")), syntax: syntax, fset: fset,
		})
	})
	return files
}

// walk visits the module's own files; folders with a go.mod of their own are other modules.
func walk(t *testing.T, visit func(path string, data []byte)) {
	t.Helper()
	root := ".."
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			_, nested := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin" || nested == nil) {
				return filepath.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(name); ext != ".go" && ext != ".s" {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(rel), data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isGenerated recognises the line that generators write (go.dev/s/generatedcode).
func isGenerated(data []byte) bool {
	scan := bufio.NewScanner(bytes.NewReader(data))
	for i := 0; i < 5 && scan.Scan(); i++ {
		if strings.HasPrefix(scan.Text(), "// Code generated ") && strings.HasSuffix(scan.Text(), " DO NOT EDIT.") {
			return true
		}
	}
	return false
}

// TestTopLevel checks that the root holds what the project consists of, and nothing else.
func TestTopLevel(t *testing.T) {
	allowed := append(slices.Clone(layers), "bench", "go.mod", "go.sum", "Makefile", "README.md", "bin", "LICENSE")
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}
