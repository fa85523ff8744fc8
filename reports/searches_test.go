package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/check"
)

// TestSearchPages: what Porcupine finds is drawn on a page that the row of its
// check links to, and the next verdict takes away what it does not need.
func TestSearchPages(t *testing.T) {
	f := newBlackBox()
	for i, step := range []string{"set A", "set A", "get B", "get A"} {
		value := json.RawMessage(fmt.Sprintf(`{"value":%q}`, step[4:]))
		op := history.Op{
			ID: fmt.Sprintf("7f3a-p%d", 900+i), N: int64(900 + i), Phase: history.Probe, Entity: "register", Key: "twice", Name: step[:3],
			Sent: 12*time.Second + time.Duration(i)*time.Millisecond, Version: -1, Attempts: 1, Outcome: history.OK, Result: value,
		}
		op.Scheduled, op.Returned = op.Sent, op.Sent+time.Microsecond
		if op.Name == "set" {
			op.Args = value
		}
		f.ops = append(f.ops, op)
	}
	v := f.judge(t)
	dir := t.TempDir()
	for _, old := range []string{"porcupine-1.html", "porcupine-2.html", "porcupine.html"} {
		if err := os.WriteFile(filepath.Join(dir, old), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(dir, v); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "porcupine-1.html"))
	if v.Verdict != check.Violated || err != nil || !bytes.Contains(page, []byte("register/twice: no order explains the results")) {
		t.Errorf("verdict is %s, the page has %d bytes: %v", v.Verdict, len(page), err)
	}
	report, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || bytes.Count(report, []byte(`<a href="porcupine-1.html">`)) != 1 || bytes.Contains(report, []byte("porcupine-2.html")) {
		t.Errorf("the report does not link to the page: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "porcupine*"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v are left", left)
	}
}
