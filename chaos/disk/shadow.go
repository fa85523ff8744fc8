package disk

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// page is what a power loss keeps or takes as a whole.
const page = 4096

// shadow remembers what the power loss brings back. In its directory, on the
// same file system as the backing one, are for an inode number N
//
//	N       a hard link to a file that is to come back under some name
//	N.old   the old content of its changed pages, at their offsets
//	N.dir   during a crash: a directory on its way
type shadow struct {
	path   string
	dir    *os.File
	strict bool

	mu    sync.Mutex           // names change and become stable one by one; before stable.mu
	lists map[uint64]*listing  // of directories with changed names
	kept  map[uint64]int       // links N: how many names are to bring them back
	files map[uint64]*contents // of files that are open for writing or changed
}

// listing is a directory with names that are not stable.
type listing struct {
	dir *os.File         // O_PATH
	old map[string]entry // what they were at the last sync
}

// entry is what a name stands for.
type entry struct {
	ino uint64   // 0: nothing
	dir *os.File // O_PATH, of a directory
	st  unix.Stat_t
}

// contents is a file and what changed in it since the last sync.
type contents struct {
	writers int // open handles; guarded by shadow.mu

	mu      sync.Mutex
	file    *os.File // for reading and writing
	old     *os.File // nil: no page was saved yet
	size    int64    // at the last sync
	resized bool
	dirty   map[int64]uint64 // bit i of [n]: page 64 n + i
}

// change is a name that an operation changes.
type change struct {
	dir  *node
	name string
}

func newShadow(path string, strict bool) (*shadow, error) {
	if err := removeDir(path); err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &shadow{path: path, dir: dir, strict: strict,
		lists: map[uint64]*listing{}, kept: map[uint64]int{}, files: map[uint64]*contents{}}, nil
}

func (s *shadow) fd() int { return int(s.dir.Fd()) }

// close forgets everything.
func (s *shadow) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lists {
		l.close()
	}
	for _, c := range s.files {
		c.close()
	}
	clear(s.lists)
	clear(s.files)
	clear(s.kept)
	s.dir.Close()
	os.RemoveAll(s.path)
}

func (l *listing) close() {
	for _, e := range l.old {
		if e.dir != nil {
			e.dir.Close()
		}
	}
	l.dir.Close()
}

func (c *contents) close() {
	c.file.Close()
	if c.old != nil {
		c.old.Close()
	}
}

// keeps reports whether the shadow has a link of its own to a file.
func (s *shadow) keeps(ino uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[ino] > 0
}

// names runs op, which changes names, once it is remembered what they were.
func (s *shadow) names(op func() error, changed ...change) syscall.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []uint64
	for _, c := range changed {
		ino, err := s.remember(c)
		if err != nil {
			return fs.ToErrno(err)
		}
		gone = append(gone, ino)
	}
	err := op()
	for _, ino := range gone {
		s.tidy(ino)
	}
	return fs.ToErrno(err)
}

// remember notes what a name stands for, unless that is not stable anyway. It
// returns what it stands for now.
func (s *shadow) remember(c change) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstatat(c.dir.fd(), c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && err != unix.ENOENT {
		return 0, err
	}
	l := s.lists[c.dir.ino]
	if l == nil {
		fd, err := unix.FcntlInt(uintptr(c.dir.fd()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		l = &listing{dir: os.NewFile(uintptr(fd), "dir"), old: map[string]entry{}}
		s.lists[c.dir.ino] = l
	}
	if _, ok := l.old[c.name]; ok {
		return st.Ino, nil
	}
	e := entry{ino: st.Ino, st: st}
	switch {
	case err != nil: // it stands for nothing
		e.ino = 0
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		fd, err := unix.Openat(c.dir.fd(), c.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		e.dir = os.NewFile(uintptr(fd), c.name)
	default:
		if s.kept[st.Ino] == 0 {
			if err := unix.Linkat(c.dir.fd(), c.name, s.fd(), link(st.Ino), 0); err != nil {
				return 0, err
			}
		}
		s.kept[st.Ino]++
	}
	l.old[c.name] = e
	return st.Ino, nil
}

func link(ino uint64) string { return strconv.FormatUint(ino, 10) }

// tidy forgets a file that nobody writes and that has nothing to bring back,
// because it is stable or has no name left. s.mu is held.
func (s *shadow) tidy(ino uint64) {
	c := s.files[ino]
	if c == nil || c.writers > 0 {
		return
	}
	c.mu.Lock()
	clean := len(c.dirty) == 0 && !c.resized
	c.mu.Unlock()
	if !clean {
		var st unix.Stat_t
		if unix.Fstat(int(c.file.Fd()), &st) != nil || st.Nlink > 0 {
			return
		}
	}
	c.close()
	if c.old != nil {
		unix.Unlinkat(s.fd(), link(ino)+".old", 0)
	}
	delete(s.files, ino)
}

// contents returns what is known of a file. s.mu is held.
func (s *shadow) contents(n *node) (*contents, syscall.Errno) {
	if c := s.files[n.ino]; c != nil {
		return c, 0
	}
	fd, err := unix.Open(n.self(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	c := &contents{file: os.NewFile(uintptr(fd), "file"), dirty: map[int64]uint64{}}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		c.close()
		return nil, fs.ToErrno(err)
	}
	c.size = st.Size
	s.files[n.ino] = c
	return c, 0
}

// opened notes a handle for writing, released its end.
func (s *shadow) opened(n *node) syscall.Errno {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, errno := s.contents(n)
	if errno == 0 {
		c.writers++
	}
	return errno
}

func (s *shadow) released(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.files[n.ino]; c != nil {
		c.writers--
		s.tidy(n.ino)
	}
}

// modify runs op, which changes the bytes [from, end) of a file or its size,
// once the old content is saved. An end of -1 means all bytes.
func (s *shadow) modify(n *node, from, end int64, op func() syscall.Errno) syscall.Errno {
	s.mu.Lock()
	c, errno := s.contents(n)
	if errno != 0 {
		s.mu.Unlock()
		return errno
	}
	c.mu.Lock() // before s.mu is released, lest it is tidied away
	defer c.mu.Unlock()
	s.mu.Unlock()

	var before, after unix.Stat_t
	if err := unix.Fstat(int(c.file.Fd()), &before); err != nil {
		return fs.ToErrno(err)
	}
	if end < 0 {
		end = max(before.Size, c.size)
	}
	for p := from / page; p*page < end; p++ {
		if err := s.save(n.ino, c, p); err != nil {
			return fs.ToErrno(err)
		}
	}
	errno = op()
	if err := unix.Fstat(int(c.file.Fd()), &after); err == nil && after.Size != before.Size {
		c.resized = true
	}
	return errno
}

// save marks a page as changed and saves its content, if it has a stable one.
func (s *shadow) save(ino uint64, c *contents, p int64) error {
	if c.isDirty(p) {
		return nil
	}
	if p*page < c.size {
		var buffer [page]byte
		size, err := pread(int(c.file.Fd()), buffer[:], p*page)
		if err != nil {
			return err
		}
		if c.old == nil {
			fd, err := unix.Openat(s.fd(), link(ino)+".old", unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return err
			}
			c.old = os.NewFile(uintptr(fd), "old")
		}
		if buffer != [page]byte{} { // a hole says the same
			if _, err := c.old.WriteAt(buffer[:size], p*page); err != nil {
				return err
			}
		}
	}
	c.dirty[p/64] |= 1 << (p % 64)
	return nil
}

func (c *contents) isDirty(p int64) bool { return c.dirty[p/64]&(1<<(p%64)) != 0 }

// synced makes a file or directory stable, and the names that go with it.
func (s *shadow) synced(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.files[n.ino]; c != nil {
		c.commit()
		s.tidy(n.ino)
	}
	if n.probe {
		return // the node's names do not become stable by it
	}
	if s.strict {
		s.commit(n.ino)
		return
	}
	for ino := range s.lists {
		s.commit(ino)
	}
}

func (c *contents) commit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.dirty) == 0 && !c.resized {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(int(c.file.Fd()), &st) != nil {
		return
	}
	if c.old != nil && c.old.Truncate(0) != nil {
		return
	}
	c.size, c.resized = st.Size, false
	clear(c.dirty)
}

// commit makes the names in a directory stable. s.mu is held.
func (s *shadow) commit(dir uint64) {
	l := s.lists[dir]
	if l == nil {
		return
	}
	delete(s.lists, dir)
	for _, e := range l.old {
		if e.ino == 0 || e.dir != nil {
			continue
		}
		s.kept[e.ino]--
		if s.kept[e.ino] == 0 {
			delete(s.kept, e.ino)
			unix.Unlinkat(s.fd(), link(e.ino), 0)
			s.tidy(e.ino)
		}
	}
	l.close()
}

// crash puts everything back. The pages of the file whole are never torn.
func (s *shadow) crash(torn float64, random *rand.Rand, whole uint64) (Loss, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var loss Loss
	for _, ino := range slices.Sorted(maps.Keys(s.files)) {
		c := s.files[ino]
		p := torn
		if ino == whole {
			p = 0
		}
		if err := c.restore(p, random, &loss); err != nil {
			return loss, fmt.Errorf("restore contents of inode %d: %w", ino, err)
		}
	}
	if err := s.restoreNames(&loss); err != nil {
		return loss, fmt.Errorf("restore names: %w", err)
	}
	return loss, nil
}

func (c *contents) restore(torn float64, random *rand.Rand, loss *Loss) error {
	if len(c.dirty) == 0 && !c.resized {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(c.file.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink == 0 {
		return nil
	}
	loss.Files++
	size := c.size
	if c.resized && random.Float64() < torn {
		size = st.Size
	}
	// Cut to the smaller size first: what is beyond it was never on the disk.
	if err := c.file.Truncate(size); err != nil {
		return err
	}
	var buffer [page]byte
	for _, n := range slices.Sorted(maps.Keys(c.dirty)) {
		for p := n * 64; p < n*64+64; p++ {
			if !c.isDirty(p) {
				continue
			}
			if random.Float64() < torn {
				loss.PagesKept++
				continue
			}
			loss.PagesDropped++
			end := min(size, p*page+page)
			if p*page >= end {
				continue
			}
			clear(buffer[:])
			if c.old != nil {
				if _, err := pread(int(c.old.Fd()), buffer[:], p*page); err != nil {
					return err
				}
			}
			if _, err := c.file.WriteAt(buffer[:end-p*page], p*page); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreNames brings the names back in four steps: take away what is there
// now, make directories again that are gone, put back what was there, and
// leave the rest to be removed with the shadow's directory.
func (s *shadow) restoreNames(loss *Loss) error {
	type place struct {
		list *listing
		name string
		entry
	}
	var back []place
	for _, ino := range slices.Sorted(maps.Keys(s.lists)) {
		l := s.lists[ino]
		for _, name := range slices.Sorted(maps.Keys(l.old)) {
			old := l.old[name]
			var now unix.Stat_t
			err := unix.Fstatat(int(l.dir.Fd()), name, &now, unix.AT_SYMLINK_NOFOLLOW)
			if err != nil && err != unix.ENOENT {
				return err
			}
			if err == nil && now.Ino == old.ino || err != nil && old.ino == 0 {
				continue // it changed and changed back
			}
			loss.Names++
			switch {
			case err != nil:
			case now.Mode&unix.S_IFMT == unix.S_IFDIR:
				err = unix.Renameat(int(l.dir.Fd()), name, s.fd(), link(now.Ino)+".dir")
			default:
				err = unix.Unlinkat(int(l.dir.Fd()), name, 0)
			}
			if err != nil && err != unix.ENOENT {
				return err
			}
			if old.ino != 0 {
				back = append(back, place{l, name, old})
			}
		}
	}
	for _, b := range back {
		var st unix.Stat_t
		if b.dir == nil || unix.Fstat(int(b.dir.Fd()), &st) == nil && st.Nlink > 0 {
			continue
		}
		if err := s.remake(b.entry); err != nil {
			return err
		}
	}
	for _, b := range back {
		to := int(b.list.dir.Fd())
		var err error
		if b.dir == nil {
			err = unix.Linkat(s.fd(), link(b.ino), to, b.name, 0)
		} else {
			err = unix.Renameat(s.fd(), link(b.ino)+".dir", to, b.name)
		}
		// ENOENT: the directory it was in, or it is, is stable elsewhere or not at all.
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// remake makes a directory again that was removed, without a place yet.
func (s *shadow) remake(e entry) error {
	name := link(e.ino) + ".dir"
	err := unix.Mkdirat(s.fd(), name, 0o700)
	if err == unix.EEXIST {
		return nil // it was stable under two names
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(s.fd(), name, int(e.st.Uid), int(e.st.Gid), 0); err != nil {
		return err
	}
	if err := unix.Fchmodat(s.fd(), name, e.st.Mode&0o7777, 0); err != nil {
		return err
	}
	l := s.lists[e.ino]
	if l == nil {
		return nil // it was empty
	}
	fd, err := unix.Openat(s.fd(), name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l.dir.Close()
	l.dir = os.NewFile(uintptr(fd), name)
	return nil
}
