//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pageLimit is how long all commands of one document may take.
const pageLimit = 20 * time.Minute

// needs are the words needs:WORD behind ```sh, with what tells whether a block of
// that kind can be run here.
var needs = map[string]func() error{
	"jq":         installed("jq"),
	"npm":        installed("npm"),
	"python3":    installed("python3"),
	"vegeta":     installed("vegeta"),
	"kubernetes": installed("kubectl"),
	"postgres":   func() error { return onPath("/usr/lib/postgresql/*/bin/initdb", "initdb") },
	"k6":         func() error { return nil }, // make k6 builds it
}

func installed(program string) func() error {
	return func() error { return onPath("", program) }
}

func onPath(glob, program string) error {
	if found, _ := filepath.Glob(glob); len(found) > 0 {
		return nil
	}
	_, err := exec.LookPath(program)
	return err
}

// TestDocBlocks runs every sh block of every document, in order, in a clean
// clone: a comment "exit N" after a command says which exit code it must end
// with, 0 if there is none. README and the tutorial have a clone of their own, in
// which nothing was built before; the others share one with bin/statequake, found
// in PATH. What is marked as slow runs with STATEQUAKE_SLOW=1; what a block needs
// and is not there skips the block. make test is left to who runs this test.
//
// One document: go test -tags e2e -run 'TestDocBlocks/docs/tutorial.md' ./cmd/statequake
func TestDocBlocks(t *testing.T) {
	shared, n := "", 0
	folder := t.TempDir()
	for _, p := range readPages(t) {
		script := blockScript(t, p)
		if script.commands == 0 {
			continue
		}
		n += script.commands
		t.Run(p.path, func(t *testing.T) {
			for _, why := range script.skipped {
				t.Log(why)
			}
			if p.path == "README.md" || p.path == "docs/tutorial.md" {
				script.run(t, cleanClone(t, t.TempDir()))
				return
			}
			if shared == "" {
				shared = cleanClone(t, folder)
				if out, err := inClone(shared, exec.Command("make", "build")).CombinedOutput(); err != nil {
					t.Fatalf("make build: %v\n%s", err, out)
				}
			}
			script.run(t, shared)
		})
	}
	if n < 30 {
		t.Errorf("%d commands; they are not run", n)
	}
}

func cleanClone(t *testing.T, folder string) string {
	t.Helper()
	clone := filepath.Join(folder, "statequake")
	if out, err := exec.Command("git", "clone", "--quiet", repository, clone).CombinedOutput(); err != nil {
		t.Fatalf("clone: %v\n%s", err, out)
	}
	return clone
}

func inClone(clone string, cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = clone
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(clone, "bin")+":"+os.Getenv("PATH"))
	return cmd
}

// script is what a document has a shell do.
type script struct {
	text     strings.Builder
	commands int
	places   []string // FILE:LINE: command, by number
	skipped  []string
}

// blockScript makes one shell script of the sh blocks of a document.
func blockScript(t *testing.T, p page) *script {
	t.Helper()
	s := &script{}
	for _, b := range p.blocks {
		if len(b.info) == 0 || b.info[0] != "sh" {
			continue
		}
		if why := unable(t, p, b); why != "" {
			s.skipped = append(s.skipped, fmt.Sprintf("%s:%d: skipped: %s", p.path, b.line, why))
			continue
		}
		lines := strings.Split(strings.TrimRight(b.text, "\n"), "\n")
		for i := 0; i < len(lines); i++ {
			first, command := i, lines[i]
			for strings.HasSuffix(lines[i], `\`) && i+1 < len(lines) {
				i++
				command += "\n" + lines[i]
			}
			if strings.Contains(command, "<<'EOF'") {
				for i++; i < len(lines); i++ {
					command += "\n" + lines[i]
					if lines[i] == "EOF" {
						break
					}
				}
			}
			s.add(fmt.Sprintf("%s:%d: %s", p.path, b.line+first, lines[first]), command)
		}
	}
	return s
}

// unable says why a block cannot be run here.
func unable(t *testing.T, p page, b block) string {
	t.Helper()
	for _, word := range b.info[1:] {
		need, isNeed := strings.CutPrefix(word, "needs:")
		switch {
		case word == "slow":
			if os.Getenv("STATEQUAKE_SLOW") != "1" {
				return "slow: STATEQUAKE_SLOW=1 runs it"
			}
		case !isNeed || needs[need] == nil:
			t.Fatalf("%s:%d: unknown mark %q", p.path, b.line-1, word)
		default:
			if err := needs[need](); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}

// add appends a command. A run that the machine had no time for proves nothing
// either way, and is made again, at most twice.
func (s *script) add(place, command string) {
	bare := strings.TrimSpace(command)
	if bare == "" || strings.HasPrefix(bare, "#") || strings.HasPrefix(bare, "make test") {
		return
	}
	want := 0
	if m := exitPattern.FindStringSubmatch(command); m != nil {
		want, _ = strconv.Atoi(m[1])
	}
	s.places = append(s.places, place)
	fmt.Fprintf(&s.text, "printf '\\n@@ begin %d %%s\\n' $(date +%%s.%%N)\n", s.commands)
	s.commands++
	if again, out := repeatable(command); again {
		fmt.Fprintf(&s.text, `for try in 1 2 3; do
{
%s
} >"$LOG" 2>&1
rc=$?; cat "$LOG"
if [ $rc = 2 ] && [ %d != 2 ] && grep -qE "did not get to run|generator's send lag" "$LOG"; then
	echo "@@ again: the machine had no time for the load generator"
	[ -z "%s" ] || rm -rf "%[3]s"
else break; fi
done
`, command, want, out)
	} else {
		fmt.Fprintf(&s.text, "%s\nrc=$?\n", command)
	}
	fmt.Fprintf(&s.text, "printf '\\n@@ end %%d %%s\\n' $rc $(date +%%s.%%N)\n[ $rc = %d ] || exit 1\n", want)
}

// repeatable reports whether a command makes runs, and where, if it says so.
func repeatable(command string) (again bool, out string) {
	calls := commandLines(command)
	switch {
	case strings.HasPrefix(command, "make run"):
		return true, ""
	case len(calls) != 1 || !slices.Contains([]string{"run", "ab", "load"}, calls[0].words[1]) || strings.Contains(command, "|"):
		return false, ""
	}
	if i := slices.Index(calls[0].words, "--out"); i > 0 {
		out = calls[0].words[i+1]
	}
	return true, out
}

// run runs the script in a clone.
func (s *script) run(t *testing.T, clone string) {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(context.Background(), pageLimit)
	defer cancel()
	cmd := inClone(clone, exec.CommandContext(ctx, "bash", "-c", s.text.String()))
	cmd.Env = append(cmd.Env, "LOG="+log.Name()+".command")
	// A file and no pipe: what a block leaves running would keep that open.
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	began := time.Now()
	err = cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the document has started and not ended
	}
	text, readErr := os.ReadFile(log.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	parts := strings.Split(string(text), "\n@@ begin ")
	for _, part := range parts[1:] {
		head, rest, _ := strings.Cut(part, "\n")
		words := strings.Fields(head)
		n, _ := strconv.Atoi(words[0])
		start, _ := strconv.ParseFloat(words[1], 64)
		_, end, ok := strings.Cut(rest, "\n@@ end ")
		if !ok {
			t.Errorf("%s: did not end\n%s", s.places[n], rest)
			continue
		}
		if endWords := strings.Fields(end); len(endWords) == 2 {
			stop, _ := strconv.ParseFloat(endWords[1], 64)
			t.Logf("%6.1f s, exit %s: %s", stop-start, endWords[0], s.places[n])
		}
	}
	t.Logf("%d of %d commands in %v", len(parts)-1, s.commands, time.Since(began).Round(time.Second))
	if err != nil || len(parts)-1 != s.commands {
		last := parts[len(parts)-1]
		t.Errorf("%s: %v\n%s", s.places[max(len(parts)-2, 0)], errors.Join(err, ctx.Err()), last)
	}
}
