package history

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func createCompressed(t *testing.T) (*Writer, string) {
	t.Helper()
	dir := t.TempDir()
	w, err := CreateCompressed(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Abort)
	return w, dir
}

// A run that is recorded compressed is the same run.
func TestCreateCompressed(t *testing.T) {
	plain, text := smallRun(t, 2000)
	want, err := LoadRun(plain)
	if err != nil {
		t.Fatal(err)
	}
	w, packed := createCompressed(t)
	for i := range want.Ops {
		w.Op(&want.Ops[i])
	}
	if err := w.Close(Footer{}); err != nil {
		t.Fatal(err)
	}
	got, err := LoadRun(packed)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Ops, want.Ops) || !reflect.DeepEqual(got.Footer, want.Footer) || got.Skipped != 0 {
		t.Errorf("%d ops, footer %v, %d skipped; want %d, %v", len(got.Ops), got.Footer, got.Skipped, len(want.Ops), want.Footer)
	}
	info, err := os.Stat(filepath.Join(packed, "history.jsonl.zst"))
	if err != nil || info.Size() > int64(len(text))/3 {
		t.Errorf("%d bytes of %d: %v", info.Size(), len(text), err)
	}
	for _, create := range []func(string) (*Writer, error){Create, CreateCompressed} {
		for _, dir := range []string{plain, packed} {
			if _, err := create(dir); !errors.Is(err, os.ErrExist) {
				t.Errorf("another run is recorded in the same directory: %v", err)
			}
		}
	}
}

// Without a footer the frame is whole, and the run torn.
func TestAbortCompressed(t *testing.T) {
	w, dir := createCompressed(t)
	for _, op := range benchOps("cart", 10) {
		w.Op(&op)
	}
	w.Abort()
	run, err := LoadRun(dir)
	if err != nil || len(run.Ops) != 10 || run.Footer != nil || run.Skipped != 0 {
		t.Errorf("%+v, %v", run, err)
	}
}

// TestTornFlushes cuts what was flushed at every byte: everything up to the last
// whole flush is there, and nothing that was not recorded.
func TestTornFlushes(t *testing.T) {
	w, dir := createCompressed(t)
	ops := benchOps("cart", 40)
	path := filepath.Join(dir, "history.jsonl.zst")
	ends := []int64{} // sizes of the file after each flush, of 4 operations each
	for i := range ops {
		w.Op(&ops[i])
		if i%4 == 3 {
			w.flush(w.history)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, info.Size())
		}
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range int64(len(packed)) + 1 {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, "history.jsonl.zst"), packed[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		run, err := LoadRun(torn)
		if err != nil {
			t.Fatalf("cut to %d of %d bytes: %v", cut, len(packed), err)
		}
		if len(run.Ops) < 4*whole || len(run.Ops) > 0 && !reflect.DeepEqual(run.Ops, ops[:len(run.Ops)]) {
			t.Fatalf("cut to %d of %d bytes, %d flushes: %d ops", cut, len(packed), whole, len(run.Ops))
		}
		if run.Footer != nil || cut > 0 && run.Skipped != 1 {
			t.Fatalf("cut to %d of %d bytes: footer %v, %d skipped", cut, len(packed), run.Footer, run.Skipped)
		}
	}
}

// writeVariable makes this test binary a process that records until it is killed.
const writeVariable = "STATEQUAKE_TEST_WRITE"

// A process that is killed loses what it recorded in its last second at most,
// compressed or not.
func TestKilledWriter(t *testing.T) {
	if dir := os.Getenv(writeVariable); dir != "" {
		recordUntilKilled(dir, os.Getenv(writeVariable+"_HOW") == "compressed")
		return
	}
	for _, how := range []string{"plain", "compressed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writer := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
			writer.Env = append(os.Environ(), writeVariable+"="+dir, writeVariable+"_HOW="+how)
			out, err := writer.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := writer.Start(); err != nil {
				t.Fatal(err)
			}
			defer writer.Wait()
			defer writer.Process.Kill()
			type mark struct {
				n  int
				at time.Time
			}
			var marks []mark // numbers of operations that were recorded by then
			began := time.Now()
			for lines := bufio.NewScanner(out); lines.Scan() && time.Since(began) < 3500*time.Millisecond; {
				if text, ok := strings.CutPrefix(lines.Text(), "recorded "); ok {
					n, err := strconv.Atoi(text)
					if err != nil {
						t.Fatal(err)
					}
					marks = append(marks, mark{n, time.Now()})
				}
			}
			killed := time.Now()
			if err := writer.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = writer.Wait() // it was killed
			run, err := LoadRun(dir)
			if err != nil {
				t.Fatal(err)
			}
			safe := 0
			for _, m := range marks {
				if killed.Sub(m.at) > flushEvery+500*time.Millisecond { // and some time for a busy machine
					safe = m.n
				}
			}
			if safe == 0 {
				t.Fatalf("only %d marks: too few to tell", len(marks))
			}
			if len(run.Ops) < safe || run.Footer != nil {
				t.Errorf("%d operations can be read, footer %v; %d were recorded more than a second before", len(run.Ops), run.Footer, safe)
			}
			for i := range run.Ops {
				if run.Ops[i].N != int64(i) {
					t.Fatalf("operation %d is number %d", i, run.Ops[i].N)
				}
			}
		})
	}
}

func recordUntilKilled(dir string, compressed bool) {
	create := Create
	if compressed {
		create = CreateCompressed
	}
	w, err := create(dir)
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	op := benchOps("cart", 1)[0]
	for began := time.Now(); time.Since(began) < 20*time.Second; {
		w.Op(&op)
		if op.N++; op.N%500 == 0 {
			fmt.Printf("recorded %d\n", op.N)
			time.Sleep(10 * time.Millisecond) // a steady load
		}
	}
	os.Exit(3)
}
