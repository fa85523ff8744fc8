package clock

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"testing"
)

// vdso is that of the test itself, which nobody has changed.
func vdso(t *testing.T) []byte {
	t.Helper()
	from, to, err := findVDSO(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	image := make([]byte, to-from)
	if _, err := mem.ReadAt(image, from); err != nil {
		t.Fatal(err)
	}
	return image
}

// Nothing but the values of six symbols and unused zeros are overwritten.
func TestRedirectKeepsTheRest(t *testing.T) {
	image := vdso(t)
	edits, data, err := redirect(image)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(image)
	symbols := 0
	for _, e := range edits {
		if len(e.value) == 8 {
			symbols++
		} else if zeros := image[e.at:][:len(e.value)]; len(bytes.Trim(zeros, "\x00")) > 0 || e.at%16 != 0 {
			t.Errorf("the stub overwrites what is not zero, or is not aligned, at %#x", e.at)
		}
		copy(changed[e.at:], e.value)
	}
	if symbols != 6 || data%16 != 0 {
		t.Errorf("%d symbols changed, want 6; data at %#x", symbols, data)
	}
	file, err := elf.NewFile(bytes.NewReader(changed))
	if err != nil {
		t.Fatal(err)
	}
	after, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := elf.NewFile(bytes.NewReader(image))
	was, _ := before.DynamicSymbols()
	moved := map[string]bool{}
	for i, s := range after {
		if s.Value != was[i].Value {
			moved[s.Name] = true
		}
		s.Value = was[i].Value
		if s != was[i] {
			t.Errorf("%+v became %+v", was[i], s)
		}
	}
	if len(moved) != 6 || !moved["__vdso_clock_gettime"] || !moved["__vdso_gettimeofday"] || !moved["__vdso_time"] {
		t.Errorf("moved %v", moved)
	}
}

func TestRedirectWithoutRoom(t *testing.T) {
	image := vdso(t)
	full := bytes.Clone(image)
	full[len(full)-50] = 1
	for name, image := range map[string][]byte{
		"full":   full,
		"no ELF": make([]byte, 4096),
		"empty":  nil,
	} {
		if _, _, err := redirect(image); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want %v", name, err, ErrUnavailable)
		}
	}
}
