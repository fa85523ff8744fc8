// Package disk puts a file system under a node's data directory that can fail
// on command: a FUSE pass-through with I/O errors, delays, wrong bytes, a full
// disk, and the loss of power.
//
// # Power loss
//
// With Options.PowerLoss every operation still goes to the backing directory,
// and the disk remembers beside it what was there at the last sync: of a file
// the old content of the 4 KiB pages that were changed since, and its size;
// of a directory the names that were changed since. Freeze cuts the power: from one
// instant on every operation fails with EIO. When the process was killed and
// the disk unmounted, Crash puts back what was remembered, and the backing
// directory can be mounted again.
//
// Contents become stable by fsync or fdatasync of the file, or a write to a
// handle with O_SYNC or O_DSYNC. Names become stable by Options.Strict:
//
//	false  with any of those on any file or directory, as in ext4's journal
//	true   with fsync of their directory only
//
// Nothing becomes stable by itself with time, as it would after some seconds
// on a real disk, and nothing by sync(2), which a FUSE file system does not
// learn of. Of metadata only sizes and names are remembered: modes, owners,
// times and extended attributes are stable at once. A directory that the
// strict rule would show under two names shows under the newer one.
//
// # What the kernel answers itself
//
// Reads of cached pages never reach the disk, and names and attributes are
// cached for 100 ms: no effect applies to them, and they are still there
// after Freeze. An effect on reads drops the cached pages of all files when it
// begins. File locks are the kernel's alone: getlk and setlk never come here.
//
// Left out: attrOverride, O_TMPFILE, collapsing and inserting ranges, which
// answer EOPNOTSUPP.
package disk
