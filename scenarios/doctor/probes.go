package doctor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"statequake/chaos"
	"statequake/chaos/clock"
	"statequake/chaos/disk"
	"statequake/chaos/network"
	"statequake/chaos/process"
	"statequake/chaos/stress"
	"statequake/fixtures/postgres"
	"statequake/fixtures/sandbox"
	"statequake/history"
	"statequake/loadgen"
	"statequake/scenarios"
)

// What is less than these is limited, or missing.
const (
	syncs        = 200
	syncFor      = 10 * time.Second      // longest time for all of them
	slowSync     = 10 * time.Millisecond // p99; what etcd asks of a disk
	lateLimit    = 10 * time.Millisecond // p99; a generator that is as late makes a run degraded
	fewFiles     = 2048                  // 1,024 connections of the load, some twice
	tooFewFiles  = 256
	rtoMax       = "1000" // ms, as chaos/network sets it
	rtoFile      = "/proc/sys/net/ipv4/tcp_rto_max_ms"
	clockOffset  = time.Hour
	observeLimit = 2 * time.Second
)

// where says in which namespaces a probe runs.
type where int

const (
	never  where = iota // in those of the machine
	always              // in those of a run; missing without them
	better              // in those of a run if there are any, as runs are
)

// probe is how a capability is tried. run is called in the probe's folder, in a
// process of its own.
type probe struct {
	inside where
	run    func() result
}

var probes = map[string]probe{
	"signals":    {better, signals},
	"loopback":   {better, loopback},
	"directory":  {never, directory},
	"files":      {better, files},
	"pacing":     {better, pacing},
	"namespaces": {always, namespaces},
	"links":      {better, links},
	"switch":     {always, packets},
	"rto":        {always, rto},
	"fuse":       {always, fuse},
	"clock":      {better, clocks},
	"stress":     {better, stresses},
	"postgres":   {better, postgresql},
}

// roles are the programs that probes start.
var roles = map[string]func(){
	"wait": func() { io.Copy(io.Discard, os.Stdin) },
	"time": func() { fmt.Println(time.Now().UnixNano()) },
}

// role is this program in a role.
func role(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), marker+"="+name)
	return cmd
}

// eventually waits until a process looks like it.
func eventually(id process.ID, like func(process.Look) bool) error {
	for end := time.Now().Add(observeLimit); ; time.Sleep(time.Millisecond) {
		look, err := id.Look()
		switch {
		case err != nil:
			return err
		case like(look):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("nothing of it in /proc within %v", observeLimit)
		}
	}
}

func signals() result {
	cmd := role("wait")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return missing("start a process", err)
	}
	defer stdin.Close()
	if err := sandbox.Start(cmd); err != nil {
		return missing("start a process", err)
	}
	go cmd.Wait()
	id, ok := process.Identify(cmd.Process.Pid)
	if !ok {
		return missing("read /proc", fmt.Errorf("pid %d is not there", cmd.Process.Pid))
	}
	for _, step := range []struct {
		signal syscall.Signal
		like   func(process.Look) bool
	}{
		{unix.SIGSTOP, func(l process.Look) bool { return !l.Gone && l.Threads > 0 && l.Stopped == l.Threads }},
		{unix.SIGCONT, func(l process.Look) bool { return !l.Gone && l.Stopped == 0 }},
		{unix.SIGKILL, func(l process.Look) bool { return l.Gone }},
	} {
		err := cmd.Process.Signal(step.signal)
		if err == nil {
			err = eventually(id, step.like)
		}
		if err != nil {
			return missing(unix.SignalName(step.signal), err)
		}
	}
	return result{State: OK, Found: "a process was stopped, continued and killed, seen in /proc"}
}

func loopback() result {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return missing("listen on loopback", err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	c, err := net.DialTimeout("tcp", l.Addr().String(), observeLimit)
	if err != nil {
		return missing("connect over loopback", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(observeLimit))
	if text, err := io.ReadAll(c); err != nil || string(text) != "hello" {
		return missing("talk over loopback", fmt.Errorf("got %q, %v", text, err))
	}
	return result{State: OK, Found: "a connection over 127.0.0.1 was made"}
}

// directory writes to the disk of the current directory. Its file has no name
// any more while it is written.
func directory() result {
	f, err := os.CreateTemp(".", ".statequake-doctor-")
	if err != nil {
		return missing("write to the current directory", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return missing("remove a file", err)
	}
	page := bytes.Repeat([]byte{1}, 4<<10)
	var took []time.Duration
	for began := time.Now(); len(took) < syncs && time.Since(began) < syncFor; {
		if _, err := f.Write(page); err != nil {
			return missing("write to the current directory", err)
		}
		at := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return missing("fdatasync", err)
		}
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	var fs unix.Statfs_t
	if err := unix.Statfs(".", &fs); err != nil {
		return missing("statfs", err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	r := result{
		State:   OK,
		Found:   fmt.Sprintf("fdatasync p50 %s, p99 %s (n %d); %s free", words(p50), words(p99), len(took), units.BytesSize(float64(free))),
		Figures: map[string]int64{"fdatasync_p50_ns": int64(p50), "fdatasync_p99_ns": int64(p99), "fdatasync_n": int64(len(took)), "free_bytes": free},
	}
	switch {
	case free < scenarios.DefaultDiskFree:
		r.State, r.Step = Missing, "free"
	case p99 > slowSync:
		r.State, r.Step = Limited, "sync"
	}
	return r
}

// words rounds a duration to three digits or so.
func words(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// files opens what this process may; Go has raised its limit as far as it goes.
func files() result {
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	var err error
	for len(open) < 2*fewFiles && err == nil {
		var f *os.File
		if f, err = os.Open(os.DevNull); err == nil {
			open = append(open, f)
		}
	}
	r := result{State: OK, Found: fmt.Sprintf("%d files were open at once", len(open)), Figures: map[string]int64{"open_files": int64(len(open))}}
	switch {
	case len(open) < tooFewFiles:
		r.State = Missing
	case len(open) < fewFiles:
		r.State = Limited
	}
	if err != nil {
		r.Found += ", then: " + err.Error()
	}
	return r
}

func pacing() result {
	p := loadgen.MeasurePacing(500 * time.Millisecond)
	r := result{
		State:   OK,
		Found:   fmt.Sprintf("%d CPUs; late by p50 %s, p99 %s, max %s (n %d)", runtime.NumCPU(), words(p.P50), words(p.P99), words(p.Max), p.N),
		Figures: map[string]int64{"cpus": int64(runtime.NumCPU()), "late_p50_ns": int64(p.P50), "late_p99_ns": int64(p.P99), "late_max_ns": int64(p.Max)},
	}
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err == nil {
		r.Figures["timer_slack_ns"] = int64(slack)
	}
	switch {
	case runtime.NumCPU() < 2:
		r.State, r.Step = Limited, "cpus"
	case p.P99 > lateLimit:
		r.State, r.Step = Limited, "late"
	}
	return r
}

// namespaces is called inside, so they are there already.
func namespaces() result {
	list, err := net.Interfaces()
	if err != nil {
		return missing("list network interfaces", err)
	}
	if len(list) != 1 || list[0].Flags&net.FlagUp == 0 {
		return missing("network namespace", fmt.Errorf("it has %d interfaces, want loopback alone, and up", len(list)))
	}
	return result{State: OK, Found: "a process ran in user, pid, mount, network and IPC namespaces of its own"}
}

// joined is a network of two hosts, n1 and n2.
type joined interface {
	chaos.Net
	Close() error
}

func packets() result {
	return partition("packets", func(hosts []string) (joined, error) { return network.Open(hosts) })
}

func links() result {
	return partition("streams", func(hosts []string) (joined, error) { return network.OpenLinks(hosts) })
}

// partition joins two hosts and cuts one from the other.
func partition(by string, open func(hosts []string) (joined, error)) result {
	began := time.Now()
	s, err := open([]string{"n1", "n2"})
	if err != nil {
		return missing("join two hosts by "+by, err)
	}
	defer s.Close()
	opened := time.Since(began)
	there, back := network.Path{From: "n1", To: "n2"}, network.Path{From: "n2", To: "n1"}
	confirm := func(paths []network.Path, e network.Effect) error {
		ctx, cancel := context.WithTimeout(context.Background(), observeLimit)
		defer cancel()
		if ev := s.Confirm(ctx, paths, e); ev.Proof != history.Confirmed {
			return fmt.Errorf("%s: %s", ev.Proof, ev.Detail)
		}
		return nil
	}
	if err := confirm([]network.Path{there, back}, network.Effect{}); err != nil {
		return missing("send "+by+" from host to host", err)
	}
	undo, err := s.Apply([]network.Path{there}, network.Effect{Drop: true}, 1)
	if err == nil {
		err = confirm([]network.Path{there}, network.Effect{Drop: true})
	}
	if err == nil {
		err = confirm([]network.Path{back}, network.Effect{})
	}
	if err != nil {
		return missing("partition one way", err)
	}
	undo()
	return result{State: OK, Found: fmt.Sprintf("two hosts were joined by %s in %s and partitioned one way, seen by probes", by, words(opened))}
}

// rto does what chaos/network does in the namespace of each node.
func rto() result {
	if err := os.WriteFile(rtoFile, []byte(rtoMax), 0); err != nil {
		r := missing("set tcp_rto_max_ms", err)
		r.State = Limited
		return r
	}
	if text, err := os.ReadFile(rtoFile); err != nil || strings.TrimSpace(string(text)) != rtoMax {
		return result{State: Limited, Found: fmt.Sprintf("tcp_rto_max_ms reads %q after %s was written", text, rtoMax)}
	}
	return result{State: OK, Found: "tcp_rto_max_ms could be set to " + rtoMax}
}

// fuse loses the power of a file system: what was synced must be there, and
// what was not must be gone.
func fuse() result {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return missing("open /dev/fuse", err)
	}
	device.Close()
	mnt, back := "mnt", "back"
	for _, dir := range []*string{&mnt, &back} {
		if *dir, err = filepath.Abs(*dir); err == nil {
			err = os.Mkdir(*dir, 0o755)
		}
		if err != nil {
			return missing("make a folder", err)
		}
	}
	d, err := disk.Mount(mnt, back, disk.Options{PowerLoss: true})
	if err != nil {
		return missing("mount", err)
	}
	defer d.Unmount()
	const kept, lost = "synced", " and not synced"
	err = func() error {
		f, err := os.Create(filepath.Join(mnt, "file"))
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteString(kept); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		_, err = f.WriteString(lost)
		return err
	}()
	if err != nil {
		return missing("write to it", err)
	}
	if text, err := os.ReadFile(filepath.Join(mnt, "file")); err != nil || string(text) != kept+lost {
		return missing("read from it", fmt.Errorf("got %q, %v", text, err))
	}
	disk.Freeze(d)
	if err := d.Unmount(); err != nil {
		return missing("unmount", err)
	}
	if _, err := d.Crash(0, 1); err != nil {
		return missing("lose the power", err)
	}
	if text, err := os.ReadFile(filepath.Join(back, "file")); err != nil || string(text) != kept {
		return missing("lose the power", fmt.Errorf("%q is there, want %q: %v", text, kept, err))
	}
	return result{State: OK, Found: "a file system was mounted, written, read, and lost what was not synced"}
}

func clocks() result {
	cmd := role("time")
	var out bytes.Buffer
	cmd.Stdout = &out
	before := time.Now()
	c, err := clock.Start(cmd, clockOffset, clock.Wall)
	if err != nil {
		return missing("start a process under ptrace", err)
	}
	defer c.Close()
	if err := cmd.Wait(); err != nil {
		return missing("run a process with a moved clock", err)
	}
	after := time.Now()
	ns, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
	if err != nil {
		return missing("run a process with a moved clock", err)
	}
	if at := time.Unix(0, ns).Add(-clockOffset); at.Before(before) || at.After(after) {
		return missing("move a clock", fmt.Errorf("it was off by %s, want %s", time.Unix(0, ns).Sub(after), clockOffset))
	}
	return result{State: OK, Found: fmt.Sprintf("a process read its clock %s ahead", clockOffset)}
}

func stresses() result {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := stress.Start(ctx, stress.Config{CPU: stress.CPU{Workers: 1, Load: 0.5}, Memory: stress.Memory{Workers: 1, Bytes: 16 << 20}})
	if err != nil {
		return missing("start workers", err)
	}
	ev := s.Evidence(ctx, stress.MinWatch)
	s.Stop()
	r := result{State: OK, Found: "workers used CPU time and memory: " + ev.Detail}
	if ev.Proof != history.Confirmed {
		r = result{State: Limited, Found: fmt.Sprintf("%s: %s", ev.Proof, ev.Detail), Step: "observe"}
	}
	if !s.Gone() {
		return missing("end the workers", fmt.Errorf("they are still there"))
	}
	return r
}

func postgresql() result {
	if err := postgres.Installed(); err != nil {
		r := missing("find its programs", err)
		r.Found, r.Step = firstLine(err.Error()), "install"
		return r
	}
	dir, err := os.Getwd()
	if err != nil {
		return missing("find its folder", err)
	}
	began := time.Now()
	s, err := postgres.Start(context.Background(), postgres.Config{Dir: dir})
	if err != nil {
		return missing("start a server", err)
	}
	took := time.Since(began)
	if err := s.Stop(); err != nil {
		return missing("stop a server", err)
	}
	return result{State: OK, Found: fmt.Sprintf("a server was started in %s", words(took))}
}
