package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

// The test binary is also a program that runs in a namespace: started with a
// mode in this variable.
const modeVariable = "NETWORK_TEST_MODE"

func TestMain(m *testing.M) {
	switch mode, arg, _ := strings.Cut(os.Getenv(modeVariable), " "); mode {
	case "":
		os.Exit(m.Run())
	case "rootless":
		os.Unsetenv(modeVariable)
		if err := up("lo", netip.Prefix{}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case "serve": // says its addresses and serves the port in arg
		addrs, _ := net.InterfaceAddrs()
		l, err := net.Listen("tcp", ":"+arg)
		fmt.Println(addrs, err)
		http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") }))
	case "answer": // answers lines at the port in arg
		answerLines(arg)
	case "talk": // sends lines to the address in arg
		talk(arg)
	case "hold": // opens a switch with a process and waits to be killed
		s, err := Open([]string{"a", "b"})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		cmd := program("serve 8080")
		if err := s.Start("a", cmd, nil); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		var inodes []string
		for _, h := range append(s.homes[1:], s.own) {
			var st unix.Stat_t
			unix.Fstat(h.fd, &st)
			inodes = append(inodes, fmt.Sprint(st.Ino))
		}
		fmt.Println("up", cmd.Process.Pid, link(s), strings.Join(inodes, " "))
		select {}
	}
	os.Exit(1)
}

func program(mode string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), modeVariable+"="+mode)
	return cmd
}

// open makes a switch, or skips where the kernel does not allow namespaces.
func open(t testing.TB, hosts ...string) *Switch {
	t.Helper()
	s, err := Open(hosts)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		skip(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func skip(t testing.TB, reason any) {
	t.Helper()
	if os.Getenv("STATEQUAKE_REQUIRE_NAMESPACES") == "1" {
		t.Fatalf("no network namespaces: %v", reason)
	}
	t.Skipf("no network namespaces: %v", reason)
}

func apply(t *testing.T, s *Switch, e Effect, paths ...Path) (undo func()) {
	t.Helper()
	undo, err := s.Apply(paths, e, 42)
	if err != nil {
		t.Fatal(err)
	}
	return undo
}

// within bounds what takes no time unless it is broken, or the machine is slow.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func confirmed(t *testing.T, s *Switch, e Effect, paths ...Path) Evidence {
	t.Helper()
	ev := s.Confirm(within(t), paths, e)
	if ev.Proof != history.Confirmed || ev.At.IsZero() {
		t.Errorf("%s at %v: %s", ev.Proof, ev.At, ev.Detail)
	}
	t.Log(ev.Detail)
	return ev
}

var (
	ab = Path{"a", "b"}
	ba = Path{"b", "a"}
)

func TestEveryPathIsWhole(t *testing.T) {
	s := open(t, "a", "b", "c")
	var all []Path
	for _, from := range s.hosts {
		for _, to := range s.hosts {
			if from != to {
				all = append(all, Path{from, to})
			}
		}
	}
	confirmed(t, s, Effect{}, all...)
	for _, p := range all {
		if c := s.Counters(p); c.Packets < 20 || c.Bytes < 20*(probeSize+headers) || c.Dropped+c.Delayed+c.Overrun != 0 {
			t.Errorf("%s: %+v", p, c)
		}
	}
	if a, b := s.Addr(Client), s.Addr("c"); !a.IsPrivate() || b.As4()[3] != 4 || s.Addr("d").IsValid() {
		t.Errorf("addresses %v and %v", a, b)
	}
}

func TestProcessLivesInItsHost(t *testing.T) {
	s := open(t, "a", "b")
	cmd := program("serve 8080")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("a", cmd, nil); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if !strings.Contains(line, s.Addr("a").String()+"/24") || strings.Contains(line, s.Addr(Client).String()) {
		t.Errorf("its addresses are %s", line)
	}
	get := func() (string, error) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		resp, err := client.Get("http://" + s.Addr("a").String() + ":8080")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	if text, err := get(); text != "hello\n" {
		t.Errorf("%q, %v", text, err)
	}
	if s.Counters(Path{Client, "a"}).Packets == 0 || s.Counters(Path{"a", Client}).Packets == 0 {
		t.Error("the request went past the switch")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := get(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want a refused connection", err)
	}
	if err := s.Start(Client, program("serve 8080"), nil); err == nil {
		t.Error("started on the harness")
	}
	if err := s.Start("z", program("serve 8080"), nil); err == nil || !strings.Contains(err.Error(), `unknown host "z"`) {
		t.Error(err)
	}
}

// start may be any function; it is called in the host's namespace.
func TestStartByAnotherFunction(t *testing.T) {
	s := open(t, "a")
	called := errors.New("called")
	err := s.Start("a", program("serve 8080"), func(cmd *exec.Cmd) error {
		addrs, err := net.InterfaceAddrs()
		if err != nil || !slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == s.Addr("a").String()+"/24" }) {
			t.Errorf("%v, %v", addrs, err)
		}
		if cmd.SysProcAttr.Pdeathsig != syscall.SIGKILL {
			t.Error("it would outlive the switch")
		}
		return called
	})
	if err != called {
		t.Error(err)
	}
}

func TestPartitionOneWay(t *testing.T) {
	s := open(t, "a", "b")
	held, err := s.Hold(within(t), ab)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := held.Exchange(within(t)); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	undo := apply(t, s, Effect{Drop: true}, ba)
	ev := confirmed(t, s, Effect{Drop: true}, ba)
	if ev.At.Before(before) || !strings.Contains(ev.Detail, "20 of 20 probes were lost, 20 of 20 arrived on the way back") {
		t.Error(ev.Detail)
	}
	if d, ok, err := s.Probe(within(t), ab); !ok || err != nil || d <= 0 {
		t.Errorf("a->b: %v, %v, %v", d, ok, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, ok, err := s.Probe(short, ba); ok || err != nil {
		t.Errorf("b->a arrived, or %v", err)
	}

	// The bytes reach b, but a never hears of it, and none of them gives up.
	short, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := held.Exchange(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("exchange: %v", err)
	}
	from, to, err := held.Info()
	if err != nil || !held.Established() || from.Retransmits == 0 || to.Bytes_received == 0 {
		t.Errorf("established %v, %v: %+v, %+v", held.Established(), err, from, to)
	}

	undo()
	undo() // once more does nothing
	confirmed(t, s, Effect{}, ab, ba)
	if err := held.Exchange(within(t)); err != nil || !held.Established() {
		t.Errorf("healed: %v", err)
	}
}

func TestPartitionBothWays(t *testing.T) {
	s := open(t, "a", "b", "c")
	apply(t, s, Effect{Drop: true}, ab, ba)
	confirmed(t, s, Effect{Drop: true}, ab, ba)
	confirmed(t, s, Effect{}, Path{"a", "c"}, Path{"c", "b"}, Path{Client, "a"}, Path{"b", Client})
}

func TestEffects(t *testing.T) {
	for name, e := range map[string]Effect{
		"delay":                  {Latency: 30 * time.Millisecond},
		"jitter":                 {Latency: 30 * time.Millisecond, Jitter: 20 * time.Millisecond},
		"correlated jitter":      {Latency: 30 * time.Millisecond, Jitter: 20 * time.Millisecond, DelayCorrelation: 0.5},
		"reorder":                {Latency: 60 * time.Millisecond, Reorder: 0.3},
		"reorder every third":    {Latency: 60 * time.Millisecond, Reorder: 0.5, Gap: 3},
		"loss":                   {Loss: 0.1},
		"small loss":             {Loss: 0.01},
		"all lost":               {Loss: 1},
		"correlated loss":        {Loss: 0.4, LossCorrelation: 0.25},
		"duplicate":              {Duplicate: 0.2},
		"corrupt":                {Corrupt: 0.2},
		"all at once":            {Latency: 20 * time.Millisecond, Loss: 0.2, Duplicate: 0.3, Corrupt: 0.3},
		"bandwidth":              {Rate: 200_000, Buffer: 10_000, Limit: 1 << 20},
		"bandwidth, short queue": {Rate: 1_000_000, Limit: 20_000},
		"little bandwidth":       {Rate: 5_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "a", "b")
			undo := apply(t, s, e, ab)
			confirmed(t, s, e, ab)
			confirmed(t, s, Effect{}, ba)
			c := s.Counters(ab)
			if (c.Dropped > 0) != (e.Loss > 0 || e.Limit == 20_000) || (c.Delayed > 0) != (e.Latency > 0 || e.Rate > 0) ||
				(c.Duplicated > 0) != (e.Duplicate > 0) || (c.Corrupted > 0) != (e.Corrupt > 0) || c.Overrun != 0 {
				t.Errorf("%+v", c)
			}
			undo()
			confirmed(t, s, Effect{}, ab)
		})
	}
}

// The observer does not believe in an effect that is not there, or is another.
func TestMismatch(t *testing.T) {
	for name, tt := range map[string]struct{ claimed, real Effect }{
		"drop":                 {claimed: Effect{Drop: true}},
		"drop, half":           {Effect{Drop: true}, Effect{Loss: 0.5}},
		"delay":                {claimed: Effect{Latency: 5 * time.Millisecond}},
		"delay, too long":      {Effect{Latency: 30 * time.Millisecond}, Effect{Latency: 90 * time.Millisecond}},
		"jitter":               {claimed: Effect{Latency: 10 * time.Millisecond, Jitter: 10 * time.Millisecond}},
		"loss":                 {claimed: Effect{Loss: 0.01}},
		"loss, more":           {Effect{Loss: 0.1}, Effect{Loss: 0.4}},
		"duplicate":            {claimed: Effect{Duplicate: 0.1}},
		"corrupt":              {claimed: Effect{Corrupt: 0.1}},
		"corrupt, lost":        {Effect{Corrupt: 0.1}, Effect{Loss: 0.1}},
		"reorder":              {Effect{Latency: 40 * time.Millisecond, Reorder: 0.2}, Effect{Latency: 40 * time.Millisecond}},
		"bandwidth":            {claimed: Effect{Rate: 200_000}},
		"bandwidth, more":      {Effect{Rate: 200_000}, Effect{Rate: 300_000}},
		"nothing, but loss":    {Effect{}, Effect{Loss: 0.5}},
		"nothing, but delay":   {Effect{}, Effect{Latency: 50 * time.Millisecond}},
		"nothing, but copies":  {Effect{}, Effect{Duplicate: 0.9}},
		"nothing, but changes": {Effect{}, Effect{Corrupt: 0.9}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "a", "b")
			if tt.real != (Effect{}) {
				apply(t, s, tt.real, ab)
			}
			if ev := look(within(t), s, ab, tt.claimed); ev.Proof != history.Mismatch {
				t.Errorf("%s: %s", ev.Proof, ev.Detail)
			}
		})
	}
}

func TestConfirmGivesUp(t *testing.T) {
	s := open(t, "a", "b")
	// Long enough for a round, short enough to wait for.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if ev := s.Confirm(ctx, []Path{ba, ab}, Effect{Drop: true}); ev.Proof != history.Mismatch || !ev.At.IsZero() ||
		!strings.Contains(ev.Detail, "a->b: 0 of 20 probes were lost") {
		t.Errorf("%s at %v: %s", ev.Proof, ev.At, ev.Detail)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	apply(t, s, Effect{Drop: true}, ab)
	for _, e := range []Effect{{}, {Drop: true}, {Loss: 0.1}, {Rate: 1000}} {
		if ev := s.Confirm(gone, []Path{ab}, e); ev.Proof != history.Inconclusive {
			t.Errorf("%+v without time: %s: %s", e, ev.Proof, ev.Detail)
		}
	}
	if ev := s.Confirm(within(t), nil, Effect{}); ev.Proof != history.Inconclusive {
		t.Errorf("without paths: %s", ev.Proof)
	}
}

func TestComposition(t *testing.T) {
	s := open(t, "a", "b")
	undo1 := apply(t, s, Effect{Latency: 30 * time.Millisecond}, ab)
	undo2 := apply(t, s, Effect{Latency: 40 * time.Millisecond, Loss: 0.2}, ab)
	confirmed(t, s, Effect{Latency: 70 * time.Millisecond, Loss: 0.2}, ab)

	undo3 := apply(t, s, Effect{Drop: true}, ab)
	confirmed(t, s, Effect{Drop: true}, ab)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if ev := s.Confirm(ctx, []Path{ab}, Effect{Latency: 30 * time.Millisecond}); ev.Proof != history.Inconclusive ||
		!strings.Contains(ev.Detail, "another effect holds there") {
		t.Errorf("a delay behind a partition: %s: %s", ev.Proof, ev.Detail)
	}
	undo3()
	undo2()
	confirmed(t, s, Effect{Latency: 30 * time.Millisecond}, ab)
	undo1()
	confirmed(t, s, Effect{}, ab)

	defer apply(t, s, Effect{Rate: 300_000}, ab)()
	defer apply(t, s, Effect{Rate: 100_000}, ab)()
	confirmed(t, s, Effect{Rate: 100_000}, ab)
}

// What a path holds is lost when it is cut, and arrives when it is healed.
func TestHeldPackets(t *testing.T) {
	s := open(t, "a", "b")
	to, err := s.udp("b")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	from, err := s.udp("a")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	send := func(text string) {
		t.Helper()
		n := s.Counters(ab).Delayed
		if _, err := from.WriteToUDPAddrPort([]byte(text), to.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
			t.Fatal(err)
		}
		await(t, "the packet is held", func() bool { return s.Counters(ab).Delayed > n })
	}
	undo := apply(t, s, Effect{Latency: time.Hour}, ab)
	send("lost")
	apply(t, s, Effect{Drop: true}, ab)()
	if c := s.Counters(ab); c.Dropped != 1 {
		t.Errorf("%+v", c)
	}
	send("first")
	send("second")
	undo()
	for _, want := range []string{"first", "second"} {
		buffer := make([]byte, 16)
		to.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := to.Read(buffer); string(buffer[:n]) != want {
			t.Errorf("%q, %v, want %q", buffer[:n], err, want)
		}
	}
	if held := s.lanes[1][2].held.Load(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}

// A path does not hold more than it may.
func TestHeldIsBounded(t *testing.T) {
	s := open(t, "a", "b")
	apply(t, s, Effect{Latency: time.Hour}, ab)
	frame := make([]byte, frameMax)
	l := &s.lanes[1][2]
	const more = 10
	for range maxHeld/frameMax + more {
		s.shape(l, frame)
	}
	if c := s.Counters(ab); c.Overrun != more || l.held.Load() > maxHeld {
		t.Errorf("%+v, %d bytes held", c, l.held.Load())
	}
}

// A bulk transfer loses nothing, and is made of packets as on a wire.
func TestBulk(t *testing.T) {
	s := open(t, "a", "b")
	held, err := s.Hold(within(t), ab)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	const size = 64 << 20
	start := time.Now()
	go io.CopyN(held.from, zeros{}, size)
	if n, err := io.CopyN(io.Discard, held.to, size); err != nil {
		t.Fatal(n, err)
	}
	from, _, err := held.Info()
	if err != nil {
		t.Fatal(err)
	}
	c := s.Counters(ab)
	t.Logf("%.0f MB/s, %d segments sent again, %+v", size/1e6/time.Since(start).Seconds(), from.Total_retrans, c)
	if c.Overrun > 0 || c.Packets < size/1448 {
		t.Errorf("%+v", c)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestForwardingDoesNotAllocate(t *testing.T) {
	s := open(t, "a", "b")
	frame := make([]byte, 100)
	copy(frame[30:], s.Addr("b").AsSlice())
	if n := testing.AllocsPerRun(1000, func() { s.packet(1, frame) }); n > 0 {
		t.Errorf("%v allocations per packet", n)
	}
	if c := s.Counters(ab); c.Packets < 1000 || c.Overrun > 0 {
		t.Errorf("%+v", c)
	}
}

func TestApplyRejects(t *testing.T) {
	s := open(t, "a", "b")
	for want, try := range map[string]struct {
		e Effect
		p Path
	}{
		"loss: 1.5 is not from 0 to 1":      {Effect{Loss: 1.5}, ab},
		"corrupt: NaN is not from 0 to 1":   {Effect{Corrupt: math.NaN()}, ab},
		"rate: -1 is negative":              {Effect{Rate: -1}, ab},
		"reorder: 0.1 needs a latency":      {Effect{Reorder: 0.1}, ab},
		"no path a->z":                      {Effect{Drop: true}, Path{"a", "z"}},
		`no path a->a; have those between `: {Effect{Drop: true}, Path{"a", "a"}},
	} {
		if _, err := s.Apply([]Path{ba, try.p}, try.e, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	confirmed(t, s, Effect{}, ba)
}

func TestOpenRejects(t *testing.T) {
	for _, hosts := range [][]string{{"a", "a"}, {Client}, {""}, make([]string, 254)} {
		if s, err := Open(hosts); err == nil {
			s.Close()
			t.Errorf("%q opened", hosts)
		}
	}
}

// link is the index of the interface that a switch has in the harness's
// namespace. Other programs may have switches there, too.
func link(s *Switch) int {
	i, err := net.InterfaceByName(fmt.Sprintf("statequake%d", s.net[1]-firstNet))
	if err != nil {
		return 0
	}
	return i.Index
}

func isThere(link int) bool {
	_, err := net.InterfaceByIndex(link)
	return err == nil
}

func TestCloseLeavesNothing(t *testing.T) {
	open(t) // skips where there are none
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open([]string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	cmd := program("serve 8080")
	out, _ := cmd.StdoutPipe()
	if err := s.Start("a", cmd, nil); err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	undo := apply(t, s, Effect{Latency: time.Hour}, Path{Client, "a"})
	index := link(s)
	if !isThere(index) {
		t.Error("its interface is not seen")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	undo() // late, but harmless
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process ended with %v", err)
	}
	if isThere(index) {
		t.Error("its interface is still there")
	}
	await(t, "as many open files as before", func() bool {
		now, err := os.ReadDir("/proc/self/fd")
		return err == nil && len(now) <= len(descriptors)
	})
	// Threads in namespaces of their own are gone too.
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	await(t, "no thread of the second switch", func() bool {
		strangers := 0
		tasks, _ := os.ReadDir("/proc/self/task")
		for _, task := range tasks {
			if ns, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && ns != home {
				strangers++
			}
		}
		return strangers == 1 // the first switch's own
	})
}

func TestKillLeavesNothing(t *testing.T) {
	open(t) // skips where there are none
	cmd := program("hold")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if len(fields) != 6 || fields[0] != "up" {
		t.Fatalf("it says %q", line)
	}
	index, err := strconv.Atoi(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	if !inUse(fields[3:]) || !isThere(index) {
		t.Fatal("its namespaces are not seen")
	}
	cmd.Process.Kill()
	cmd.Wait()
	await(t, "no process, namespace or interface", func() bool {
		return unix.Access("/proc/"+fields[1]+"/ns", unix.F_OK) != nil && !inUse(fields[3:]) && !isThere(index)
	})
}

// inUse reports whether some thread lives in one of these network namespaces.
func inUse(inodes []string) bool {
	threads, _ := filepath.Glob("/proc/[0-9]*/task/*/ns/net")
	for _, path := range threads {
		if ns, err := os.Readlink(path); err == nil && slices.ContainsFunc(inodes, func(i string) bool { return ns == "net:["+i+"]" }) {
			return true
		}
	}
	return false
}

// The same tests once more, as an ordinary user in a user namespace.
func TestRootless(t *testing.T) {
	if os.Getenv(rootlessVariable) != "" {
		t.Skip("it is")
	}
	cmd := program("rootless")
	cmd.Args = []string{cmd.Args[0], "-test.v", "-test.timeout=5m",
		"-test.run=Whole|Lives|OneWay|TestEffects/(loss|delay|corrupt)$|Bulk|LeavesNothing"}
	cmd.Env = append(cmd.Env, rootlessVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		skip(t, err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestPartitionOneWay") || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
}

const rootlessVariable = "NETWORK_TEST_ROOTLESS"

func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if reached() {
			return
		}
	}
	t.Fatalf("not within 10s: %s", what)
}
