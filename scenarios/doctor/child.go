package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"statequake/fixtures/sandbox"
)

// marker is the environment variable that names the probe, in the process that
// carries it out, and the role in the processes that it starts.
const marker = "STATEQUAKE_DOCTOR"

// result is what a probe prints, as one line of JSON.
type result struct {
	State   State
	Found   string
	Figures map[string]int64 `json:",omitempty"`

	Namespaces bool          `json:",omitempty"` // missing, and what was tried needs them
	Step       string        `json:",omitempty"` // what failed, for the hints
	Errno      syscall.Errno `json:",omitempty"`
}

// missing says that something could not be done.
func missing(step string, err error) result {
	text := firstLine(err.Error())
	if !strings.HasPrefix(text, step+": ") {
		text = step + ": " + text
	}
	r := result{State: Missing, Found: text, Step: step}
	errors.As(err, &r.Errno)
	return r
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// Main is the whole program if this process carries out a probe, and nothing
// otherwise. Call it first in main, behind stress.Main.
func Main() {
	name := os.Getenv(marker)
	if name == "" {
		return
	}
	if role, ok := roles[name]; ok {
		role()
		os.Exit(0)
	}
	p, ok := probes[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "statequake: doctor: no probe %q\n", name)
		os.Exit(3)
	}
	var r result
	if p.inside != never && !sandbox.Inside() {
		code, err := sandbox.Enter()
		var unavailable *sandbox.Unavailable
		switch {
		case err == nil:
			os.Exit(code)
		case p.inside == always || !errors.As(err, &unavailable):
			r = missing("namespaces", err)
			if errors.As(err, &unavailable) {
				r = missing(unavailable.Step, unavailable.Err)
			}
			r.Namespaces = true
			if name != "namespaces" {
				r.Found = "not tried without private namespaces"
			}
			tell(r)
		}
	}
	tell(p.run())
}

func tell(r result) {
	line, err := json.Marshal(r)
	if err != nil {
		panic(err) // of a struct without maps of interfaces
	}
	os.Stdout.Write(line)
	os.Exit(0)
}

// try carries out the probe in a process of its own, in a folder of its own below
// dir or in the current directory.
func (c check) try(ctx context.Context, dir string) result {
	self, err := os.Executable()
	if err != nil {
		return missing("find this program", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), marker+"="+c.probe)
	cmd.WaitDelay = time.Second
	if !c.here {
		cmd.Dir = filepath.Join(dir, c.probe)
		if err := os.Mkdir(cmd.Dir, 0o755); err != nil {
			return missing("make a folder", err)
		}
	}
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := sandbox.Start(cmd); err != nil {
		return missing("start this program", err)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return missing("probe", fmt.Errorf("no result within %v", c.limit))
	}
	var r result
	if jsonErr := json.Unmarshal(out.Bytes(), &r); jsonErr != nil {
		if err == nil {
			err = jsonErr
		}
		if problems.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, firstLine(problems.String()))
		}
		return missing("probe", err)
	}
	return r
}
