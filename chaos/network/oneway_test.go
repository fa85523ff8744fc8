package network

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	talkEvery = 10 * time.Millisecond // between two lines
	silence   = 300 * time.Millisecond
)

// answerLines accepts a connection and sends each line back that it reads; it
// prints it before.
func answerLines(port string) {
	l, err := net.Listen("tcp4", ":"+port) // in the table that state reads
	fmt.Println("listening", err)
	if err != nil {
		return
	}
	c, err := l.Accept()
	if err != nil {
		return
	}
	for scan := bufio.NewScanner(c); scan.Scan(); {
		fmt.Println(scan.Text())
		fmt.Fprintln(c, scan.Text())
	}
	fmt.Println("over")
}

// talk sends numbered lines and prints those that come back.
func talk(addr string) {
	c, err := net.Dial("tcp", addr)
	fmt.Println("connected", err)
	if err != nil {
		return
	}
	go func() {
		for n := 1; ; n++ {
			if _, err := fmt.Fprintln(c, n); err != nil {
				fmt.Println("over:", err)
				return
			}
			time.Sleep(talkEvery)
		}
	}()
	for scan := bufio.NewScanner(c); scan.Scan(); {
		fmt.Println(scan.Text())
	}
	fmt.Println("over")
}

// speaker is one of the two programs.
type speaker struct {
	*exec.Cmd
	last atomic.Int64 // the number that it read last
	over atomic.Bool  // its connection ended
}

// speak starts a program on a host and returns when it has said its first line.
func speak(t *testing.T, s *Switch, host, mode string) *speaker {
	t.Helper()
	p := &speaker{Cmd: program(mode)}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(host, p.Cmd, nil); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasSuffix(lines.Text(), "<nil>") {
		t.Fatalf("%s says %s", host, lines.Text())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				p.last.Store(n)
			} else {
				p.over.Store(true)
			}
		}
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-ended
		p.Wait()
	})
	return p
}

// state is that of the connection between two addresses, as the kernel of the
// program's network tells it, see proc_pid_net(5): 1 is established. It is 0 if
// there is none.
func state(t *testing.T, pid int, local, remote netip.AddrPort) int64 {
	t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		t.Fatal(err)
	}
	matches := func(field string, want netip.AddrPort) bool {
		addr := want.Addr().As4()
		host := fmt.Sprintf("%08X:", binary.NativeEndian.Uint32(addr[:]))
		return strings.HasPrefix(field, host) && (want.Port() == 0 || field == fmt.Sprintf("%s%04X", host, want.Port()))
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 3 && matches(f[1], local) && matches(f[2], remote) {
			n, err := strconv.ParseInt(f[3], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// Two programs talk over a TCP connection, and one way is cut: what a says
// reaches b, what b says does not reach a, and both have the connection still.
// The other way round likewise. It is repeated as often as STATEQUAKE_TIMES
// says.
func TestOneWayBetweenPrograms(t *testing.T) {
	times := 2
	if text := os.Getenv("STATEQUAKE_TIMES"); text != "" {
		var err error
		if times, err = strconv.Atoi(text); err != nil || times < 1 {
			t.Fatalf("STATEQUAKE_TIMES=%s: want a number from 1 on", text)
		}
	}
	s := open(t, "a", "b")
	b := speak(t, s, "b", "answer 9000")
	a := speak(t, s, "a", "talk "+s.Addr("b").String()+":9000")
	addrA, addrB := netip.AddrPortFrom(s.Addr("a"), 0), netip.AddrPortFrom(s.Addr("b"), 9000)
	established := func() bool {
		return state(t, a.Process.Pid, addrA, addrB) == 1 && state(t, b.Process.Pid, addrB, addrA) == 1 && !a.over.Load() && !b.over.Load()
	}
	talking := func() {
		t.Helper()
		heard := a.last.Load()
		await(t, "a hears b", func() bool { return a.last.Load() > heard+10 })
	}
	talking()
	if !established() {
		t.Fatal("the connection is not in the tables of the kernels")
	}

	// silent tells whether a program hears nothing from soon after the cut on.
	silent := func(p *speaker) bool {
		before := p.last.Load()
		for end := time.Now().Add(silence); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if p.last.Load() != before {
				return false
			}
		}
		return true
	}
	reached, unheard, kept := 0, 0, 0
	for range times {
		undo := apply(t, s, Effect{Drop: true}, ba)
		heard := b.last.Load()
		await(t, "what was on its way has arrived", func() bool { return silent(a) })
		// While a heard nothing b heard what a had said after the cut.
		if b.last.Load() > heard+2 {
			reached++
		} else {
			t.Errorf("b heard %d before the cut and %d after it", heard, b.last.Load())
		}
		if a.last.Load() < b.last.Load() {
			unheard++
		} else {
			t.Errorf("a heard %d, as b did", a.last.Load())
		}
		if established() {
			kept++
		} else {
			t.Error("the connection is not established any more")
		}
		undo()
		talking()
	}
	t.Logf("b to a cut: a reached b %d/%d, b did not reach a %d/%d, the TCP connection was established on both sides %d/%d",
		reached, times, unheard, times, kept, times)

	unheard, kept = 0, 0
	for range times {
		undo := apply(t, s, Effect{Drop: true}, ab)
		await(t, "b hears nothing", func() bool { return silent(b) })
		unheard++
		if established() {
			kept++
		} else {
			t.Error("the connection is not established any more")
		}
		undo()
		talking()
	}
	t.Logf("a to b cut: a did not reach b %d/%d, the TCP connection was established on both sides %d/%d", unheard, times, kept, times)
}
