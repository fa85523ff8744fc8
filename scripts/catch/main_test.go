package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	starved = `{"verdict":"unknown","reasons":["The load generator did not get to run for 404ms (limit 250ms).","The load generator'"'"'s send lag p99 was 1s (limit 10ms)."]}`
	pass    = `{"verdict":"pass","checks":[{"violations":[]}]}`
)

func violation(kind string) string {
	return `{"verdict":"violation","checks":[{"violations":[{"kind":"stale-read"},{"kind":"` + kind + `","ops":["a"]}]}]}`
}

// fake writes a program that behaves like a run. With the bug and seed 2 it has
// this exit code and verdict, and with another seed it finds lost. Without the
// bug and with seed 2 it has the other verdict. What is starved is so the given
// number of times.
func fake(t *testing.T, code, planted, control, times string) string {
	t.Helper()
	return program(t, `
for dir in "$@"; do :; done # the last argument
verdict() {
	mkdir -p "$dir"; echo "$1" > "$dir/verdict.json"
	case "$1" in
	*"did not get to run"*)
		count="$0.count" # beside the run directory
		echo x >> "$count"
		[ $(wc -l < "$count") -le `+times+` ] || { echo "$2" > "$dir/verdict.json"; exit "$3"; } ;;
	esac
}
case "$*" in
*seed=2*system.bug=*) verdict '`+control+`' '`+pass+`' 0
	case '`+control+`' in *violation\"*) exit 1 ;; *unknown*) exit 2 ;; esac
	exit 0 ;;
*system.bug=*) verdict '`+pass+`'; exit 4 ;;
*seed=2*) verdict '`+planted+`' '`+violation("lost")+`' 1; exit `+code+` ;;
esac
verdict '`+violation("lost")+`'
exit 1`)
}

// program writes a shell script and returns its path.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "statequake")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCatch(t *testing.T) {
	other := `{"verdict":"unknown","reasons":["The evidence of fault a is not proven."]}`
	tests := []struct {
		name          string
		code, planted string // with the bug and seed 2
		control       string // without
		times         string // that a starved run is so
		exit          int
		want          []string // in the output
		kept          int      // run directories
	}{
		{"caught", "1", violation("lost"), pass, "0", 0, []string{
			"no-fence  lost      3/3     3/3 ",
			"mutation score: 1 of 1 bugs were caught by their own kind in each of 3 runs\n",
			"false alarms: 0 of 3 control runs\nno unknown runs\n6 of 6 runs as expected, 0 made again, 2 at a time",
		}, 0},
		{"other kind", "1", violation("phantom"), pass, "0", 1, []string{"lost      2/3     3/3", "MISSED: found phantom, stale-read", "mutation score: 0 of 1 bugs"}, 1},
		{"not caught", "0", pass, pass, "0", 1, []string{"lost      2/3     3/3", "MISSED: found nothing"}, 1},
		{"unknown", "2", other, pass, "0", 2, []string{"lost      2/3     3/3", "mutation score: 0 of 1 bugs", "unknown runs: 1 of 6; a run may have several causes: 1 because the evidence of a fault is inconclusive", "5 of 6 runs as expected, 0 made again"}, 1},
		{"control not clean", "1", violation("lost"), violation("lost"), "0", 1, []string{"lost      3/3     2/3", "FALSE ALARM", "false alarms: 1 of 3", "statequake run bugs/no-fence --set seed=2 --set system.bug=\n"}, 1},
		{"starved once", "2", starved, pass, "1", 0, []string{"lost      3/3     3/3", "is made again", "bug seed 2 was made again, found lost, stale-read (repetition 1 of 2)", "unknown runs: 1 of 7; a run may have several causes: 1 because the load generator was starved\n6 of 6 runs as expected, 1 made again"}, 0},
		{"starved for ever", "2", starved, pass, "99", 2, []string{"lost      2/3     3/3", "unknown runs: 3 of 8; a run may have several causes: 3 because the load generator was starved\n5 of 6 runs as expected, 2 made again"}, 0},
		{"starved control", "1", violation("lost"), starved, "99", 2, []string{"lost      3/3     2/3", "false alarms: 0 of 5 control runs"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			c := catch{n: 3, parallel: 2, binary: fake(t, tt.code, tt.planted, tt.control, tt.times), dir: t.TempDir(), seed: 1}
			code, err := c.run(context.Background(), []string{"no-fence"}, &out)
			if err != nil {
				t.Fatal(err)
			}
			if code != tt.exit {
				t.Errorf("exit code %d, want %d:\n%s", code, tt.exit, &out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in:\n%s", want, &out)
				}
			}
			kept, err := filepath.Glob(filepath.Join(c.dir, "*", "verdict.json"))
			if err != nil {
				t.Fatal(err)
			}
			if len(kept) != tt.kept {
				t.Errorf("run directories kept: %v, want %d", kept, tt.kept)
			}
			if table, err := os.ReadFile(filepath.Join(c.dir, "table.md")); err != nil || !strings.Contains(string(table), "| no-fence | lost |") {
				t.Errorf("table.md: %v\n%s", err, table)
			}
		})
	}
}

func TestCatchThatCannotRun(t *testing.T) {
	c := catch{n: 1, parallel: 1, binary: "/does/not/exist", dir: t.TempDir()}
	if _, err := c.run(context.Background(), nil, &bytes.Buffer{}); err == nil {
		t.Error("a missing program is no error")
	}
	if _, err := c.run(context.Background(), []string{"no-fense"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "no-fence") {
		t.Errorf("unknown bug: %v", err)
	}
	c.binary = program(t, "exit 1")
	if _, err := c.run(context.Background(), nil, &bytes.Buffer{}); err == nil {
		t.Error("exit 1 without a verdict counts as caught")
	}
}
