package compare

import (
	"os"
	"path/filepath"
)

// Dirs returns the directories of the side's runs, in their order.
func (s *Side) Dirs() []string {
	if _, err := os.Stat(filepath.Join(s.Path, verdictFile)); err == nil {
		return []string{s.Path}
	}
	dirs := make([]string, len(s.Runs))
	for i := range s.Runs {
		dirs[i] = filepath.Join(s.Path, s.Runs[i].Name)
	}
	return dirs
}
