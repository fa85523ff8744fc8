package testnode

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// DiskVariable names a directory in the environment of a node: there it adds a
// line with its pid to the file synced, again and again, and syncs it each
// time; and to the file loose one that it never syncs. It ends on an error.
const DiskVariable = "TESTNODE_DISK"

func write(dir string) {
	add := func(name string, sync bool) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintln(f, os.Getpid())
		}
		if err == nil && sync {
			err = f.Sync()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		f.Close()
	}
	add("loose", false)
	for {
		add("synced", true)
		time.Sleep(time.Millisecond)
	}
}
