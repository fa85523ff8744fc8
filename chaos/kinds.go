package chaos

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/chaos-mesh/chaos-mesh/api/v1alpha1"
	"github.com/docker/go-units"
)

// problem is something that may be wrong with a spec.
type problem struct {
	wrong bool
	text  string
}

// need reports the first of some problems that is there.
func need(problems ...problem) error {
	for _, p := range problems {
		if p.wrong {
			return errors.New(p.text)
		}
	}
	return nil
}

const noClusters = "spec.remoteCluster: says nothing outside a cluster"

func (f *Fault) parsePodChaos(text []byte) error {
	var object v1alpha1.PodChaos
	if err := mesh(f, text, &object); err != nil {
		return err
	}
	spec := &object.Spec
	if err := need(
		problem{len(spec.ContainerNames) > 0, "spec.containerNames: has no effect with " + f.Action},
		problem{spec.RemoteCluster != "", noClusters},
		problem{spec.GracePeriod > 0 && f.Action != PodKill, "spec.gracePeriod: has no effect with " + f.Action},
		problem{f.Action == PodKill && spec.Duration != nil, "spec.duration: has no effect with pod-kill; the node comes back after the system's restart delay\nhint: pod-failure keeps it down for a duration"},
	); err != nil {
		return err
	}
	if f.Action == PodKill {
		f.Spec = Kill{Grace: time.Duration(spec.GracePeriod) * time.Second}
		return f.parseSelector(&spec.PodSelector)
	}
	f.Spec = Fail{}
	return f.parseRest(spec.Duration, &spec.PodSelector)
}

func (f *Fault) parseProcessPause(text []byte) error {
	var object processPause
	if err := decode(text, &object); err != nil {
		return err
	}
	if err := validate(&object); err != nil {
		return err
	}
	f.Spec = Pause{}
	return f.parseRest(object.Spec.Duration, &object.Spec.PodSelector)
}

func (f *Fault) parsePowerLoss(text []byte) error {
	var object powerLoss
	if err := decode(text, &object); err != nil {
		return err
	}
	if err := validate(&object); err != nil {
		return err
	}
	spec := &object.Spec
	var power Power
	switch spec.DirectoryEntries {
	case "", "ext4":
	case "strict":
		power.Strict = true
	default:
		return fmt.Errorf("spec.directoryEntries: unknown rule %q; have ext4, strict", spec.DirectoryEntries)
	}
	if spec.Torn != "" {
		var err error
		if power.Torn, err = strconv.ParseFloat(spec.Torn, 64); err != nil || !(power.Torn >= 0 && power.Torn <= 1) {
			return fmt.Errorf("spec.torn: %q is not a share from 0 to 1", spec.Torn)
		}
	}
	f.Spec = power
	return f.parseSelector(&spec.PodSelector)
}

func (f *Fault) parseDiskFull(text []byte) error {
	var object diskFull
	if err := decode(text, &object); err != nil {
		return err
	}
	if err := validate(&object); err != nil {
		return err
	}
	var full Full
	if free := object.Spec.Free; free != "" {
		var err error
		if full.Free, err = bytes(free); err != nil {
			return fmt.Errorf("spec.free: %w", err)
		}
	}
	f.Spec = full
	return f.parseRest(object.Spec.Duration, &object.Spec.PodSelector)
}

func (f *Fault) parseNetworkChaos(text []byte) error {
	var object v1alpha1.NetworkChaos
	if err := mesh(f, text, &object); err != nil {
		return err
	}
	spec := &object.Spec
	const allTraffic = "\nhint: a fault meets all that passes between the nodes; leave it out"
	reject := spec.PartitionBehavior == v1alpha1.RejectPartitionBehavior
	if err := need(
		problem{spec.Device != "", "spec.device: is not available; each node has one network device" + allTraffic},
		problem{spec.TargetDevice != "", "spec.targetDevice: is not available; each node has one network device" + allTraffic},
		problem{len(spec.ExternalTargets) > 0, "spec.externalTargets: is not available; nodes reach nobody but each other and the clients\nhint: target selects nodes; without it everybody is meant"},
		problem{spec.RemoteCluster != "", noClusters},
		problem{spec.Rate != nil, "spec.rate: is not available\nhint: action bandwidth limits the rate"},
		problem{reject && f.Action != "partition", "spec.partitionBehavior: has no effect with " + f.Action},
		problem{spec.Target == nil && spec.Direction != v1alpha1.To, fmt.Sprintf("spec.direction: %s needs a target, the other end\nhint: target: {mode: all, selector: {}}", spec.Direction)},
	); err != nil {
		return err
	}
	// A cluster would let them act, too, whatever the action; or ignore them.
	given := []problem{
		{spec.Delay != nil, "delay"}, {spec.Loss != nil, "loss"}, {spec.Duplicate != nil, "duplicate"},
		{spec.Corrupt != nil, "corrupt"}, {spec.Bandwidth != nil, "bandwidth"},
	}
	some := false
	for _, g := range given {
		wanted := g.text == f.Action || f.Action == "netem" && g.text != "bandwidth"
		some = some || g.wrong && wanted
		if g.wrong && !wanted {
			return fmt.Errorf("spec.%s: contradicts action %s\nhint: action netem combines delay, loss, duplicate and corrupt", g.text, f.Action)
		}
	}
	switch {
	case f.Action == "netem" && !some:
		return errors.New("spec: is missing one of delay, loss, duplicate, corrupt")
	case f.Action != "partition" && !some:
		return fmt.Errorf("spec.%s: is missing; action %s needs it", f.Action, f.Action)
	}

	network := Network{Direction: string(spec.Direction)}
	if f.Action == "partition" {
		network.Partition = &Partition{Reject: reject}
	}
	var err error
	if d := spec.Delay; d != nil {
		if network.Delay, err = parseDelay(d); err != nil {
			return err
		}
	}
	if l := spec.Loss; l != nil {
		if network.Loss, err = parseRandom("loss", l.Loss, l.Correlation); err != nil {
			return err
		}
	}
	if d := spec.Duplicate; d != nil {
		if network.Duplicate, err = parseRandom("duplicate", d.Duplicate, d.Correlation); err != nil {
			return err
		}
	}
	if c := spec.Corrupt; c != nil {
		if network.Corrupt, err = parseRandom("corrupt", c.Corrupt, c.Correlation); err != nil {
			return err
		}
	}
	if b := spec.Bandwidth; b != nil {
		if network.Bandwidth, err = parseBandwidth(b); err != nil {
			return err
		}
	}
	f.Spec = network
	if spec.Target != nil {
		peers, err := parseSelector("spec.target", spec.Target)
		if err != nil {
			return err
		}
		f.peers = &peers
	}
	return f.parseRest(spec.Duration, &spec.PodSelector)
}

func parseDelay(spec *v1alpha1.DelaySpec) (*Delay, error) {
	var d Delay
	var err error
	if d.Latency, err = time.ParseDuration(spec.Latency); err != nil {
		return nil, fmt.Errorf("spec.delay.latency: %w", err)
	}
	if d.Jitter, err = time.ParseDuration(spec.Jitter); err != nil {
		return nil, fmt.Errorf("spec.delay.jitter: %w", err)
	}
	if d.Correlation, err = percent("spec.delay.correlation", spec.Correlation); err != nil {
		return nil, err
	}
	switch {
	case d.Latency == 0:
		return nil, errors.New("spec.delay.latency: 0 has no effect")
	case d.Jitter > d.Latency:
		return nil, fmt.Errorf("spec.delay.jitter: %s is more than the latency (%s)", spec.Jitter, spec.Latency)
	}
	if r := spec.Reorder; r != nil {
		d.Reorder = &Reorder{Gap: r.Gap}
		if d.Reorder.Share, err = effective("spec.delay.reorder.reorder", r.Reorder); err != nil {
			return nil, err
		}
		if d.Reorder.Correlation, err = percent("spec.delay.reorder.correlation", r.Correlation); err != nil {
			return nil, err
		}
		if r.Gap < 0 {
			return nil, fmt.Errorf("spec.delay.reorder.gap: %d is negative", r.Gap)
		}
	}
	return &d, nil
}

func parseRandom(name, share, correlation string) (*Random, error) {
	var r Random
	var err error
	if r.Share, err = effective("spec."+name+"."+name, share); err != nil {
		return nil, err
	}
	r.Correlation, err = percent("spec."+name+".correlation", correlation)
	return &r, err
}

func parseBandwidth(spec *v1alpha1.BandwidthSpec) (*Bandwidth, error) {
	const hint = ": is not available\nhint: rate, limit and buffer make a token bucket"
	if err := need(problem{spec.Peakrate != nil, "spec.bandwidth.peakrate" + hint}, problem{spec.Minburst != nil, "spec.bandwidth.minburst" + hint}); err != nil {
		return nil, err
	}
	rate, err := bytesPerS(spec.Rate)
	if err != nil {
		return nil, fmt.Errorf("spec.bandwidth.rate: %w", err)
	}
	return &Bandwidth{BytesPerS: rate, Limit: int64(spec.Limit), Buffer: int64(spec.Buffer)}, nil
}

// ioMethods are Chaos Mesh's.
var ioMethods = strings.Fields(`lookup forget getattr setattr readlink mknod mkdir unlink rmdir symlink rename link open read write
	flush release fsync opendir readdir releasedir fsyncdir statfs setxattr getxattr listxattr removexattr access create getlk setlk bmap`)

func (f *Fault) parseIOChaos(text []byte) error {
	var object v1alpha1.IOChaos
	object.Spec.Percent = 100 // the schema's default
	if err := mesh(f, text, &object); err != nil {
		return err
	}
	spec := &object.Spec
	given := map[string]bool{"delay": spec.Delay != "", "errno": spec.Errno != 0, "mistake": spec.Mistake != nil, "attr": spec.Attr != nil}
	wanted := map[string]string{"latency": "delay", "fault": "errno", "mistake": "mistake", "attrOverride": "attr"}[f.Action]
	for _, name := range []string{"delay", "errno", "mistake", "attr"} {
		if given[name] && name != wanted {
			return fmt.Errorf("spec.%s: has no effect with %s", name, f.Action)
		}
	}
	below := strings.TrimPrefix(spec.Path, strings.TrimSuffix(spec.VolumePath, "/")+"/")
	_, badGlob := path.Match(spec.Path, "")
	if err := need(
		problem{!given[wanted], fmt.Sprintf("spec.%s: is missing; action %s needs it", wanted, f.Action)},
		problem{len(spec.ContainerNames) > 0, "spec.containerNames: says nothing here; a node is one process"},
		problem{spec.RemoteCluster != "", noClusters},
		problem{spec.Percent == 0, "spec.percent: 0 has no effect"},
		problem{!strings.HasPrefix(spec.VolumePath, "/"), fmt.Sprintf("spec.volumePath: %q is not an absolute path; it stands for the node's data directory", spec.VolumePath)},
		problem{badGlob != nil, fmt.Sprintf("spec.path: %q is not a glob", spec.Path)},
		problem{spec.Path != "" && below == spec.Path, fmt.Sprintf("spec.path: %q is not below volumePath (%s)", spec.Path, spec.VolumePath)},
	); err != nil {
		return err
	}
	io := IO{Path: below, Share: float64(spec.Percent) / 100, Errno: syscall.Errno(spec.Errno)}
	for i, m := range spec.Methods {
		if !slices.Contains(ioMethods, string(m)) {
			return fmt.Errorf("spec.methods[%d]: unknown method %q; have %s", i, m, strings.Join(ioMethods, ", "))
		}
		io.Methods = append(io.Methods, string(m))
	}
	if spec.Delay != "" {
		var err error
		if io.Latency, err = time.ParseDuration(spec.Delay); err != nil {
			return fmt.Errorf("spec.delay: %w", err)
		}
		if io.Latency <= 0 {
			return fmt.Errorf("spec.delay: %s is not positive", spec.Delay)
		}
	}
	if m := spec.Mistake; m != nil {
		io.Mistake = &Mistake{Random: m.Filling == v1alpha1.Random, MaxOccurrences: max(m.MaxOccurrences, 1), MaxLength: max(m.MaxLength, 1)}
	}
	if a := spec.Attr; a != nil {
		io.Attr = &Attr{Ino: a.Ino, Size: a.Size, Blocks: a.Blocks, Atime: instant(a.Atime), Mtime: instant(a.Mtime), Ctime: instant(a.Ctime),
			Perm: a.Perm, Nlink: a.Nlink, UID: a.UID, GID: a.GID, Rdev: a.Rdev}
		if a.Kind != nil {
			io.Attr.Kind = string(*a.Kind)
		}
		if *io.Attr == (Attr{}) {
			return errors.New("spec.attr: is empty")
		}
	}
	f.Spec = io
	return f.parseRest(spec.Duration, &spec.PodSelector)
}

func instant(t *v1alpha1.Timespec) *time.Time {
	if t == nil {
		return nil
	}
	at := time.Unix(t.Sec, t.Nsec)
	return &at
}

func (f *Fault) parseStressChaos(text []byte) error {
	var object v1alpha1.StressChaos
	if err := mesh(f, text, &object); err != nil {
		return err
	}
	spec := &object.Spec
	if err := need(
		problem{len(spec.ContainerNames) > 0, "spec.containerNames: says nothing here; a node is one process"},
		problem{spec.RemoteCluster != "", noClusters},
		problem{spec.StressngStressors != "", "spec.stressngStressors: is not available\nhint: stressors has cpu and memory"},
	); err != nil {
		return err
	}
	var stress Stress
	if c := spec.Stressors.CPUStressor; c != nil {
		stress.CPU = &CPUStress{Workers: c.Workers, Load: 1}
		if c.Load != nil {
			stress.CPU.Load = float64(*c.Load) / 100
		}
		if err := need(
			problem{c.Workers <= 0, fmt.Sprintf("spec.stressors.cpu.workers: %d is not positive", c.Workers)},
			problem{stress.CPU.Load == 0, "spec.stressors.cpu.load: 0 has no effect"},
			problem{len(c.Options) > 0, "spec.stressors.cpu.options: is not available; have workers, load"},
		); err != nil {
			return err
		}
	}
	if m := spec.Stressors.MemoryStressor; m != nil {
		stress.Memory = &MemoryStress{Workers: m.Workers, Share: 1}
		if err := need(
			problem{m.Workers <= 0, fmt.Sprintf("spec.stressors.memory.workers: %d is not positive", m.Workers)},
			problem{m.OOMScoreAdj != 0, "spec.stressors.memory.oomScoreAdj: is not available; have workers, size"},
			problem{len(m.Options) > 0, "spec.stressors.memory.options: is not available; have workers, size"},
		); err != nil {
			return err
		}
		var err error
		if p, ok := strings.CutSuffix(m.Size, "%"); ok {
			stress.Memory.Share, err = effective("spec.stressors.memory.size", p)
		} else if m.Size != "" {
			stress.Memory.Share = 0
			if stress.Memory.Bytes, err = bytes(m.Size); err != nil {
				err = fmt.Errorf("spec.stressors.memory.size: %w", err)
			} else if stress.Memory.Bytes == 0 {
				err = errors.New("spec.stressors.memory.size: 0 has no effect")
			}
		}
		if err != nil {
			return err
		}
	}
	f.Spec = stress
	return f.parseRest(spec.Duration, &spec.PodSelector)
}

var clocks = []string{"CLOCK_REALTIME", "CLOCK_MONOTONIC", "CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID", "CLOCK_MONOTONIC_RAW",
	"CLOCK_REALTIME_COARSE", "CLOCK_MONOTONIC_COARSE", "CLOCK_BOOTTIME", "CLOCK_REALTIME_ALARM", "CLOCK_BOOTTIME_ALARM"}

func (f *Fault) parseTimeChaos(text []byte) error {
	var object v1alpha1.TimeChaos
	if err := mesh(f, text, &object); err != nil {
		return err
	}
	spec := &object.Spec
	offset, err := time.ParseDuration(spec.TimeOffset)
	if err != nil {
		return fmt.Errorf("spec.timeOffset: %w", err)
	}
	if err := need(
		problem{len(spec.ContainerNames) > 0, "spec.containerNames: says nothing here; a node is one process"},
		problem{spec.RemoteCluster != "", noClusters},
		problem{offset == 0, "spec.timeOffset: 0 has no effect"},
	); err != nil {
		return err
	}
	for i, c := range spec.ClockIds {
		if !slices.Contains(clocks, c) {
			return fmt.Errorf("spec.clockIds[%d]: unknown clock %q; have %s", i, c, strings.Join(clocks, ", "))
		}
	}
	f.Spec = Clock{Offset: offset, Clocks: spec.ClockIds}
	return f.parseRest(spec.Duration, &spec.PodSelector)
}

// parseRest reads what all kinds that last have.
func (f *Fault) parseRest(text *string, selector *v1alpha1.PodSelector) error {
	what := f.Action
	if what == "" {
		what = f.Kind
	}
	if text == nil || *text == "" {
		return fmt.Errorf("spec.duration: is missing; %s needs one", what)
	}
	var err error
	if f.Duration, err = time.ParseDuration(*text); err != nil {
		return fmt.Errorf("spec.duration: %w", err)
	}
	if f.Duration <= 0 {
		return fmt.Errorf("spec.duration: %s is not positive", *text)
	}
	return f.parseSelector(selector)
}

func (f *Fault) parseSelector(spec *v1alpha1.PodSelector) error {
	var err error
	f.selector, err = parseSelector("spec", spec)
	return err
}

// percent reads a percentage as a share; "" is 0.
func percent(path, text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	p, err := strconv.ParseFloat(text, 64)
	if err != nil || !(p >= 0 && p <= 100) {
		return 0, fmt.Errorf("%s: %q is not a percentage from 0 to 100", path, text)
	}
	return p / 100, nil
}

// effective is percent, and not 0.
func effective(path, text string) (float64, error) {
	share, err := percent(path, text)
	if err == nil && share == 0 {
		err = fmt.Errorf("%s: 0 has no effect", path)
	}
	return share, err
}

// bytes reads a size: 1MB is 10^6 bytes, 1MiB is 2^20.
func bytes(text string) (int64, error) {
	read := units.FromHumanSize
	if strings.Contains(strings.ToLower(text), "ib") {
		read = units.RAMInBytes
	}
	size, err := read(text)
	if err == nil && size < 0 {
		err = fmt.Errorf("%s is negative or too large", text)
	}
	return size, err
}

// bytesPerS reads a rate as Chaos Mesh does: 1kbps is 1024 bytes/s, and as tc
// does: 1kbit is 1000 bits/s.
func bytesPerS(text string) (int64, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	for i, prefix := range []string{"k", "m", "g", "t", ""} {
		power := float64((i + 1) % 5)
		for unit, factor := range map[string]float64{"bit": math.Pow(1000, power) / 8, "bps": math.Pow(1024, power)} {
			digits, ok := strings.CutSuffix(s, prefix+unit)
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
			if err != nil {
				return 0, err
			}
			rate := float64(n) * factor
			if rate < 1 || rate > 1<<50 {
				return 0, fmt.Errorf("%s is not from 1bps to 1024tbps", text)
			}
			return int64(rate), nil
		}
	}
	return 0, fmt.Errorf("%q has no unit; have bit, bps and these with k, m, g, t", text)
}
