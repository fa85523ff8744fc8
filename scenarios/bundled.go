package scenarios

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"statequake/fixtures/custom"
)

//go:embed *.yaml bugs/*.yaml suites/*/*.yaml
var bundled embed.FS

// Info describes a bundled scenario.
type Info struct {
	Name     string // as Open takes it, for instance "quickstart" or "bugs/no-fence"
	Scenario *Scenario
}

// Bundled returns the scenarios that come with the program, those in the top
// folder first, by name.
func Bundled() []Info {
	var infos []Info
	for _, name := range bundledNames() {
		data, err := Source(name)
		if err != nil {
			panic(err) // the name was just listed
		}
		s, err := Parse(name+".yaml", data, Options{})
		if err != nil {
			panic(err) // a defect of this build; the tests parse every one
		}
		infos = append(infos, Info{name, s})
	}
	return infos
}

func bundledNames() []string {
	var names []string
	for _, pattern := range []string{"*.yaml", "bugs/*.yaml"} {
		files, err := fs.Glob(bundled, pattern)
		if err != nil {
			panic(err) // the patterns are constants
		}
		for _, f := range files {
			names = append(names, strings.TrimSuffix(f, ".yaml"))
		}
	}
	return names
}

// Open parses the scenario in the file nameOrPath or, if there is no such
// file, the bundled scenario of that name, with or without ".yaml".
func Open(nameOrPath string, opt Options) (*Scenario, error) {
	file, data, err := read(nameOrPath)
	if err != nil {
		return nil, err
	}
	return Parse(file, data, opt)
}

// read returns the text that Open parses, and the file to name in errors.
func read(nameOrPath string) (file string, data []byte, err error) {
	f, err := os.Open(nameOrPath)
	if err != nil {
		return readBundled(nameOrPath, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return readBundled(nameOrPath, fmt.Errorf("%s: is a folder, not a scenario", nameOrPath))
	}
	// One byte more than allowed, so that Parse sees that it is too much.
	if data, err = io.ReadAll(io.LimitReader(f, maxSize+1)); err != nil {
		return "", nil, fmt.Errorf("read scenario: %w", err)
	}
	return nameOrPath, data, nil
}

// readBundled returns a bundled scenario. noFile says why the name is not that
// of a file.
func readBundled(name string, noFile error) (file string, data []byte, err error) {
	data, err = Source(name)
	switch {
	case err == nil:
		return strings.TrimSuffix(name, ".yaml") + ".yaml", data, nil
	case errors.Is(noFile, fs.ErrNotExist):
		return "", nil, fmt.Errorf("no file %q and %w", name, err)
	default:
		return "", nil, noFile
	}
}

// Source returns the text of a bundled scenario, one that only a bundled suite
// has included, by its name with or without ".yaml". The error for an unknown one lists those that there are.
func Source(name string) ([]byte, error) {
	bare, names := strings.TrimSuffix(name, ".yaml"), bundledNames()
	if slices.Contains(names, bare) || slices.Contains(namesInSuites(), bare) {
		return bundled.ReadFile(bare + ".yaml")
	}
	hint := custom.DidYouMean(bare, slices.Concat(names, suiteNames(), namesInSuites()))
	if hint == "" {
		hint = "statequake scenarios lists them with what they claim"
	}
	return nil, fmt.Errorf("no bundled scenario %q; %s\nhint: %s", name, oneOf(names), hint)
}
