package main

import (
	"errors"
	"fmt"
	"os"

	"statequake/history"
	"statequake/reports/export"
)

// exportStream writes a run in a format that is written while the run is read, to
// stdout if out is empty.
func exportStream(dir string, format export.Format, phases []history.Phase, out string) error {
	file := &lateFile{path: out}
	if out == "" {
		file.File = os.Stdout
	}
	summary, err := export.Stream(file, dir, format, phases)
	if file.File != nil && out != "" {
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return err
	}
	if summary.Torn {
		fmt.Fprintf(os.Stderr, "statequake: %s: the history is torn; operations may be missing at its end\n", dir)
	}
	if format == export.HDR && summary.Unsent > 0 {
		fmt.Fprintf(os.Stderr, "statequake: %s: operations that were never sent have no latency and are not in the log: %d\n", dir, summary.Unsent)
	}
	return nil
}

// lateFile is created when something is written to it: nothing to export leaves
// no file.
type lateFile struct {
	path string
	*os.File
}

func (f *lateFile) Write(p []byte) (n int, err error) {
	if f.File == nil {
		if f.File, err = os.Create(f.path); err != nil {
			return 0, err
		}
	}
	return f.File.Write(p)
}
