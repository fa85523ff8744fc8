package disk

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

func apply(t *testing.T, f *fixture, e Effect) *Applied {
	t.Helper()
	a, err := f.Apply(e, 42)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func check(t *testing.T, ev Evidence, proof history.Proof, words ...string) {
	t.Helper()
	if ev.Proof != proof {
		t.Errorf("%s (%s), want %s", ev.Proof, ev.Detail, proof)
	}
	for _, w := range words {
		if !strings.Contains(ev.Detail, w) {
			t.Errorf("detail %q lacks %q", ev.Detail, w)
		}
	}
}

func TestErrno(t *testing.T) {
	f := newFixture(t, Options{})
	f.write(t, "a.wal", "text")
	f.write(t, "b.db", "text")
	a := apply(t, f, Effect{Methods: []string{"write", "fsync"}, Path: "*.wal", Percent: 100, Errno: syscall.ENOSPC})
	if err := os.WriteFile(f.path("a.wal"), []byte("more"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Error("write:", err)
	}
	f.write(t, "b.db", "more")
	f.write(t, "sub", "more")
	check(t, a.Evidence(), history.Confirmed, "write of a probe file", "failed with ENOSPC")
	if words := a.Count().String(); !strings.HasPrefix(words, "of the node's 1 operations 1 (write) failed") {
		t.Error(words)
	}
	a.Undo()
	f.write(t, "a.wal", "more")
	if c := a.Count(); c.Seen != 1 || c.Errors["write"] != 1 {
		t.Errorf("%+v", c)
	}
	check(t, a.Evidence(), history.Mismatch, "write of a probe file took")
}

func TestPercent(t *testing.T) {
	f := newFixture(t, Options{})
	file, err := os.Create(f.path("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a := apply(t, f, Effect{Methods: []string{"write"}, Percent: 25, Errno: syscall.EIO})
	const writes = 1000
	failed := int64(0)
	for range writes {
		if _, err := file.WriteAt([]byte("x"), 0); err != nil {
			failed++
		}
	}
	if c := a.Count(); failed < 180 || failed > 320 || c.Errors["write"] != failed || c.Seen != writes {
		t.Errorf("%d of %d failed, counted %+v", failed, writes, c)
	}
	check(t, a.Evidence(), history.Confirmed)
	a.Undo()
	none := apply(t, f, Effect{Methods: []string{"write"}, Percent: 0, Errno: syscall.EIO})
	check(t, none.Evidence(), history.Mismatch)
}

func TestLatency(t *testing.T) {
	f := newFixture(t, Options{})
	f.write(t, "file", "text")
	const latency = 60 * time.Millisecond
	a := apply(t, f, Effect{Methods: []string{"fsync"}, Percent: 100, Latency: latency})
	b := apply(t, f, Effect{Path: "other/**", Percent: 100, Latency: time.Hour})
	start := time.Now()
	f.sync(t, "file")
	if took := time.Since(start); took < latency {
		t.Error("took", took)
	}
	check(t, a.Evidence(), history.Confirmed, "fsync of a probe file")
	if words := a.Count().String(); !strings.Contains(words, "1 (fsync) were delayed by") {
		t.Error(words)
	}
	b.Undo()
	if c := b.Count(); c.Seen != 0 {
		t.Errorf("%+v", c)
	}
}

// Undo and Unmount do not wait for a delay.
func TestLatencyEnds(t *testing.T) {
	for _, end := range []string{"undo", "unmount", "freeze"} {
		f := newFixture(t, Options{})
		a := apply(t, f, Effect{Methods: []string{"mkdir"}, Percent: 100, Latency: time.Hour})
		done := make(chan error)
		go func() { done <- unix.Mkdir(f.path("dir"), 0o755) }()
		for a.Count().Seen == 0 {
			time.Sleep(time.Millisecond)
		}
		switch end {
		case "undo":
			a.Undo()
		case "unmount":
			if err := f.Unmount(); err != nil {
				t.Error(err)
			}
		case "freeze":
			Freeze(f.Disk)
		}
		if err := <-done; (err != nil) != (end == "freeze") {
			t.Errorf("%s: mkdir said %v", end, err)
		}
	}
}

func TestMistake(t *testing.T) {
	text := bytes.Repeat([]byte("t"), 8192)
	f := newFixture(t, Options{})
	f.write(t, "file", string(text))
	read := func() []byte {
		data, err := os.ReadFile(f.path("file"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	read() // into the kernel's cache
	a := apply(t, f, Effect{Methods: []string{"read"}, Percent: 100, Mistake: &Mistake{MaxOccurrences: 3, MaxLength: 10}})
	if got := read(); bytes.Equal(got, text) || bytes.Count(got, []byte{0}) > 2*3*10 {
		t.Errorf("%d zeros", bytes.Count(got, []byte{0}))
	}
	check(t, a.Evidence(), history.Confirmed, "read of a probe file had")
	a.Undo()
	if got := read(); !bytes.Equal(got, text) {
		t.Error("still wrong after Undo")
	}
	b := apply(t, f, Effect{Methods: []string{"write"}, Percent: 100, Mistake: &Mistake{Random: true, MaxOccurrences: 1, MaxLength: 100}})
	check(t, b.Evidence(), history.Confirmed, "write of a probe file left")
	f.write(t, "file", string(text))
	b.Undo()
	if got := read(); bytes.Equal(got, text) || len(got) != len(text) {
		t.Error("the write was not disturbed")
	}
}

func TestFill(t *testing.T) {
	for _, powerLoss := range []bool{false, true} {
		f := newFixture(t, Options{PowerLoss: powerLoss})
		f.write(t, "old", strings.Repeat("o", 1000))
		q := f.Fill(10_000)
		f.write(t, "file", strings.Repeat("x", 9_000))
		if err := os.WriteFile(f.path("more"), make([]byte, 1001), 0o644); !errors.Is(err, syscall.ENOSPC) {
			t.Error("more than is left:", err)
		}
		check(t, q.Evidence(), history.Confirmed, "with 1000 bytes left")
		if denied := q.Denied(); denied != 1 {
			t.Errorf("%d operations found no space, want 1", denied)
		}
		f.write(t, "file", strings.Repeat("y", 9_000)) // no more than before
		if err := os.Remove(f.path("old")); err != nil {
			t.Fatal(err)
		}
		f.write(t, "more", strings.Repeat("x", 2000))
		if err := os.Truncate(f.path("more"), 2001); !errors.Is(err, syscall.ENOSPC) {
			t.Error("truncate:", err)
		}
		var st unix.Statfs_t
		if err := unix.Statfs(f.mnt, &st); err != nil || st.Bavail != 0 {
			t.Errorf("%d blocks free, %v", st.Bavail, err)
		}
		q.Undo()
		f.write(t, "more", strings.Repeat("x", 20_000))
		check(t, q.Evidence(), history.Mismatch)
	}
}

func TestApplyRejects(t *testing.T) {
	f := newFixture(t, Options{})
	for want, e := range map[string]Effect{
		`unknown method "frobnicate"`: {Methods: []string{"frobnicate"}, Errno: syscall.EIO},
		"percent: 101":                {Percent: 101, Errno: syscall.EIO},
		"has no latency":              {Percent: 100},
		"latency: -1s is negative":    {Latency: -time.Second},
		"errno: after ENOSYS":         {Errno: syscall.ENOSYS},
		`path: "[": syntax error`:     {Path: "[", Errno: syscall.EIO},
		"has no effect with fsync":    {Methods: []string{"fsync"}, Mistake: &Mistake{MaxOccurrences: 1, MaxLength: 1}},
		"maxOccurrences and":          {Mistake: &Mistake{}},
		"goes with neither":           {Errno: syscall.EIO, Mistake: &Mistake{MaxOccurrences: 1, MaxLength: 1}},
	} {
		if _, err := f.Apply(e, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		glob, path string
		want       bool
	}{
		{"", "any/thing", true},
		{"*.wal", "a.wal", true},
		{"*.wal", "d/a.wal", false},
		{"**/*.wal", "a.wal", true},
		{"**/*.wal", "d/e/a.wal", true},
		{"/d/**", "d/e/f", true},
		{"d/**", "d", true},
		{"d/**/x", "d/y", false},
		{"d/[a-c]?", "d/bz", true},
	} {
		if got := matches(tt.glob, tt.path); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.glob, tt.path, got)
		}
		if name := example(tt.glob); !matches(tt.glob, name) {
			t.Errorf("%q does not match its example %q", tt.glob, name)
		}
	}
}

// The probes' directory is the harness's alone, and nothing stays behind.
func TestHidden(t *testing.T) {
	f := newFixture(t, Options{PowerLoss: true})
	f.write(t, "file", "text")
	a := apply(t, f, Effect{Methods: []string{"write"}, Percent: 100, Latency: time.Microsecond})
	a.Evidence()
	names := func(dir string) (all []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	if got := names(f.mnt); len(got) != 1 {
		t.Error(got)
	}
	if calls := f.Calls(); calls["write"] != 1 || calls["create"] != 1 {
		t.Error(calls)
	}
	if err := f.Unmount(); err != nil {
		t.Fatal(err)
	}
	if got := names(filepath.Dir(f.back)); len(got) != 2 {
		t.Error(got)
	}
}
