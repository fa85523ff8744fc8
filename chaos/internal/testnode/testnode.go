// Package testnode gives tests a node to disturb: a real process with
// /readyz, kept running as a fixture would keep it.
package testnode

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Mode is how a node behaves.
type Mode string

const (
	Plain    Mode = "plain"
	Stubborn Mode = "stubborn" // does not end on SIGTERM
)

// RestartDelay is from the end of a node to its next start.
const RestartDelay = 30 * time.Millisecond

const modeVariable = "TESTNODE_MODE"

// Main is the TestMain of a package that uses nodes: the test binary is the
// node's program, too.
func Main(m *testing.M) {
	mode := Mode(os.Getenv(modeVariable))
	if mode == "" {
		os.Exit(m.Run())
	}
	if mode == Stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if dir := os.Getenv(DiskVariable); dir != "" {
		go write(dir)
	}
	http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	http.Serve(l, nil)
}

// Node is a node that runs until the test ends.
type Node struct {
	Name string
	Addr string

	t       *testing.T
	mode    Mode
	starter func(*exec.Cmd) error

	mu     sync.Mutex
	cmd    *exec.Cmd // nil when down
	held   bool
	over   bool
	starts int
}

// Start starts a node and waits until it is ready.
func Start(t *testing.T, name string, mode Mode) *Node {
	t.Helper()
	return StartBy(t, name, mode, (*exec.Cmd).Start)
}

// StartBy is Start with another way to start the process, each time.
func StartBy(t *testing.T, name string, mode Mode, starter func(*exec.Cmd) error) *Node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	n := &Node{Name: name, Addr: l.Addr().String(), t: t, mode: mode, starter: starter}
	n.mu.Lock()
	n.start()
	n.mu.Unlock()
	t.Cleanup(func() {
		n.mu.Lock()
		n.over = true
		n.mu.Unlock()
		n.Kill(syscall.SIGKILL)
		Await(t, "end of "+name, func() bool { return n.PID() == 0 })
	})
	n.AwaitReady()
	return n
}

// start is called with mu held.
func (n *Node) start() {
	exe, err := os.Executable()
	if err != nil {
		n.t.Error(err)
		return
	}
	cmd := exec.Command(exe, n.Addr)
	cmd.Env = append(os.Environ(), modeVariable+"="+string(n.mode))
	cmd.Stderr = os.Stderr
	if err := n.starter(cmd); err != nil {
		n.t.Error(err)
		return
	}
	n.cmd = cmd
	n.starts++
	go n.keep(cmd)
}

func (n *Node) keep(cmd *exec.Cmd) {
	cmd.Wait()
	n.mu.Lock()
	n.cmd = nil
	n.mu.Unlock()
	for {
		time.Sleep(RestartDelay)
		n.mu.Lock()
		again := !n.over && !n.held
		if again {
			n.start()
		}
		over := n.over
		n.mu.Unlock()
		if again || over {
			return
		}
	}
}

// PID is 0 while the node is down.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// Kill sends a signal.
func (n *Node) Kill(sig syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return fmt.Errorf("send %v to %s: it is down", sig, n.Name)
	}
	return n.cmd.Process.Signal(sig)
}

// Hold says whether the node, once down, stays down.
func (n *Node) Hold(held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = held
}

// Starts is how often the node was started.
func (n *Node) Starts() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.starts
}

// AwaitReady waits until the node answers.
func (n *Node) AwaitReady() {
	n.t.Helper()
	Await(n.t, n.Name+" ready", func() bool {
		resp, err := http.Get("http://" + n.Addr + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})
}

// Await polls until reached says yes.
func Await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if reached() {
			return
		}
	}
	t.Fatalf("not within 10s: %s", what)
}
