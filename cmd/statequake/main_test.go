package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"

	"statequake/chaos/stress"
	"statequake/fixtures/postgres"
	"statequake/scenarios/doctor"
)

func TestMain(m *testing.M) {
	stress.Main()
	doctor.Main()
	testscript.Main(m, map[string]func(){"statequake": main})
}

// TestScripts runs testdata/*.txtar. Beside the commands of testscript they have
//
//	code N COMMAND...   run a command, which must end with exit code N
//	listen NAME         keep a loopback port busy and put it into the variable
//	endpoint NAME       start an HTTP server and put its URL into the variable
//	load N FLAGS...     statequake load, which must end with exit code N
//	lossy               build examples/lossy into the folder of the script, its scenarios beside it
//
// and the condition [postgres]: a PostgreSQL server is installed. With
// STATEQUAKE_REQUIRE_POSTGRES=1 it fails if none is.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			if name != "postgres" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			err := postgres.Installed()
			if os.Getenv("STATEQUAKE_REQUIRE_POSTGRES") == "1" {
				return err == nil, err
			}
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"endpoint": endpoint,
			"load":     loadCode,
			"code": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				got := 0
				var failed *exec.ExitError
				if errors.As(err, &failed) {
					got = failed.ExitCode()
				} else {
					ts.Check(err)
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			"zstd": func(ts *testscript.TestScript, _ bool, args []string) {
				text, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				encoder, err := zstd.NewWriter(nil)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0])+".zst", encoder.EncodeAll(text, nil), 0o644))
				ts.Check(os.Remove(ts.MkAbs(args[0])))
			},
			"listen": func(ts *testscript.TestScript, _ bool, args []string) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				ts.Check(err)
				ts.Defer(func() { l.Close() })
				ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
			},
			"lossy": func(ts *testscript.TestScript, _ bool, _ []string) {
				const example = "../../examples/lossy"
				out, err := exec.Command("go", "build", "-o", ts.MkAbs("lossy"), example).CombinedOutput()
				ts.Logf("%s", out)
				ts.Check(err)
				for _, name := range []string{"scenario.yaml", "witness.yaml"} {
					text, err := os.ReadFile(filepath.Join(example, name))
					ts.Check(err)
					ts.Check(os.WriteFile(ts.MkAbs(name), text, 0o644))
				}
			},
		},
	})
}

// TestHelp: every subcommand has an example.
func TestHelp(t *testing.T) {
	for _, c := range rootCmd().Commands() {
		if c.Name() != "help" && c.Example == "" {
			t.Errorf("%s has no example", c.Name())
		}
	}
}
