package statequake_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ours is the prefix of every package of this module.
const ours = "statequake/"

// rule says what the packages below one folder may import of this module.
// Folders are without the module's name; "runtime" covers "runtime/core" too,
// "runtime/entity." only itself.
type rule struct {
	folder string
	may    []string
	reason string
}

// rules holds for every package the first rule whose folder covers it.
var rules = []rule{
	{"history/model", nil,
		"models are shared by workloads and checkers and stand on their own"},
	{"history", nil,
		"history is the format of a run directory: any tool can read it with the standard library and a Zstandard decoder"},
	{"runtime", []string{"runtime"},
		"the runtime is a system under test: it does not know the harness that judges it"},
	{"loadgen/k6", []string{"loadgen", "history.", "fixtures/reference.", "chaos/hand."},
		"the extension of k6 puts the load generator together with what it can reach, in a program of its own"},
	{"loadgen", []string{"loadgen.", "loadgen/script.", "history"},
		"load, faults and fixtures know the history, not each other: adapters satisfy small interfaces of their consumers"},
	{"chaos", []string{"chaos", "history."},
		"load, faults and fixtures know the history, not each other: adapters satisfy small interfaces of their consumers"},
	{"fixtures", []string{"fixtures", "history.", "runtime/entity"},
		"load, faults and fixtures know the history, not each other, and a service that used the checkers' models would judge itself"},
	{"reports", []string{"reports", "history"},
		"a report is made from the run directory alone, so that any old run can be judged again"},
	{"scenarios", []string{"scenarios", "loadgen", "chaos", "fixtures", "history"},
		"a scenario plans and runs; judging is left to reports"},
	{"cmd", []string{"cmd", "scenarios", "loadgen", "chaos", "fixtures", "runtime", "history", "reports"},
		"nothing imports scripts"},
	{"scripts", []string{"scripts", "scenarios", "chaos.", "history", "reports", "fixtures/sandbox/leftover"},
		"scripts drive the program from outside"},
	{"examples", nil,
		"an example is a system of somebody who has never seen this code"},
}

// reserved are libraries that one folder alone may import directly.
var reserved = []struct{ library, folder, reason string }{
	{"k8s.io/client-go", "chaos/mesh", "Kubernetes clients stay where Kubernetes is"},
	{"sigs.k8s.io/controller-runtime", "chaos/mesh", "Kubernetes clients stay where Kubernetes is"},
	{"go.k6.io", "loadgen/k6", "k6 is AGPL-3.0 and stays in a module of its own"},
	{"github.com/spf13/cobra", "cmd", "only the command line parses the command line"},
	{"go.etcd.io", "runtime", "only the reference runtime has a store"},
	{"github.com/jackc", "runtime", "only the reference runtime has a store"},
}

// pure are folders that import nothing but the standard library and, directly,
// the libraries named. For a package the first one that covers it holds.
var pure = []struct {
	folder string
	but    []string
}{
	{"history/model", nil},
	{"history", []string{"github.com/klauspost/compress/zstd"}},
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestImports(t *testing.T) {
	packages, err := list("./...")
	if err != nil {
		t.Fatal(err)
	}
	standard := map[string]bool{}
	for _, p := range packages {
		standard[p.ImportPath] = p.Standard
	}
	checked := 0
	for _, p := range packages {
		if !strings.HasPrefix(p.ImportPath, ours) {
			continue
		}
		checked++
		for _, imported := range p.Imports {
			if reason := forbidden(p.ImportPath, imported, standard[imported]); reason != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, reason)
			}
		}
	}
	if checked < 5 {
		t.Fatalf("go list shows %d packages of %s; the rules are not checked", checked, ours)
	}
}

// The module of k6 is not among the packages of this one, so its imports are read
// from its files: no library need be there for that.
func TestImportsOfK6(t *testing.T) {
	checked := 0
	err := filepath.WalkDir("loadgen/k6", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		checked++
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			first, _, _ := strings.Cut(imported, "/")
			standard := first != "statequake" && !strings.Contains(first, ".")
			if reason := forbidden(ours+filepath.ToSlash(filepath.Dir(path)), imported, standard); reason != "" {
				t.Errorf("%s imports %s: %s", path, imported, reason)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 5 {
		t.Fatalf("%d files in loadgen/k6; the rules are not checked", checked)
	}
}

// list returns the packages that match pattern and all that they depend on.
func list(pattern string) ([]pkg, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Standard", pattern)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, &stderr)
	}
	var packages []pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
}

// forbidden returns why importer must not import imported, or "" if it may.
func forbidden(importer, imported string, standard bool) string {
	if standard {
		return ""
	}
	from := strings.TrimPrefix(importer, ours)
	i := slices.IndexFunc(rules, func(r rule) bool { return covers(r.folder, from) })
	if i < 0 {
		return "no rule says what " + importer + " may import; add one to rules"
	}
	if to, ok := strings.CutPrefix(imported, ours); ok {
		if slices.ContainsFunc(rules[i].may, func(folder string) bool { return covers(folder, to) }) {
			return ""
		}
		return rules[i].reason
	}
	for _, p := range pure {
		if covers(p.folder, from) {
			if slices.Contains(p.but, imported) {
				return ""
			}
			return rules[i].reason
		}
	}
	for _, r := range reserved {
		if (imported == r.library || strings.HasPrefix(imported, r.library+"/")) && !covers(r.folder, from) {
			return r.reason
		}
	}
	return ""
}

// covers reports whether folder is name or one above it; a folder that ends in
// a dot covers itself only.
func covers(folder, name string) bool {
	if alone, ok := strings.CutSuffix(folder, "."); ok {
		return name == alone
	}
	return name == folder || strings.HasPrefix(name, folder+"/")
}

// The rules must be able to fail.
func TestForbidden(t *testing.T) {
	tests := []struct {
		from, to string
		ok       bool
	}{
		{"history", "github.com/klauspost/compress/zstd", true},
		{"history", "github.com/klauspost/compress/gzip", false},
		{"history", "github.com/HdrHistogram/hdrhistogram-go", false},
		{"history/model", "github.com/klauspost/compress/zstd", false},
		{"history", "statequake/history/model", false},
		{"history/model", "statequake/history", false},
		{"runtime/core", "statequake/runtime/journal", true},
		{"runtime/core", "statequake/history", false},
		{"loadgen", "statequake/history/model", true},
		{"loadgen", "statequake/chaos", false},
		{"loadgen", "go.k6.io/k6/metrics", false},
		{"loadgen", "statequake/loadgen/k6", false},
		{"loadgen/script", "statequake/loadgen", true},
		{"loadgen/script", "go.k6.io/k6/cmd", false},
		{"loadgen/k6", "go.k6.io/k6/metrics", true},
		{"loadgen/k6", "statequake/loadgen/script", true},
		{"loadgen/k6", "statequake/scenarios", false},
		{"loadgen/k6", "statequake/runtime/node", false},
		{"chaos", "statequake/history", true},
		{"chaos", "statequake/fixtures/reference", false},
		{"chaos", "k8s.io/client-go/kubernetes", false},
		{"chaos/mesh", "k8s.io/client-go/kubernetes", true},
		{"chaos", "github.com/chaos-mesh/chaos-mesh/api/v1alpha1", true},
		{"fixtures/reference", "statequake/history", true},
		{"fixtures/postgres", "github.com/jackc/pgx/v5", false},
		{"runtime/journal/postgres", "github.com/jackc/pgx/v5/pgxpool", true},
		{"fixtures/services", "statequake/history/model", false},
		{"fixtures/services", "statequake/runtime/entity", true},
		{"fixtures/services", "statequake/runtime/core", false},
		{"reports/check", "statequake/history/model", true},
		{"reports/check", "statequake/reports/stats", true},
		{"reports", "statequake/scenarios", false},
		{"scenarios", "statequake/chaos", true},
		{"scenarios", "statequake/reports/check", false},
		{"scenarios", "github.com/spf13/cobra", false},
		{"cmd/statequake", "statequake/runtime/node", true},
		{"cmd/statequake", "github.com/spf13/cobra", true},
		{"loadgen", "statequake/cmd/statequake/flags", false},
		{"examples/lossy", "statequake/history", false},
		{"elsewhere", "statequake/history", false},
	}
	for _, tt := range tests {
		if got := forbidden(ours+tt.from, tt.to, false) == ""; got != tt.ok {
			t.Errorf("%s imports %s: allowed %v, want %v", tt.from, tt.to, got, tt.ok)
		}
	}
}
