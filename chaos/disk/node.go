package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file, directory or other inode. It holds an O_PATH descriptor, so
// that nothing depends on the names that it has, and its inode number
// is not given to another one.
type node struct {
	fs.Inode
	disk  *Disk
	at    *os.File // O_PATH
	ino   uint64
	probe bool // below the probes' directory
}

func (n *node) fd() int { return int(n.at.Fd()) }

// self is a path to the inode for calls that take no O_PATH descriptor.
func (n *node) self() string { return fmt.Sprintf("/proc/thread-self/fd/%d", n.fd()) }

// path is the path of a name in n, or of n itself, relative to the mount;
// a probe's as if it were the node's own.
func (n *node) path(name string) (path string, probe bool) {
	path = n.Path(nil)
	if name != "" {
		path = strings.TrimPrefix(path+"/"+name, "/")
	}
	rest, probe := strings.CutPrefix(path, probeName+"/")
	return rest, probe
}

// open opens an inode of the backing directory.
func (d *Disk) open(dir int, name string) (*node, *fuse.Attr, syscall.Errno) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fs.ToErrno(err)
	}
	n := &node{disk: d, at: os.NewFile(uintptr(fd), name)}
	var attr fuse.Attr
	if errno := n.attr(&attr); errno != 0 {
		n.at.Close()
		return nil, nil, errno
	}
	n.ino = attr.Ino
	return n, &attr, 0
}

// child returns the inode with a name in n.
func (n *node) child(ctx context.Context, name string, attr *fuse.Attr) (*fs.Inode, syscall.Errno) {
	if known := n.GetChild(name); known != nil {
		// Most look-ups are of what is known: they need no new descriptor.
		c := known.Operations().(*node)
		var st unix.Stat_t
		if err := unix.Fstatat(n.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, fs.ToErrno(err)
		}
		if st.Ino == c.ino {
			if errno := c.attr(attr); errno == 0 {
				return known, 0
			}
		}
	}
	c, found, errno := n.disk.open(n.fd(), name)
	if errno != 0 {
		return nil, errno
	}
	c.probe = n.probe
	*attr = *found
	return n.NewInode(ctx, c, fs.StableAttr{Mode: attr.Mode & syscall.S_IFMT, Ino: attr.Ino, Gen: 1}), 0
}

// OnForget closes the descriptor of an inode without a name, which would
// otherwise keep its space. Others may come back by a look-up at the same time;
// theirs is closed when they are collected.
func (n *node) OnForget() {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd(), &st); err == nil && st.Nlink == 0 && !n.IsRoot() {
		n.at.Close()
	}
}

func (n *node) attr(out *fuse.Attr) syscall.Errno {
	var st syscall.Stat_t
	if err := syscall.Fstat(n.fd(), &st); err != nil {
		return fs.ToErrno(err)
	}
	if n.disk.shadow != nil && n.disk.shadow.keeps(st.Ino) {
		st.Nlink-- // the shadow's own
	}
	out.FromStat(&st)
	return 0
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	if n.IsRoot() && name == probeName {
		return n.disk.probes.lookup(ctx, n, &out.Attr)
	}
	errno = n.disk.do(mLookup, n, name, func() (errno syscall.Errno) {
		child, errno = n.child(ctx, name, &out.Attr)
		return errno
	})
	return child, errno
}

func (n *node) Getattr(ctx context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.disk.do(mGetattr, n, "", func() syscall.Errno { return n.attr(&out.Attr) })
}

func (n *node) Setattr(ctx context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.disk.do(mSetattr, n, "", func() syscall.Errno {
		if errno := n.setattr(in); errno != 0 {
			return errno
		}
		return n.attr(&out.Attr)
	})
}

func (n *node) setattr(in *fuse.SetAttrIn) syscall.Errno {
	uid, gid := -1, -1
	if id, ok := in.GetUID(); ok {
		uid = int(id)
	}
	if id, ok := in.GetGID(); ok {
		gid = int(id)
	}
	if uid >= 0 || gid >= 0 {
		if err := unix.Fchownat(n.fd(), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return fs.ToErrno(err)
		}
	}
	if mode, ok := in.GetMode(); ok { // after the owner, which clears setuid
		if err := unix.Chmod(n.self(), mode); err != nil {
			return fs.ToErrno(err)
		}
	}
	if size, ok := in.GetSize(); ok {
		if errno := n.truncate(int64(size)); errno != 0 {
			return errno
		}
	}
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	times := []unix.Timespec{omit, omit}
	if at, ok := in.GetATime(); ok {
		times[0] = unix.NsecToTimespec(at.UnixNano())
	}
	if at, ok := in.GetMTime(); ok { // after the size, which sets it
		times[1] = unix.NsecToTimespec(at.UnixNano())
	}
	if times[0] != omit || times[1] != omit {
		return fs.ToErrno(unix.UtimesNanoAt(n.fd(), "", times, unix.AT_EMPTY_PATH))
	}
	return 0
}

func (n *node) truncate(size int64) syscall.Errno {
	grown, errno := n.grow(size, false)
	if errno != 0 {
		return errno
	}
	errno = n.modify(func() (from, end int64) { return size, -1 }, func() syscall.Errno {
		return fs.ToErrno(unix.Truncate(n.self(), size))
	})
	if errno != 0 {
		n.disk.take(-grown, n.probe)
	}
	return errno
}

// grow takes what a file will grow to off the quotas. A size below the
// present one gives back, unless atLeast.
func (n *node) grow(size int64, atLeast bool) (int64, syscall.Errno) {
	if !n.disk.limited() {
		return 0, 0
	}
	var st unix.Stat_t
	if err := unix.Fstat(n.fd(), &st); err != nil {
		return 0, fs.ToErrno(err)
	}
	grown := size - st.Size
	if atLeast {
		grown = max(0, grown)
	}
	return grown, n.disk.take(grown, n.probe)
}

// modify runs what changes the bytes [from, end) of a file or its size; an end
// of -1 means all that there are. The shadow looks at what was there before.
func (n *node) modify(where func() (from, end int64), op func() syscall.Errno) syscall.Errno {
	if n.disk.shadow == nil {
		return op()
	}
	from, end := where()
	return n.disk.shadow.modify(n, from, end, op)
}

func (n *node) Readlink(ctx context.Context) (target []byte, errno syscall.Errno) {
	errno = n.disk.do(mReadlink, n, "", func() syscall.Errno {
		target = make([]byte, unix.PathMax)
		size, err := unix.Readlinkat(n.fd(), "", target)
		target = target[:max(0, size)]
		return fs.ToErrno(err)
	})
	return target, errno
}

// names runs what changes names in a directory.
func (n *node) names(op func() error, changed ...change) syscall.Errno {
	if n.disk.shadow == nil {
		return fs.ToErrno(op())
	}
	return n.disk.shadow.names(op, changed...)
}

// make runs what creates a name, and looks up what it is.
func (n *node) make(ctx context.Context, m method, name string, out *fuse.EntryOut, op func() error) (child *fs.Inode, errno syscall.Errno) {
	errno = n.disk.do(m, n, name, func() (errno syscall.Errno) {
		if errno = n.names(op, change{n, name}); errno != 0 {
			return errno
		}
		n.own(ctx, name)
		child, errno = n.child(ctx, name, &out.Attr)
		return errno
	})
	return child, errno
}

// own gives a new inode to who asked for it.
func (n *node) own(ctx context.Context, name string) {
	caller, ok := fuse.FromContext(ctx)
	if !ok || int(caller.Uid) == os.Getuid() && int(caller.Gid) == os.Getgid() {
		return
	}
	gid := int(caller.Gid)
	var dir unix.Stat_t
	if unix.Fstat(n.fd(), &dir) == nil && dir.Mode&unix.S_ISGID != 0 {
		gid = -1
	}
	// Without the right to it the inode stays ours, as on any FUSE mount.
	unix.Fchownat(n.fd(), name, int(caller.Uid), gid, unix.AT_SYMLINK_NOFOLLOW)
}

func (n *node) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.make(ctx, mMknod, name, out, func() error { return unix.Mknodat(n.fd(), name, mode, int(dev)) })
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.make(ctx, mMkdir, name, out, func() error { return unix.Mkdirat(n.fd(), name, mode) })
}

func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.make(ctx, mSymlink, name, out, func() error { return unix.Symlinkat(target, n.fd(), name) })
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	t := target.(*node)
	if t.probe != n.probe {
		return nil, syscall.EXDEV
	}
	return n.make(ctx, mLink, name, out, func() error {
		return unix.Linkat(unix.AT_FDCWD, t.self(), n.fd(), name, unix.AT_SYMLINK_FOLLOW)
	})
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.disk.do(mUnlink, n, name, func() syscall.Errno {
		freed := n.lastName(name)
		errno := n.names(func() error { return unix.Unlinkat(n.fd(), name, 0) }, change{n, name})
		if errno == 0 {
			n.disk.take(-freed, n.probe)
		}
		return errno
	})
}

// lastName is how many bytes the file loses with this name; 0 if it has
// others, or no quota holds.
func (n *node) lastName(name string) int64 {
	var st unix.Stat_t
	if !n.disk.limited() || unix.Fstatat(n.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	if n.disk.shadow != nil && n.disk.shadow.keeps(st.Ino) {
		st.Nlink--
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 {
		return 0
	}
	return st.Size
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.disk.do(mRmdir, n, name, func() syscall.Errno {
		return n.names(func() error { return unix.Unlinkat(n.fd(), name, unix.AT_REMOVEDIR) }, change{n, name})
	})
}

func (n *node) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to := newParent.(*node)
	if to.probe != n.probe {
		return syscall.EXDEV
	}
	return n.disk.do(mRename, n, name, func() syscall.Errno {
		var freed int64
		if flags&unix.RENAME_EXCHANGE == 0 {
			freed = to.lastName(newName)
		}
		errno := n.names(func() error { return unix.Renameat2(n.fd(), name, to.fd(), newName, uint(flags)) },
			change{n, name}, change{to, newName})
		if errno == 0 {
			n.disk.take(-freed, n.probe)
		}
		return errno
	})
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (child *fs.Inode, h fs.FileHandle, _ uint32, errno syscall.Errno) {
	errno = n.disk.do(mCreate, n, name, func() (errno syscall.Errno) {
		var fd int
		errno = n.names(func() (err error) {
			fd, err = unix.Openat(n.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|int(flags)&unix.O_SYNC, mode)
			return err
		}, change{n, name})
		if errno != 0 && (errno != syscall.EEXIST || flags&unix.O_EXCL != 0) {
			return errno
		}
		var file *os.File
		if errno == 0 {
			file = os.NewFile(uintptr(fd), name)
			n.own(ctx, name)
		}
		if child, errno = n.child(ctx, name, &out.Attr); errno != 0 {
			return errno
		}
		c := child.Operations().(*node)
		if file == nil && flags&unix.O_TRUNC != 0 { // it was made between the kernel's look-up and now
			if errno = c.truncate(0); errno != 0 {
				return errno
			}
		}
		h, errno = c.handle(flags, file)
		return errno
	})
	return child, h, 0, errno
}

func (n *node) Open(ctx context.Context, flags uint32) (h fs.FileHandle, _ uint32, errno syscall.Errno) {
	errno = n.disk.do(mOpen, n, "", func() (errno syscall.Errno) {
		if flags&unix.O_TRUNC != 0 {
			if errno = n.truncate(0); errno != 0 {
				return errno
			}
		}
		h, errno = n.handle(flags, nil)
		return errno
	})
	return h, 0, errno
}

func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	return n.disk.do(mStatfs, n, "", func() syscall.Errno {
		var st syscall.Statfs_t
		if err := syscall.Fstatfs(n.fd(), &st); err != nil {
			return fs.ToErrno(err)
		}
		if act := n.disk.active.Load(); act != nil {
			for _, q := range act.quotas {
				left := uint64(max(0, q.free.Load())) / uint64(st.Bsize)
				st.Bfree, st.Bavail = min(st.Bfree, left), min(st.Bavail, left)
			}
		}
		out.FromStatfsT(&st)
		return 0
	})
}

func (n *node) Getxattr(ctx context.Context, attr string, dest []byte) (size uint32, errno syscall.Errno) {
	errno = n.disk.do(mGetxattr, n, "", func() syscall.Errno {
		count, err := unix.Getxattr(n.self(), attr, dest)
		size = uint32(max(0, count))
		return fs.ToErrno(err)
	})
	return size, errno
}

func (n *node) Listxattr(ctx context.Context, dest []byte) (size uint32, errno syscall.Errno) {
	errno = n.disk.do(mListxattr, n, "", func() syscall.Errno {
		count, err := unix.Listxattr(n.self(), dest)
		size = uint32(max(0, count))
		return fs.ToErrno(err)
	})
	return size, errno
}

func (n *node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	return n.disk.do(mSetxattr, n, "", func() syscall.Errno {
		return fs.ToErrno(unix.Setxattr(n.self(), attr, data, int(flags)))
	})
}

func (n *node) Removexattr(ctx context.Context, attr string) syscall.Errno {
	return n.disk.do(mRemovexattr, n, "", func() syscall.Errno {
		return fs.ToErrno(unix.Removexattr(n.self(), attr))
	})
}

// handle is an open file.
type handle struct {
	node  *node
	file  *os.File
	sync  bool // every write is to be stable
	write bool
}

// handle opens the file, if it is not open yet. The backing file is never
// opened with O_APPEND, since the kernel says where to write, nor with
// O_DIRECT, since our buffers are not aligned.
func (n *node) handle(flags uint32, file *os.File) (*handle, syscall.Errno) {
	access := int(flags) & unix.O_ACCMODE
	if file == nil {
		fd, err := unix.Open(n.self(), access|unix.O_CLOEXEC|int(flags)&(unix.O_SYNC|unix.O_NOATIME), 0)
		if err != nil {
			return nil, fs.ToErrno(err)
		}
		file = os.NewFile(uintptr(fd), "file")
	}
	h := &handle{node: n, file: file, sync: flags&unix.O_DSYNC != 0, write: access != unix.O_RDONLY}
	if h.write && n.disk.shadow != nil {
		if errno := n.disk.shadow.opened(n); errno != 0 {
			file.Close()
			return nil, errno
		}
	}
	return h, 0
}

func (h *handle) fd() int { return int(h.file.Fd()) }

func (h *handle) Read(ctx context.Context, dest []byte, off int64) (result fuse.ReadResult, errno syscall.Errno) {
	d := h.node.disk
	errno = d.do(mRead, h.node, "", func() syscall.Errno {
		size, err := pread(h.fd(), dest, off)
		if err != nil {
			return fs.ToErrno(err)
		}
		data := dest[:size]
		if act := d.active.Load(); act != nil {
			path, probe := h.node.path("")
			data = act.corrupt(mRead, path, probe, data)
		}
		result = fuse.ReadResultData(data)
		return 0
	})
	return result, errno
}

func (h *handle) Write(ctx context.Context, data []byte, off int64) (written uint32, errno syscall.Errno) {
	n := h.node
	errno = n.disk.do(mWrite, n, "", func() syscall.Errno {
		grown, errno := n.grow(off+int64(len(data)), true)
		if errno != 0 {
			return errno
		}
		if act := n.disk.active.Load(); act != nil {
			path, probe := n.path("")
			data = act.corrupt(mWrite, path, probe, data)
		}
		errno = n.modify(func() (int64, int64) { return off, off + int64(len(data)) }, func() syscall.Errno {
			for {
				size, err := unix.Pwrite(h.fd(), data, off)
				written = uint32(max(0, size))
				if err != unix.EINTR {
					return fs.ToErrno(err)
				}
			}
		})
		if errno != 0 {
			n.disk.take(-grown, n.probe)
			return errno
		}
		if h.sync && n.disk.shadow != nil {
			n.disk.shadow.synced(n)
		}
		return 0
	})
	return written, errno
}

func (h *handle) Flush(ctx context.Context) syscall.Errno {
	return h.node.disk.do(mFlush, h.node, "", func() syscall.Errno { return 0 })
}

func (h *handle) Release(ctx context.Context) syscall.Errno {
	n := h.node
	errno := n.disk.do(mRelease, n, "", func() syscall.Errno { return 0 })
	h.file.Close()
	if h.write && n.disk.shadow != nil {
		n.disk.shadow.released(n)
	}
	return errno
}

// isDataSync is the flag of a request that fdatasync makes.
const isDataSync = 1

func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	return h.node.disk.do(mFsync, h.node, "", func() syscall.Errno {
		var err error
		if flags&isDataSync != 0 {
			err = unix.Fdatasync(h.fd())
		} else {
			err = unix.Fsync(h.fd())
		}
		if err == nil && h.node.disk.shadow != nil {
			h.node.disk.shadow.synced(h.node)
		}
		return fs.ToErrno(err)
	})
}

func (h *handle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	at, err := unix.Seek(h.fd(), int64(off), int(whence))
	return uint64(at), fs.ToErrno(err)
}

func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode&^(unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
		return syscall.EOPNOTSUPP
	}
	n := h.node
	return n.disk.do(mFallocate, n, "", func() syscall.Errno {
		var grown int64
		var errno syscall.Errno
		if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
			if grown, errno = n.grow(int64(off+size), true); errno != 0 {
				return errno
			}
		}
		where := func() (int64, int64) {
			if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) == 0 {
				return 0, 0 // only the size
			}
			return int64(off), int64(off + size)
		}
		errno = n.modify(where, func() syscall.Errno {
			return fs.ToErrno(unix.Fallocate(h.fd(), mode, int64(off), int64(size)))
		})
		if errno != 0 {
			n.disk.take(-grown, n.probe)
		}
		return errno
	})
}

// dirHandle is an open directory.
type dirHandle struct {
	fs.DirStream
	node *node
	fd   int // the stream's
}

func (n *node) OpendirHandle(ctx context.Context, flags uint32) (h fs.FileHandle, _ uint32, errno syscall.Errno) {
	errno = n.disk.do(mOpendir, n, "", func() syscall.Errno {
		fd, err := unix.Openat(n.fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fs.ToErrno(err)
		}
		stream, errno := fs.NewLoopbackDirStreamFd(fd)
		h = &dirHandle{stream, n, fd}
		return errno
	})
	return h, 0, errno
}

func (h *dirHandle) Readdirent(ctx context.Context) (entry *fuse.DirEntry, errno syscall.Errno) {
	errno = h.node.disk.do(mReaddir, h.node, "", func() (errno syscall.Errno) {
		if !h.HasNext() {
			return 0
		}
		next, errno := h.Next()
		entry = &next
		return errno
	})
	return entry, errno
}

func (h *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	return h.DirStream.(fs.FileSeekdirer).Seekdir(ctx, off)
}

func (h *dirHandle) Releasedir(ctx context.Context, flags uint32) { h.Close() }

func (h *dirHandle) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return h.node.disk.do(mFsyncdir, h.node, "", func() syscall.Errno {
		err := unix.Fsync(h.fd)
		if err == nil && h.node.disk.shadow != nil {
			h.node.disk.shadow.synced(h.node)
		}
		return fs.ToErrno(err)
	})
}

// dropCache makes the kernel ask for the contents of files again.
func (d *Disk) dropCache() {
	if d.mounted.Load() && !d.frozen.Load() {
		dropCache(&d.root.Inode)
	}
}

func dropCache(dir *fs.Inode) {
	for _, child := range dir.Children() {
		if child.IsDir() {
			dropCache(child)
		} else {
			child.NotifyContent(0, 0) // an error says that the kernel does not know it
		}
	}
}

// pread reads until dest is full or the file ends.
func pread(fd int, dest []byte, off int64) (int, error) {
	total := 0
	for total < len(dest) {
		size, err := unix.Pread(fd, dest[total:], off+int64(total))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || size == 0 {
			return total, err
		}
		total += size
	}
	return total, nil
}
