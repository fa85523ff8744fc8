package reports

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Write writes verdict.json, report.md, junit.xml and results.bench into the
// run directory. Each file is replaced as a whole or not at all; verdict.json
// comes last, so its presence says that the others are there.
func Write(dir string, v *Verdict) error {
	verdict, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode verdict.json: %w", err)
	}
	tests, err := junit(v)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		data []byte
	}{
		{"report.md", markdown(v)},
		{"junit.xml", tests},
		{"results.bench", bench(v)},
		{"verdict.json", append(verdict, '\n')},
	} {
		if err := replace(filepath.Join(dir, file.name), file.data); err != nil {
			return fmt.Errorf("write %s: %w", file.name, err)
		}
	}
	return nil
}

// replace puts a file with the data at path, whatever was there.
func replace(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
