package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// step is one random operation; x and y are paths below a root.
type step struct {
	op       string
	x, y     string
	off, len int64
	text     string
}

var paths = []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a"}

func drawStep(t *rapid.T) step {
	return step{
		op: rapid.SampledFrom([]string{"mkdir", "create", "write", "write", "append", "truncate", "rename", "rename",
			"exchange", "link", "symlink", "unlink", "rmdir", "fsync", "fsyncdir", "punch", "allocate", "chmod"}).Draw(t, "op"),
		x:    rapid.SampledFrom(paths).Draw(t, "x"),
		y:    rapid.SampledFrom(paths).Draw(t, "y"),
		off:  rapid.Int64Range(0, 3*page).Draw(t, "off"),
		len:  rapid.Int64Range(1, 2*page).Draw(t, "len"),
		text: rapid.StringMatching("[a-z]{1,20}").Draw(t, "text"),
	}
}

// nowhere begins the targets of symbolic links: the model does not follow them.
const nowhere = "nowhere/"

// run executes a step and returns its error.
func (s step) run(root string) error {
	x, y := filepath.Join(root, s.x), filepath.Join(root, s.y)
	withFile := func(flags int, use func(f *os.File) error) error {
		f, err := os.OpenFile(x, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
		if err != nil {
			return err
		}
		return errors.Join(use(f), f.Close())
	}
	switch s.op {
	case "mkdir":
		return os.Mkdir(x, 0o755)
	case "create":
		return withFile(os.O_CREATE|os.O_WRONLY|os.O_TRUNC, func(f *os.File) error { _, err := f.WriteString(s.text); return err })
	case "write":
		return withFile(os.O_WRONLY, func(f *os.File) error { _, err := f.WriteAt([]byte(s.text), s.off); return err })
	case "append":
		return withFile(os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.WriteString(s.text); return err })
	case "truncate":
		return withFile(os.O_WRONLY, func(f *os.File) error { return f.Truncate(s.off) })
	case "rename":
		return unix.Renameat2(unix.AT_FDCWD, x, unix.AT_FDCWD, y, 0)
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, x, unix.AT_FDCWD, y, unix.RENAME_EXCHANGE)
	case "link":
		if st, err := os.Lstat(x); err == nil && !st.Mode().IsRegular() {
			return nil
		}
		return os.Link(x, y)
	case "symlink":
		return os.Symlink(nowhere+s.text, x)
	case "unlink":
		return unix.Unlink(x)
	case "rmdir":
		return unix.Rmdir(x)
	case "fsync":
		return withFile(os.O_WRONLY, func(f *os.File) error { return f.Sync() })
	case "fsyncdir":
		return withFile(unix.O_DIRECTORY|os.O_RDONLY, func(f *os.File) error { return f.Sync() })
	case "punch":
		return withFile(os.O_WRONLY, func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.off, s.len)
		})
	case "allocate":
		return withFile(os.O_WRONLY, func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, s.off, s.len) })
	case "chmod":
		if st, err := os.Lstat(x); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		return os.Chmod(x, fs.FileMode(0o600+s.off%0o100))
	}
	panic(s.op)
}

// tree describes everything below a directory. Inode numbers are told apart
// by the first path that has them.
func tree(root string, modes bool) (map[string]string, error) {
	all, first := map[string]string{}, map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := "directory"
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text = "-> " + target
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if _, ok := first[st.Ino]; !ok {
				first[st.Ino] = name
			}
			text = fmt.Sprintf("file %s, %d links: %q", first[st.Ino], st.Nlink, data)
		}
		if modes {
			text = fmt.Sprintf("%o %s", st.Mode, text)
		}
		all[name] = text
		return nil
	})
	return all, err
}

func sameTree(t *rapid.T, what string, got, want map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s: %s is\n%s, want\n%s", what, name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: %s is %s, want nothing", what, name, got[name])
		}
	}
}

// errnoOf is the number in an error; joined errors count by the first.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	errors.As(err, &errno)
	return errno
}

// Without a crash the disk is like any other.
func TestLikePlain(t *testing.T) {
	needFUSE(t)
	rapid.Check(t, func(rt *rapid.T) {
		f := newFixture(t, Options{PowerLoss: true, Strict: rapid.Bool().Draw(rt, "strict")})
		defer f.Unmount()
		plain := t.TempDir()
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			s := drawStep(rt)
			got, want := errnoOf(s.run(f.mnt)), errnoOf(s.run(plain))
			if got != want {
				rt.Fatalf("%+v: %v, want %v", s, got, want)
			}
		}
		got, err := tree(f.mnt, true)
		want, wantErr := tree(plain, true)
		if err != nil || wantErr != nil {
			rt.Fatal(err, wantErr)
		}
		sameTree(rt, "mount", got, want)
	})
}

// file is a file of the model: what it holds, and what it held at its last
// sync.
type file struct {
	data, stable []byte
	target       string // of a symbolic link
}

// model says by paths what survives a crash, for the rule that any sync makes
// all names stable. A directory is nil.
type model struct {
	now, stable map[string]*file
}

// follow repeats a step that has just succeeded on a file system.
func (m *model) follow(s step) {
	f := m.now[s.x]
	resize := func(size int64) {
		for int64(len(f.data)) < size {
			f.data = append(f.data, 0)
		}
	}
	move := func(from, to string) map[string]*file {
		moved := map[string]*file{}
		for path, f := range m.now {
			if path == from || len(path) > len(from) && path[:len(from)+1] == from+"/" {
				moved[to+path[len(from):]] = f
				delete(m.now, path)
			}
		}
		return moved
	}
	switch s.op {
	case "mkdir":
		m.now[s.x] = nil
	case "create":
		if f == nil {
			f = &file{}
			m.now[s.x] = f
		}
		f.data = []byte(s.text)
	case "write":
		resize(s.off + int64(len(s.text)))
		copy(f.data[s.off:], s.text)
	case "append":
		f.data = append(f.data, s.text...)
	case "truncate":
		resize(s.off)
		f.data = f.data[:s.off:s.off]
	case "allocate":
		resize(s.off + s.len)
	case "punch":
		for i := s.off; i < min(s.off+s.len, int64(len(f.data))); i++ {
			f.data[i] = 0
		}
	case "rename":
		if there, ok := m.now[s.y]; s.x == s.y || ok && f != nil && there == f {
			return // two names of one file stay as they are
		}
		delete(m.now, s.y)
		maps.Copy(m.now, move(s.x, s.y))
	case "exchange":
		x, y := move(s.x, s.y), map[string]*file(nil)
		if s.x != s.y {
			y = move(s.y, s.x)
		}
		maps.Copy(m.now, x)
		maps.Copy(m.now, y)
	case "link":
		if f != nil && f.target == "" {
			m.now[s.y] = f
		}
	case "symlink":
		m.now[s.x] = &file{target: nowhere + s.text}
	case "unlink", "rmdir":
		delete(m.now, s.x)
	case "fsync":
		f.stable = slices.Clone(f.data)
		m.stable = maps.Clone(m.now)
	case "fsyncdir":
		m.stable = maps.Clone(m.now)
	}
}

// tree describes the stable state as the function of that name does.
func (m *model) tree() map[string]string {
	all, first, links := map[string]string{}, map[*file]string{}, map[*file]int{}
	for _, f := range m.stable {
		links[f]++
	}
	// In the order of a walk: a directory's children before its next sibling.
	names := slices.Sorted(maps.Keys(m.stable))
	for _, name := range names {
		f := m.stable[name]
		switch {
		case f == nil:
			all[name] = "directory"
		case f.target != "":
			all[name] = "-> " + f.target
		default:
			if _, ok := first[f]; !ok {
				first[f] = name
			}
			all[name] = fmt.Sprintf("file %s, %d links: %q", first[f], links[f], f.stable)
		}
	}
	return all
}

// After a crash exactly what was synced is there, and the disk can be used and
// crash again.
func TestCrashModel(t *testing.T) {
	needFUSE(t)
	rapid.Check(t, func(rt *rapid.T) {
		options := Options{PowerLoss: true}
		f := newFixture(t, options)
		defer func() { f.Unmount() }()
		m := &model{now: map[string]*file{}, stable: map[string]*file{}}
		for crash := range 2 {
			for range rapid.IntRange(1, 40).Draw(rt, "steps") {
				if s := drawStep(rt); s.run(f.mnt) == nil {
					m.follow(s)
				}
			}
			live, err := tree(f.mnt, false)
			if err != nil {
				rt.Fatal(err)
			}
			if len(live) != len(m.now) {
				rt.Fatalf("the model has %d names, the disk %d", len(m.now), len(live))
			}
			Freeze(f.Disk)
			if err := f.Unmount(); err != nil {
				rt.Fatal(err)
			}
			if _, err := f.Crash(0, 1); err != nil {
				rt.Fatal(err)
			}
			got, err := tree(f.back, false)
			if err != nil {
				rt.Fatal(err)
			}
			sameTree(rt, fmt.Sprint("crash ", crash+1), got, m.tree())
			m.now = maps.Clone(m.stable)
			for _, file := range m.now {
				if file != nil {
					file.data = slices.Clone(file.stable)
				}
			}
			d, err := Mount(f.mnt, f.back, options)
			if err != nil {
				rt.Fatal(err)
			}
			f.Disk = d
		}
		if err := f.Unmount(); err != nil {
			rt.Fatal(err)
		}
	})
}
