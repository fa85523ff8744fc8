package disk

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"statequake/history"
)

// probeName is a directory in the root of the mount that no listing shows. The
// harness makes its files there directly in the backing directory and then
// uses them through the mount, as the node uses its own. To effects they have
// the paths that they have below it.
const probeName = ".statequake-probe"

// Evidence is what the harness found out about a fault of a disk.
type Evidence struct {
	Proof  history.Proof
	At     time.Duration // of the observation, on the run clock
	Detail string        // in words, with figures
}

// probes are the files of the harness, and what it saw with them.
type probes struct {
	disk *Disk
	dir  string // in the backing
	root *node

	mu      sync.Mutex // one probe at a time
	lossIno uint64
	frozen  Evidence
	loss    Evidence
}

func newProbes(d *Disk) (*probes, error) {
	p := &probes{disk: d, dir: d.backing + ".probe"}
	if err := removeDir(p.dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return nil, err
	}
	root, _, errno := d.open(unix.AT_FDCWD, p.dir)
	if errno != 0 {
		return nil, fmt.Errorf("open %s: %w", p.dir, errno)
	}
	root.probe = true
	p.root = root
	return p, nil
}

func (p *probes) close() { os.RemoveAll(p.dir) }

func (p *probes) lookup(ctx context.Context, root *node, attr *fuse.Attr) (*fs.Inode, syscall.Errno) {
	if errno := p.root.attr(attr); errno != 0 {
		return nil, errno
	}
	return root.NewInode(ctx, p.root, fs.StableAttr{Mode: syscall.S_IFDIR, Ino: p.root.ino, Gen: 1}), 0
}

// aside runs what uses the mount on a thread with descriptors of its own, all
// but those of /dev/fuse. If the harness is killed meanwhile, its end closes
// /dev/fuse, which ends the thread's requests; a thread that shared the
// descriptors would wait for an answer from its own dead process for ever, and
// keep /dev/fuse open by that.
//
// What f opens it has to close.
func aside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends. While it is locked here it is not taken again.
			defer runtime.UnlockOSThread()
			done <- aside(f)
			return
		}
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FILES); err != nil {
				return fmt.Errorf("unshare descriptors: %w", err)
			}
			if err := eachFUSE("/proc/thread-self/fd", func(fd int) { unix.Close(fd) }); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-done
}

// eachFUSE calls do for each descriptor of /dev/fuse in a folder of /proc.
func eachFUSE(dir string, do func(fd int)) error {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range fds {
		target, _ := os.Readlink(filepath.Join(dir, entry.Name()))
		if fd, err := strconv.Atoi(entry.Name()); err == nil && target == "/dev/fuse" {
			do(fd)
		}
	}
	return nil
}

// mounted is the path of a probe through the mount.
func (p *probes) mounted(name string) string {
	return filepath.Join(p.disk.mountpoint, probeName, name)
}

const lossName = "power-loss"

var stable, unstable = bytes.Repeat([]byte{'s'}, page), bytes.Repeat([]byte{'u'}, page)

// prepareLoss makes a file that is stable and overwrites it through the mount
// without a sync, for the loss of power to come.
func (p *probes) prepareLoss() error {
	if err := os.WriteFile(filepath.Join(p.dir, lossName), stable, 0o600); err != nil {
		return err
	}
	return aside(func() error {
		fd, err := openRaw(p.mounted(lossName), unix.O_WRONLY)
		if err != nil {
			return fmt.Errorf("open probe: %w", err)
		}
		defer unix.Close(fd)
		if _, err := unix.Pwrite(fd, unstable, 0); err != nil {
			return fmt.Errorf("write probe: %w", err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		p.lossIno = st.Ino
		return nil
	})
}

// seeFrozen asks the disk for something once it is frozen.
func (p *probes) seeFrozen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := aside(func() error {
		_, err := openRaw(p.mounted(fmt.Sprint("frozen-", p.disk.options.Now().Nanoseconds())), unix.O_RDONLY)
		return err
	})
	p.frozen = Evidence{Proof: history.Confirmed, At: p.disk.options.Now(), Detail: "after the freeze a probe file could not be opened: EIO"}
	if err != unix.EIO {
		p.frozen.Proof = history.Mismatch
		p.frozen.Detail = fmt.Sprintf("after the freeze the opening of a probe file said %v instead of EIO", err)
	}
}

// seeLoss looks for what was written to the probe without a sync.
func (p *probes) seeLoss(loss *Loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The probe itself is not the node's.
	loss.Files--
	loss.PagesDropped--
	data, err := os.ReadFile(filepath.Join(p.dir, lossName))
	p.loss = Evidence{At: p.disk.options.Now(), Proof: history.Confirmed,
		Detail: "a probe page that was overwritten without fsync read as before"}
	switch {
	case err != nil:
		p.loss.Proof, p.loss.Detail = history.Inconclusive, err.Error()
	case !bytes.Equal(data, stable):
		p.loss.Proof, p.loss.Detail = history.Mismatch, "a probe page that was overwritten without fsync did not read as before"
	}
	p.loss.Detail += fmt.Sprintf("; %d pages in %d files and %d names went back to their last sync, %d pages were torn",
		loss.PagesDropped, loss.Files, loss.Names, loss.PagesKept)
}

// PowerEvidence tells of a power loss: that the disk failed from the freeze
// on, seen through the mount, and after Crash that what had not been synced is
// gone, seen in the backing directory.
func (d *Disk) PowerEvidence() Evidence {
	d.probes.mu.Lock()
	defer d.probes.mu.Unlock()
	frozen, loss := d.probes.frozen, d.probes.loss
	if frozen.Detail == "" {
		return Evidence{Proof: history.Mismatch, At: d.options.Now(), Detail: "the disk was not frozen"}
	}
	frozen.Detail += fmt.Sprintf("; %d operations were refused", d.refused.Load())
	if loss.Detail == "" {
		return frozen
	}
	if frozen.Proof == history.Confirmed {
		frozen.Proof = loss.Proof
	}
	frozen.Detail += "; " + loss.Detail
	return frozen
}

// Evidence probes an effect through the mount, with a file of the harness's
// own, until the effect is seen, but at most so often that it would go unseen by chance once in a
// million. Call it while the effect is in force; it takes at least the
// latency. Methods that cannot be probed are inconclusive, and so are effects
// that stand beside others on the same operations.
func (a *Applied) Evidence() Evidence {
	p := a.disk.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	ev := Evidence{Proof: history.Inconclusive}
	m, try := a.probe()
	if try == nil {
		ev.Detail = "no probe for " + strings.Join(a.Methods, ", ")
		ev.At = a.disk.options.Now()
		return ev
	}
	name := example(a.Path)
	if !matches(a.Path, name) {
		ev.Detail = fmt.Sprintf("no probe path for %s", a.Path)
		ev.At = a.disk.options.Now()
		return ev
	}
	file := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		ev.Detail = err.Error()
		return ev
	}
	tries := tries(a.Percent)
	var last string
	for i := range tries {
		if err := os.WriteFile(file, stable, 0o600); err != nil {
			ev.Detail = err.Error()
			return ev
		}
		var seen bool
		var word string
		err := aside(func() (err error) {
			seen, word, err = try(a, p.mounted(name), file)
			return err
		})
		ev.At = a.disk.options.Now()
		last = word
		if err != nil {
			ev.Detail = fmt.Sprintf("probe of %s: %v", methods[m], err)
			return ev
		}
		if seen {
			ev.Proof = history.Confirmed
			ev.Detail = fmt.Sprintf("%s of a probe file %s, at try %d", methods[m], word, i+1)
			return ev
		}
	}
	ev.Proof = history.Mismatch
	ev.Detail = fmt.Sprintf("%s of a probe file %s, %d times", methods[m], last, tries)
	return ev
}

// tries is how often to try for a miss by chance once in a million.
func tries(percent int) int {
	miss, n := 1.0, 0
	for miss > 1e-6 && n < 2000 {
		miss *= 1 - float64(percent)/100
		n++
	}
	return n
}

// String tells of the node's operations, as the file system itself counted them.
func (c Count) String() string {
	return fmt.Sprintf("of the node's %d operations %s failed, %s were delayed by %.1f ms in all, %s read or wrote wrong bytes",
		c.Seen, perMethod(c.Errors), perMethod(c.Delays), float64(c.Delayed)/1e6, perMethod(c.Mistakes))
}

func perMethod(counts map[string]int64) string {
	if len(counts) == 0 {
		return "0"
	}
	var words []string
	for _, m := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d (%s)", counts[m], m))
	}
	return strings.Join(words, ", ")
}

// attempt uses a probe file, which holds one stable page, and tells whether
// the effect was seen. The error says that the attempt itself is not possible.
type attempt func(a *Applied, mounted, file string) (seen bool, word string, err error)

// probeOrder holds the methods that can be probed, the least disturbed first.
var probeOrder = []struct {
	method method
	try    attempt
}{
	{mRead, probeRead},
	{mWrite, probeWrite},
	{mFsync, probeFsync},
	{mOpen, timed(func(name string) error {
		fd, err := openRaw(name, unix.O_RDONLY)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})},
	{mCreate, timed(func(name string) error {
		fd, err := openRaw(fmt.Sprint(name, ".new"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})},
	{mMkdir, timed(func(name string) error { return unix.Mkdir(name+".new", 0o700) })},
	{mRename, timed(func(name string) error { return unix.Rename(name, name+".new") })},
	{mUnlink, timed(unix.Unlink)},
	{mSetattr, timed(func(name string) error { return unix.Chmod(name, 0o600) })},
}

// probe picks what the effect can be probed with. Read and write come first
// only where the opening that they need is not affected too.
func (a *Applied) probe() (method, attempt) {
	for _, p := range probeOrder {
		needsOpen := p.method == mRead || p.method == mWrite || p.method == mFsync
		if a.methods&(1<<p.method) == 0 || needsOpen && a.Errno != 0 && a.methods&(1<<mOpen|1<<mLookup) != 0 {
			continue
		}
		if a.Mistake != nil && p.method != mRead && p.method != mWrite {
			continue
		}
		return p.method, p.try
	}
	if a.methods&(1<<mOpen) != 0 {
		return mOpen, probeOrder[3].try
	}
	return 0, nil
}

// timed probes an operation that says no more than how long it took and with
// which error it ended.
func timed(op func(name string) error) attempt {
	return func(a *Applied, mounted, file string) (bool, string, error) {
		os.RemoveAll(file + ".new")
		start := time.Now()
		err := op(mounted)
		return a.judge(err, time.Since(start))
	}
}

// judge compares an operation's error and time with the effect's.
func (a *Applied) judge(err error, took time.Duration) (bool, string, error) {
	word := fmt.Sprintf("took %.1f ms", float64(took)/1e6)
	if err != nil {
		word += fmt.Sprintf(" and failed with %s", unix.ErrnoName(err.(syscall.Errno)))
	}
	if a.Errno != 0 {
		return err == a.Errno && took >= a.Latency, word, nil
	}
	return err == nil && took >= a.Latency, word, nil
}

func probeRead(a *Applied, mounted, file string) (bool, string, error) {
	fd, err := openRaw(mounted, unix.O_RDONLY|unix.O_DIRECT) // past the kernel's cache
	if err != nil {
		return false, "", err
	}
	defer unix.Close(fd)
	var data [page]byte
	start := time.Now()
	_, err = unix.Pread(fd, data[:], 0)
	took := time.Since(start)
	if a.Mistake != nil && err == nil {
		wrong := different(data[:])
		return wrong > 0, fmt.Sprintf("had %d wrong bytes of %d", wrong, page), nil
	}
	return a.judge(err, took)
}

func probeWrite(a *Applied, mounted, file string) (bool, string, error) {
	fd, err := openRaw(mounted, unix.O_WRONLY)
	if err != nil {
		return false, "", err
	}
	defer unix.Close(fd)
	start := time.Now()
	_, err = unix.Pwrite(fd, stable, 0)
	took := time.Since(start)
	if a.Mistake != nil && err == nil {
		data, err := os.ReadFile(file)
		wrong := different(data)
		return wrong > 0, fmt.Sprintf("left %d wrong bytes of %d", wrong, page), err
	}
	return a.judge(err, took)
}

func probeFsync(a *Applied, mounted, file string) (bool, string, error) {
	fd, err := openRaw(mounted, unix.O_WRONLY)
	if err != nil {
		return false, "", err
	}
	defer unix.Close(fd)
	start := time.Now()
	err = unix.Fsync(fd)
	return a.judge(err, time.Since(start))
}

func different(data []byte) int {
	wrong := page - len(data)
	for i, b := range data {
		if b != stable[i] {
			wrong++
		}
	}
	return wrong
}

// Evidence probes a quota through the mount: more than what is left of it
// cannot be allocated.
func (q *Quota) Evidence() Evidence {
	p := q.disk.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	ev := Evidence{Proof: history.Inconclusive}
	file := filepath.Join(p.dir, "quota")
	err := os.WriteFile(file, nil, 0o600)
	left := max(0, q.free.Load())
	const more = 1 << 20 // the node may free some meanwhile
	var full error
	if err == nil {
		err = aside(func() error {
			fd, err := openRaw(p.mounted("quota"), unix.O_WRONLY)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if full = unix.Fallocate(fd, 0, 0, left+more); full == nil {
				return unix.Ftruncate(fd, 0)
			}
			return nil
		})
	}
	if err != nil {
		ev.At, ev.Detail = q.disk.options.Now(), err.Error()
		return ev
	}
	ev.At = q.disk.options.Now()
	ev.Proof = history.Confirmed
	ev.Detail = fmt.Sprintf("with %d bytes left a probe file of %d failed with ENOSPC", left, left+more)
	if full != unix.ENOSPC {
		ev.Proof = history.Mismatch
		ev.Detail = fmt.Sprintf("with %d bytes left a probe file of %d did not fail with ENOSPC: %v", left, left+more, full)
	}
	return ev
}

// openRaw opens without Go's poller, which would ask our own file system
// about readiness.
func openRaw(name string, flags int) (int, error) {
	for {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// example is a path that a glob matches, if it has no character classes that
// are too clever.
func example(glob string) string {
	if glob == "" {
		return "probe"
	}
	parts := strings.Split(strings.Trim(glob, "/"), "/")
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "**" })
	for i, part := range parts {
		var b strings.Builder
		for j := 0; j < len(part); j++ {
			switch c := part[j]; {
			case c == '*':
				b.WriteString("probe")
			case c == '?':
				b.WriteByte('p')
			case c == '\\' && j+1 < len(part):
				j++
				b.WriteByte(part[j])
			case c == '[':
				end := strings.IndexByte(part[j:], ']')
				if end < 0 {
					return ""
				}
				class := part[j : j+end+1]
				for letter := byte('0'); letter <= 'z'; letter++ {
					if ok, _ := path.Match(class, string(rune(letter))); ok {
						b.WriteByte(letter)
						break
					}
				}
				j += end
			default:
				b.WriteByte(c)
			}
		}
		parts[i] = b.String()
	}
	if len(parts) == 0 {
		return "probe"
	}
	return path.Join(parts...)
}
