package disk

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestNotInherited: a child that had /dev/fuse open would keep the file system
// alive, and itself waiting for it, when this process is killed.
func TestNotInherited(t *testing.T) {
	newFixture(t, Options{PowerLoss: true})
	found := 0
	err := eachFUSE("/proc/self/fd", func(fd int) {
		found++
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d of /dev/fuse has flags %d, %v", fd, flags, err)
		}
	})
	if err != nil || found == 0 {
		t.Errorf("%d descriptors of /dev/fuse, %v", found, err)
	}
}
