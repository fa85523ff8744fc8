package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake writes a program that behaves like a run: with the bug it finds kind
// and exits with code; without, it passes, or if flaky it fails with seed 2.
func fake(t *testing.T, code, kind string, flaky bool) string {
	t.Helper()
	flakySeed := "none"
	if flaky {
		flakySeed = "2"
	}
	return program(t, `
for dir in "$@"; do :; done # the last argument
verdict() { mkdir -p "$dir"; echo "{\"checks\":[{\"violations\":[]},{\"violations\":[$1]}]}" > "$dir/verdict.json"; }
case "$*" in
*"seed=`+flakySeed+` --set system.bug="*) verdict '{"kind":"lost"}'; exit 1 ;;
*system.bug=*) verdict; exit 4 ;;
esac
verdict '{"kind":"stale-read"},{"kind":"`+kind+`"}'
exit `+code)
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

func TestCampaign(t *testing.T) {
	tests := []struct {
		name       string
		code, kind string
		flaky      bool
		ok         bool
		want       string // in the output
	}{
		{"caught", "1", "lost", false, true, "bugs/no-fence   lost      2/2      2/2"},
		{"other kind", "1", "phantom", false, false, "bugs/no-fence   lost      0/2      2/2"},
		{"not caught", "0", "lost", false, false, "0/2"},
		{"unknown", "2", "lost", false, false, "bug: exit 2, found lost, stale-read"},
		{"control not clean", "1", "lost", true, false, "bugs/no-fence   lost      2/2      1/2"},
		{"replay", "1", "lost", true, false, "/statequake run bugs/no-fence --set seed=2 --set system.bug=\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			c := campaign{n: 2, binary: fake(t, tt.code, tt.kind, tt.flaky), dir: t.TempDir(), seed: 1}
			ok, err := c.run(context.Background(), []string{"no-fence"}, &out)
			if err != nil {
				t.Fatal(err)
			}
			if ok != tt.ok || !strings.Contains(out.String(), tt.want) {
				t.Errorf("ok %v, want %v with %q in:\n%s", ok, tt.ok, tt.want, &out)
			}
			kept, err := filepath.Glob(filepath.Join(c.dir, "*", "verdict.json"))
			if err != nil {
				t.Fatal(err)
			}
			if (len(kept) == 0) != tt.ok {
				t.Errorf("run directories kept: %v", kept)
			}
		})
	}
}

func TestCampaignThatCannotRun(t *testing.T) {
	c := campaign{n: 1, binary: "/does/not/exist", dir: t.TempDir()}
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
