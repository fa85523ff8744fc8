// Package pgtest starts throwaway PostgreSQL servers for tests.
package pgtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Require is the environment variable which, when 1, makes tests fail that
// would be skipped for want of a server.
const Require = "STATEQUAKE_REQUIRE_POSTGRES"

const startTimeout = 30 * time.Second

// Server is a running server, with fsync. It listens on a socket only.
type Server struct {
	Dir string // of the socket .s.PGSQL.5432
}

// Socket is the path of the server's socket.
func (s Server) Socket() string { return filepath.Join(s.Dir, ".s.PGSQL.5432") }

// URL names the server's database; parameters, such as "schema=a", follow.
func (s Server) URL(parameters string) string {
	return "postgres://postgres@/postgres?host=" + s.Dir + "&" + parameters
}

// Start runs a server until the test ends. The server ends with the process of
// the test, too. Without PostgreSQL's programs in PATH or in
// /usr/lib/postgresql the test is skipped.
func Start(t testing.TB) Server {
	t.Helper()
	bin, err := programs()
	if err != nil {
		if os.Getenv(Require) == "1" {
			t.Fatalf("%s=1: %v", Require, err)
		}
		t.Skipf("%v", err)
	}
	// Not t.TempDir: its parent is closed to the user that the server runs as,
	// and its path may be longer than that of a socket can be.
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT} // ends the server at once
	if os.Getuid() == 0 {
		if attr.Credential, err = unprivileged(dir); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: attr.Credential}
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "shared_buffers=32MB")
	var log bytes.Buffer
	server.Dir, server.SysProcAttr = dir, attr
	server.Stdout, server.Stderr = &log, &log
	ended, err := start(server)
	if err != nil {
		t.Fatalf("start postgres: %v", err)
	}
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGQUIT)
		<-ended
	})
	s := Server{Dir: dir}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ready := exec.Command(filepath.Join(bin, "pg_isready"), "-q", "-h", dir)
		if ready.Run() == nil {
			return s
		}
		select {
		case <-ended:
			t.Fatalf("postgres ended at its start\n%s", &log)
		default:
		}
		if time.Since(began) > startTimeout {
			t.Fatalf("postgres accepts no connections after %v", startTimeout)
		}
	}
}

// start runs cmd and closes ended when it has ended. The signal at the death of
// the parent is sent when the thread ends that started the child, so the thread
// is kept until then.
func start(cmd *exec.Cmd) (ended chan struct{}, err error) {
	started := make(chan error)
	ended = make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	return ended, <-started
}

// programs is the folder of initdb and postgres.
func programs() (string, error) {
	places, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is good
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			places = append(places, filepath.Dir(path))
		}
	}
	for i := len(places) - 1; i >= 0; i-- {
		complete := true
		for _, name := range []string{"initdb", "postgres", "pg_isready"} {
			if _, err := os.Stat(filepath.Join(places[i], name)); err != nil {
				complete = false
			}
		}
		if complete {
			return places[i], nil
		}
	}
	return "", fmt.Errorf("no PostgreSQL server: initdb, postgres and pg_isready are neither in PATH nor in /usr/lib/postgresql/*/bin\nhint: apt-get install postgresql")
}

// unprivileged gives dir to a user as whom the server agrees to run, which is
// not root.
func unprivileged(dir string) (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
	}
	return nil, fmt.Errorf("run postgres: we are root and there is no user postgres or nobody")
}
