//go:build e2e

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestAbortDiskFree: a run whose disk is being filled by others is given up while
// there is still room to record and judge it.
func TestAbortDiskFree(t *testing.T) {
	binary, dir := build(t)
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `
mount -t tmpfs -o size=700m tmpfs "$1" || exit 90
"$2" run "$3" --out "$1/run" &
until [ "$(wc -l <"$1/run/history.jsonl" 2>/dev/null || echo 0)" -gt 500 ]; do sleep 0.05; done
dd if=/dev/zero of="$1/filler" bs=1M count=$(( $(df -m --output=avail "$1" | tail -1) - 200 )) status=none
wait $!
echo "run ended with $?"
tail -1 "$1/run/history.jsonl"`
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", disk, binary, filepath.Join(dir, "shaky.yaml"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{"are free on the file system of the run directory, limit 256MiB", "UNKNOWN", "run ended with 2", `"aborted":"aborted after `} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
