package doctor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"statequake/fixtures/lease"
)

const (
	// depth is how far below a folder runs are looked for.
	depth = 4
	// goneWithin is how long a process may take to be gone, and its memory with it.
	goneWithin = 3 * time.Second
)

// Leftover is something that a run left behind that is proven dead.
type Leftover struct {
	Run   string `json:"run"`  // its directory
	What  string `json:"what"` // in words
	Bytes int64  `json:"bytes,omitempty"`

	remove func() error
}

// Survey is what was found below a folder.
type Survey struct {
	Dir      string     `json:"dir"`
	Alive    int        `json:"alive"` // runs that go on
	Dead     int        `json:"dead"`  // runs that are proven dead and left something
	Found    []Leftover `json:"found,omitempty"`
	Unproven []string   `json:"unproven,omitempty"` // run directories of which there is no proof, and why
}

// Bytes is the room that what was found takes.
func (s *Survey) Bytes() (n int64) {
	for _, l := range s.Found {
		n += l.Bytes
	}
	return n
}

// Look looks for leftovers of dead runs below dir, which need not be there, and
// of dead doctors in the folder for temporary files. It changes nothing.
func Look(dir string) (*Survey, error) { return survey(dir, nil) }

// Clean removes what Look finds, and nothing else, and tells of each what became
// of it. Symbolic links are not followed.
func Clean(dir string, each func(Leftover, error)) (*Survey, error) { return survey(dir, each) }

// survey looks; with each it removes, too, while the lock of the dead is held.
func survey(dir string, each func(Leftover, error)) (*Survey, error) {
	s := &Survey{Dir: dir}
	root, err := os.OpenRoot(dir)
	if err == nil {
		err = s.walk(root, dir, 0, each)
		root.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	temp, err := os.OpenRoot(os.TempDir())
	if err != nil {
		return s, nil // then nothing is there, either
	}
	defer temp.Close()
	names, err := entries(temp)
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		if e.IsDir() && strings.HasPrefix(e.Name(), folder) {
			s.doctor(temp, e.Name(), each)
		}
	}
	return s, nil
}

// entries are those of a directory.
func entries(root *os.Root) ([]fs.DirEntry, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// walk looks at a directory that may be of a run, and else below it.
func (s *Survey) walk(root *os.Root, path string, level int, each func(Leftover, error)) error {
	d, err := lease.Bury(root)
	switch {
	case err == nil:
		s.run(root, path, d, each)
		return d.Close()
	case errors.Is(err, lease.ErrAlive):
		s.Alive++
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		s.Unproven = append(s.Unproven, fmt.Sprintf("%s: %s: %v", path, lease.File, err))
		return nil
	}
	if _, err := root.Lstat("scenario.yaml"); err == nil || level == depth {
		return nil // a run that ended
	}
	list, err := entries(root)
	if err != nil {
		if level == 0 {
			return err
		}
		return nil // not ours
	}
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		sub, err := root.OpenRoot(e.Name())
		if err != nil {
			continue
		}
		err = s.walk(sub, filepath.Join(path, e.Name()), level+1, each)
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// mine tells whether the user may clean up after the owner of a lock.
func mine(d *lease.Dead) bool {
	uid := os.Geteuid()
	return uid == 0 || uint32(uid) == d.UID
}

// run deals with what a dead run left: first what may still write to its files,
// then the files, and last the proof.
func (s *Survey) run(root *os.Root, path string, d *lease.Dead, each func(Leftover, error)) {
	if !mine(d) {
		s.Unproven = append(s.Unproven, fmt.Sprintf("%s: it is of the user %d", path, d.UID))
		return
	}
	s.Dead++
	add := func(what string, size int64, remove func() error) {
		l := Leftover{Run: path, What: what, Bytes: size, remove: remove}
		s.Found = append(s.Found, l)
		if each != nil {
			each(l, remove())
		}
	}
	for _, pid := range processes(d) {
		add(fmt.Sprintf("process %d (%s)", pid, command(pid)), 0, func() error { return end(d, pid) })
	}
	if m, ok := memory(root, d); ok {
		add(fmt.Sprintf("shared memory %d (key %#x) of PostgreSQL", m.id, uint32(m.key)), 0, func() error { return m.remove(d) })
	}
	if _, err := root.Lstat("data"); err == nil && !d.KeepData {
		add("data of the nodes", size(root, "data"), func() error {
			if err := mounted(path, "data"); err != nil {
				return err
			}
			return root.RemoveAll("data")
		})
	}
	list, _ := entries(root) // what cannot be listed has no sockets to remove
	for _, e := range list {
		if e.Type() == fs.ModeSocket {
			add("socket "+e.Name(), 0, func() error { return root.Remove(e.Name()) })
		}
	}
	add("lock "+lease.File, 0, func() error { return root.Remove(lease.File) })
}

// doctor deals with the folder of a doctor that was killed.
func (s *Survey) doctor(temp *os.Root, name string, each func(Leftover, error)) {
	root, err := temp.OpenRoot(name)
	if err != nil {
		return // somebody else's
	}
	defer root.Close()
	d, err := lease.Bury(root)
	if err != nil {
		return
	}
	defer d.Close()
	if uint32(os.Geteuid()) != d.UID {
		return
	}
	path := filepath.Join(os.TempDir(), name)
	l := Leftover{Run: path, What: "folder of a doctor that was killed", Bytes: size(root, "."), remove: func() error {
		if err := mounted(path, "."); err != nil {
			return err
		}
		return temp.RemoveAll(name)
	}}
	s.Dead++
	s.Found = append(s.Found, l)
	if each != nil {
		each(l, l.remove())
	}
}

// size is the room that a folder takes, in bytes.
func size(root *os.Root, name string) (n int64) {
	_ = fs.WalkDir(root.FS(), name, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // cannot be looked at: not counted
		}
		if info, err := e.Info(); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				n += stat.Blocks * 512
			}
		}
		return nil
	})
	return n
}

// mounted is an error if something is mounted at or below a folder: what is in
// it does not belong to the run.
func mounted(path, name string) error {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(filepath.Join(real, name))
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := unescape(fields[4])
		if at == real || strings.HasPrefix(at, real+"/") {
			return fmt.Errorf("something is mounted at %s\nhint: umount %s, and once more", at, at)
		}
	}
	return nil
}

// unescape reads the octal escapes of proc(5).
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// processes are those that the dead run started, or that were started by these:
// they have its token in their environment. A run in a pid namespace has none.
func processes(d *lease.Dead) []int {
	kin := map[int]bool{} // of this process
	for pid := os.Getpid(); pid > 1; pid = parent(pid) {
		kin[pid] = true
	}
	list, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range list {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && !kin[pid] && started(d, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// started tells whether a process is of the dead run, and of its user; a run of
// root starts processes of other users, too.
func started(d *lease.Dead, pid int) bool {
	dir := fmt.Sprintf("/proc/%d", pid)
	var stat unix.Stat_t
	if unix.Stat(dir, &stat) != nil || stat.Uid != d.UID && d.UID != 0 {
		return false
	}
	text, err := os.ReadFile(dir + "/environ")
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(text, []byte{0}) {
		if string(v) == lease.Variable+"="+d.Token {
			return true
		}
	}
	return false
}

// parent is the parent of a process, 0 if it is not known.
func parent(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, field 2, may hold anything, but the last ')' ends it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// command is what a process calls itself.
func command(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

// end kills a process and waits until it is gone. Its pid may be another one's
// by now, so it is looked at once more when it is held.
func end(d *lease.Dead, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !started(d, pid) {
		return nil // it ended
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(goneWithin.Milliseconds()))
	if err == nil && n == 0 {
		err = fmt.Errorf("process %d is still there %v after SIGKILL", pid, goneWithin)
	}
	return err
}

// segment is a piece of System V shared memory.
type segment struct {
	id, key int
	pid     int // that made it
}

// memory is the segment by which PostgreSQL's server finds out whether another
// one uses its data. It outlives its processes, outside of an IPC namespace of
// the run's own.
func memory(root *os.Root, d *lease.Dead) (segment, bool) {
	if !d.Here() {
		return segment{}, false
	}
	f, err := root.OpenFile("data/postgres/postmaster.pid", os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return segment{}, false
	}
	defer f.Close()
	// Line 1 is the server's pid, line 7 the segment's key and id.
	var lines []string
	for in := bufio.NewScanner(f); len(lines) < 7 && in.Scan(); {
		lines = append(lines, in.Text())
	}
	var m segment
	if len(lines) < 7 {
		return m, false
	}
	if _, err := fmt.Sscan(lines[0], &m.pid); err != nil {
		return m, false
	}
	m.pid = max(m.pid, -m.pid) // of a server that initdb runs it is negative
	if _, err := fmt.Sscan(lines[6], &m.key, &m.id); err != nil {
		return m, false
	}
	_, ok := m.stat(d)
	return m, ok
}

// stat looks at the segment; false if it is another one by now.
func (m segment) stat(d *lease.Dead) (attached int, ok bool) {
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(m.id, unix.IPC_STAT, &desc); err != nil {
		return 0, false
	}
	same := uint32(desc.Perm.Key) == uint32(m.key) && int(desc.Cpid) == m.pid && (desc.Perm.Cuid == d.UID || d.UID == 0)
	return int(desc.Nattch), same
}

// remove removes the segment when no process is attached to it any more.
func (m segment) remove(d *lease.Dead) error {
	for until := time.Now().Add(goneWithin); ; time.Sleep(10 * time.Millisecond) {
		attached, ok := m.stat(d)
		switch {
		case !ok:
			return nil
		case attached == 0:
			_, err := unix.SysvShmCtl(m.id, unix.IPC_RMID, nil)
			return err
		case time.Now().After(until):
			return fmt.Errorf("%d processes are attached to it", attached)
		}
	}
}
