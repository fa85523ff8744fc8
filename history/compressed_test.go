package history

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// pack compresses data, in frames of at most size bytes of it.
func pack(t testing.TB, data []byte, size int) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var packed []byte
	for len(data) > 0 {
		n := min(size, len(data))
		packed = encoder.EncodeAll(data[:n], packed)
		data = data[n:]
	}
	return packed
}

// packHistory replaces the history of a run directory by a compressed one.
func packHistory(t testing.TB, dir string, packed []byte) {
	t.Helper()
	path := filepath.Join(dir, historyFile)
	if err := os.WriteFile(path+compressedSuffix, packed, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// smallRun records a run of a few operations.
func smallRun(t *testing.T, ops int) (dir string, history []byte) {
	t.Helper()
	w, dir := create(t)
	for _, op := range benchOps("cart", ops) {
		w.Op(&op)
	}
	if err := w.Close(Footer{}); err != nil {
		t.Fatal(err)
	}
	history, err := os.ReadFile(filepath.Join(dir, historyFile))
	if err != nil {
		t.Fatal(err)
	}
	return dir, history
}

func TestCompressedHistory(t *testing.T) {
	dir, text := smallRun(t, 2000)
	want, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, historyFile)
	for _, frame := range []int{len(text), 100_000, 777} { // 777 ends within lines
		packHistory(t, dir, pack(t, text, frame))
		got, err := LoadRun(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("frames of %d: %d ops, footer %v, %d skipped; want %d, %v", frame, len(got.Ops), got.Footer, got.Skipped, len(want.Ops), want.Footer)
		}
	}
	if _, err := Create(dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("another run is recorded beside a compressed one: %v", err)
	}

	// A directory with two histories does not say which one is its run's.
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRun(dir); err == nil || !strings.Contains(err.Error(), "history.jsonl.zst, too") {
		t.Errorf("two histories: %v", err)
	}
}

// TestTornFrames cuts a compressed history at every byte: what its frames yield
// is a beginning of the run, and only the cut between two frames goes unseen,
// where the footer is missing all the same.
func TestTornFrames(t *testing.T) {
	dir, text := smallRun(t, 12)
	want, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	packed := pack(t, text, 1000)
	seen := map[int]bool{}
	for cut := range len(packed) {
		packHistory(t, dir, packed[:cut])
		got, err := LoadRun(dir)
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", cut, err)
		}
		if len(got.Ops) > len(want.Ops) || len(got.Ops) > 0 && !reflect.DeepEqual(got.Ops, want.Ops[:len(got.Ops)]) {
			t.Fatalf("cut to %d bytes: %d ops that are not those of the run", cut, len(got.Ops))
		}
		if got.Footer != nil && got.Skipped == 0 {
			t.Fatalf("cut to %d of %d bytes: whole", cut, len(packed))
		}
		seen[len(got.Ops)] = true
	}
	if len(seen) < 4 {
		t.Errorf("the cuts left only these numbers of operations: %v", seen)
	}
}

func TestDamagedFrames(t *testing.T) {
	dir, text := smallRun(t, 500)
	packed := pack(t, text, len(text))
	damaged := bytes.Clone(packed)
	damaged[len(damaged)/2] ^= 0x10
	// An empty last block; the exponent of the window is 19 above 10.
	wide := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 19 << 3, 1, 0, 0}
	for _, test := range []struct {
		name, want string
		data       []byte
	}{
		{"a flipped bit", "history.jsonl.zst:", damaged},
		{"no frame", "history.jsonl.zst:1: ", []byte(strings.Repeat("plain text ", 10))},
		{"junk behind the last frame", "history.jsonl.zst:502: ", append(bytes.Clone(packed), "plain text"...)},
		{"a window of 512 MiB", "hint: compress with zstd --long=27 or less", wide},
	} {
		packHistory(t, dir, test.data)
		if _, err := LoadRun(dir); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// A small file that becomes a huge line is refused without holding the line.
func TestCompressedLongLine(t *testing.T) {
	dir := t.TempDir()
	line := pack(t, bytes.Repeat([]byte(" "), 64<<20), 64<<20)
	packHistory(t, dir, append(append(line, line...), pack(t, []byte("{}\n{}\n"), 100)...))
	if _, err := LoadRun(dir); err == nil || !strings.Contains(err.Error(), "history.jsonl.zst:1: line is longer than") {
		t.Errorf("128 MiB in one line: %v", err)
	}
}

// Once fn has returned an error nothing is read any more.
func TestReadOpsStops(t *testing.T) {
	stop := errors.New("enough")
	data := encodeOps(benchOps("counter", 100_000))
	r := &countingReader{data: data}
	n := 0
	_, _, err := ReadOps(r, "x", func(*Op) error {
		if n++; n == 300 {
			return stop
		}
		return nil
	})
	if err != stop || n != 300 || r.read > len(data)/10 {
		t.Errorf("error %v after %d operations, %d of %d bytes read", err, n, r.read, len(data))
	}
}

// countingReader is not safe for concurrent use: the race detector sees a read
// that goes on.
type countingReader struct {
	data []byte
	read int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n := copy(p, c.data)
	c.data = c.data[n:]
	c.read += n
	return n, nil
}

func FuzzReadCompressed(f *testing.F) {
	text := encodeOps(benchOps("counter", 5))
	f.Add(pack(f, text, len(text)))
	f.Add(pack(f, text, 100))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		_, skipped, err := readCompressed(bytes.NewReader(data), "fuzz", func(*Op) error { n++; return nil })
		if skipped > 1 || err == nil && n > 0 && len(data) == 0 {
			t.Errorf("%d operations, %d skipped", n, skipped)
		}
	})
}
