package reports

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"statequake/reports/check"
	"statequake/reports/plot"
)

// searched are Porcupine's pictures of a check's violations.
func searched(r check.Result) [][]byte {
	var pages [][]byte
	for _, v := range r.Violations {
		if v.Drawing != nil {
			pages = append(pages, v.Drawing)
		}
	}
	return pages
}

// searches are the pages porcupine-1.html and so on of the run directory, each
// with the picture of one violation, in order of the checks.
func (v *Verdict) searches() []plot.File {
	var files []plot.File
	for _, r := range v.Checks {
		for _, page := range searched(r) {
			files = append(files, plot.File{Name: fmt.Sprintf("porcupine-%d.html", len(files)+1), Data: page})
		}
	}
	return files
}

// removeSearches removes the pages of an earlier verdict that are not in files.
func removeSearches(dir string, files []plot.File) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		old, _ := filepath.Match("porcupine-*.html", e.Name())
		if !old || slices.ContainsFunc(files, func(f plot.File) bool { return f.Name == e.Name() }) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
