package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"statequake/chaos/internal/testnode"
	"statequake/chaos/process"
	"statequake/history"
)

const privateMounts = "CHAOS_TEST_MOUNTS" // set: in a mount namespace of its own

// mountsOfItsOwn runs the test again in a mount namespace of its own and is
// true in there.
func mountsOfItsOwn(t *testing.T) bool {
	t.Helper()
	if os.Getenv(privateMounts) != "" {
		return true
	}
	need := func(err error) {
		if err == nil {
			return
		}
		if os.Getenv("STATEQUAKE_REQUIRE_FUSE") == "1" {
			t.Fatal(err)
		}
		t.Skipf("no file system of our own can be mounted: %v", err)
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	need(err)
	fuse.Close()
	runtime.LockOSThread() // Pdeathsig is about this thread
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), privateMounts+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Pdeathsig:   syscall.SIGKILL,
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	need(cmd.Start())
	if err := cmd.Wait(); err != nil {
		t.Errorf("in a mount namespace: %v\n%s", err, &output)
	} else if !strings.Contains(output.String(), "--- PASS: "+t.Name()) {
		t.Errorf("did not run in a mount namespace:\n%s", &output)
	}
	return false
}

// diskRig is a rig of two nodes that write, each on a disk of its own.
func diskRig(t *testing.T) (*rig, *Disks) {
	t.Helper()
	begin := time.Now()
	r := &rig{t: t, now: func() time.Duration { return time.Since(begin) }}
	dir := t.TempDir()
	d := &Disks{
		Dir: func(node string) string { return filepath.Join(dir, node) }, PowerLoss: true,
		Now: r.now, Processes: &process.Injector{Now: r.now},
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"n1", "n2"} {
			if _, err := os.Stat(filepath.Join(dir, name, "synced")); err != nil {
				t.Errorf("after Close: %v", err)
			}
		}
	})
	for _, name := range []string{"n1", "n2"} {
		r.nodes = append(r.nodes, testnode.StartBy(t, name, testnode.Plain, func(cmd *exec.Cmd) error {
			if err := d.Mount(name); err != nil {
				return err
			}
			cmd.Env = append(cmd.Env, testnode.DiskVariable+"="+d.Dir(name))
			return cmd.Start()
		}))
	}
	return r, d
}

// nemesisOnDisks is a nemesis with executors of disks.
func (r *rig) nemesisOnDisks(d *Disks, faults ...*Fault) *Nemesis {
	n := r.nemesis(faults...)
	for _, kind := range []string{PowerLoss, IOChaos, DiskFull} {
		n.config.Executors[kind] = d
	}
	local := processes{d.Processes}
	n.config.Executors[PodChaos], n.config.Executors[ProcessPause] = local, local
	n.config.OnFile = d.OnFile
	return n
}

// stored are the lines of a node's file, read behind the disk's back.
func stored(t *testing.T, d *Disks, node, file string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.node(node).backing(), file))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

func awaitStored(t *testing.T, d *Disks, node string, n int) {
	t.Helper()
	testnode.Await(t, fmt.Sprintf("%d lines of %s", n, node), func() bool { return len(stored(t, d, node, "synced")) >= n })
}

func (r *rig) mustRun(n *Nemesis) {
	r.t.Helper()
	if err := n.Run(r.t.Context()); err != nil {
		r.t.Error(err)
	}
}

func TestPowerLoss(t *testing.T) {
	if !mountsOfItsOwn(t) {
		return
	}
	r, d := diskRig(t)
	first := map[string]string{}
	synced := map[string]int{}
	for _, n := range r.nodes {
		awaitStored(t, d, n.Name, 5)
		first[n.Name] = fmt.Sprint(n.PID())
		synced[n.Name] = len(stored(t, d, n.Name, "synced")) - 1 // the last one may not be yet
		if loose := stored(t, d, n.Name, "loose"); len(loose) != 1 || loose[0] != first[n.Name] {
			t.Fatalf("%s: loose holds %v", n.Name, loose)
		}
	}
	r.mustRun(r.nemesisOnDisks(d, fault(t, "dark", 0, `{"kind":"PowerLoss","spec":{`+onAll+`}}`)))
	r.wantStory("dark", "requested n1,n2; injected n1,n2; evidence=confirmed n1,n2; recovered n1,n2")
	r.wantDetail("dark", history.Evidence, "n1: pid "+first["n1"]+" ran no more", "n2: pid "+first["n2"]+" ran no more", "EIO", "read as before")
	for _, n := range r.nodes {
		if n.Starts() != 2 {
			t.Errorf("%s was started %d times, want 2", n.Name, n.Starts())
		}
		if lines := stored(t, d, n.Name, "synced"); len(lines) < synced[n.Name] {
			t.Errorf("%s: %d lines were synced, %d are there", n.Name, synced[n.Name], len(lines))
		}
		awaitStored(t, d, n.Name, len(stored(t, d, n.Name, "synced"))+1)
		if loose := stored(t, d, n.Name, "loose"); len(loose) != 1 || loose[0] == first[n.Name] {
			t.Errorf("%s: loose holds %v, want what was written after the loss of power alone", n.Name, loose)
		}
	}
}

func TestPowerLossOnFile(t *testing.T) {
	if !mountsOfItsOwn(t) {
		return
	}
	r, d := diskRig(t)
	r.mustRun(r.nemesisOnDisks(d, triggered(t, "dark", OnFile{Op: "fsync", Path: "sync*", Nth: 4}, `{"kind":"PowerLoss","spec":{`+onN1+`}}`)))
	r.wantStory("dark", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	if r.nodes[0].Starts() != 2 || r.nodes[1].Starts() != 1 {
		t.Errorf("starts %d, %d, want 2, 1", r.nodes[0].Starts(), r.nodes[1].Starts())
	}
	r.mustRun(r.nemesisOnDisks(d, triggered(t, "kill", OnFile{Op: "write", Path: "synced", Nth: 2}, podChaos(`"action":"pod-kill",`+onAll))))
	r.wantStory("kill", "requested n1,n2; injected n1,n2; evidence=confirmed n1,n2; recovered n1,n2")
}

func TestOnFileHolds(t *testing.T) {
	if !mountsOfItsOwn(t) {
		return
	}
	r, d := diskRig(t)
	nodes := r.nemesis().config.Nodes
	release, err := d.OnFile(t.Context(), OnFile{Op: "write", Path: "synced", Nth: 20}, nodes[:1])
	if err != nil {
		t.Fatal(err)
	}
	held := len(stored(t, d, "n1", "synced"))
	awaitStored(t, d, "n2", len(stored(t, d, "n2", "synced"))+20)
	if now := len(stored(t, d, "n1", "synced")); now != held {
		t.Errorf("n1 wrote %d lines while it was held in a write", now-held)
	}
	release()
	awaitStored(t, d, "n1", held+5)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.OnFile(ctx, OnFile{Op: "write", Path: "absent", Nth: 1}, nodes); err == nil || !strings.HasPrefix(err.Error(), "there were 0 ") {
		t.Errorf("no write: %v", err)
	}
}

func TestIOChaos(t *testing.T) {
	if !mountsOfItsOwn(t) {
		return
	}
	r, d := diskRig(t)
	const chaos = `"volumePath":"/data","path":"/data/sync*"`
	r.mustRun(r.nemesisOnDisks(d,
		fault(t, "slow", 0, `{"kind":"IOChaos","spec":{"action":"latency","methods":["fsync"],"delay":"20ms","duration":"1s",`+chaos+`,`+onAll+`}}`),
		fault(t, "dark", 300*time.Millisecond, `{"kind":"PowerLoss","spec":{`+onN1+`}}`)))
	r.wantStory("slow", "requested n1,n2; injected n1,n2; evidence=confirmed n1,n2; recovered n1,n2")
	r.wantStory("dark", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantDetail("slow", history.Evidence, "n1: fsync of a probe file took", "then its disk was mounted again", "(fsync) were delayed")
	if d.Excused("n1", r.now()) || d.Excused("n1", r.of("slow")[1].At) {
		t.Error("a slow disk is no excuse to end")
	}

	before := r.nodes[0].Starts()
	r.mustRun(r.nemesisOnDisks(d, fault(t, "errors", 0, `{"kind":"IOChaos","spec":{"action":"fault","methods":["write"],"errno":5,"duration":"500ms",`+chaos+`,`+onN1+`}}`)))
	r.wantStory("errors", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantDetail("errors", history.Evidence, "failed with EIO", "its process ended ")
	if r.nodes[0].Starts() == before {
		t.Error("n1 did not end by the errors of its disk")
	}
	if at := r.of("errors")[1].At; !d.Excused("n1", at) || d.Excused("n2", at) {
		t.Error("n1, and n1 alone, is excused for its end")
	}
	awaitStored(t, d, "n1", len(stored(t, d, "n1", "synced"))+1)
}

func TestDiskFull(t *testing.T) {
	if !mountsOfItsOwn(t) {
		return
	}
	r, d := diskRig(t)
	r.mustRun(r.nemesisOnDisks(d, fault(t, "full", 0, `{"kind":"DiskFull","spec":{"free":"100","duration":"500ms",`+onN1+`}}`)))
	r.wantStory("full", "requested n1; injected n1; evidence=confirmed n1; recovered n1")
	r.wantDetail("full", history.Evidence, "failed with ENOSPC", "of the node's operations found no space", "its process ended ")
	awaitStored(t, d, "n1", len(stored(t, d, "n1", "synced"))+1)
}

func TestCheckDisk(t *testing.T) {
	for spec, want := range map[string]string{
		`"action":"latency","delay":"1s"`:                                    "",
		`"action":"latency","delay":"1s","methods":["bmap"]`:                 `spec.methods: unknown method "bmap"; have `,
		`"action":"fault","errno":38`:                                        "spec.errno: ",
		`"action":"mistake","mistake":{"filling":"zero"},"methods":["open"]`: "spec.mistake: has no effect with open",
	} {
		f := fault(t, "f", 0, `{"kind":"IOChaos","spec":{"volumePath":"/data","duration":"1s",`+spec+`,`+onN1+`}}`)
		err := CheckDisk(f.Spec)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", spec, err, want)
		}
	}
}
