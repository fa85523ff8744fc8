package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"statequake/chaos"
	"statequake/chaos/hand"
	"statequake/history"
	"statequake/scenarios"
)

// oneRequest is how long a signal counts as the same as the one before: timeout
// signals its child, and then its child's process group.
const oneRequest = 100 * time.Millisecond

// handOptions says which faults to inject into what.
type handOptions struct {
	file    string // a scenario, or objects of faults alone
	set     []string
	fault   string // only the one of this name; "" for all
	cluster string // directory of a harness, or address of a node
}

// chaosByHand injects faults into a cluster that runs and prints what is seen of
// them. The first SIGINT or SIGTERM heals, the second does not wait for that.
func chaosByHand(ctx context.Context, out io.Writer, o handOptions) error {
	faults, err := scenarios.OpenFaults(o.file, chaos.Local, scenarios.Options{Set: o.set})
	if err != nil {
		return err
	}
	if o.fault != "" {
		if err := faults.Only(o.fault); err != nil {
			return err
		}
	}
	dir, leave, err := harnessOf(o.cluster)
	if err != nil {
		return err
	}
	defer leave()
	client, err := hand.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	s := &handSession{client: client, out: out, signals: signals, alone: faults.Scenario == nil}
	proven := true
	for i, f := range faults.Faults {
		if s.stopped {
			fmt.Fprintf(out, "%s was not injected\n", f.Name)
			proven = false
			continue
		}
		ok, err := s.inject(ctx, f)
		var refused *hand.Refused
		if errors.As(err, &refused) {
			return faults.Refused(i, refused)
		}
		if err != nil {
			return err
		}
		proven = proven && ok
	}
	if !proven {
		return exit(exitUnknown)
	}
	return nil
}

// handSession injects faults one after the other.
type handSession struct {
	client  *hand.Client
	out     io.Writer
	signals <-chan os.Signal
	alone   bool // no fault has a trigger
	stopped bool // by a signal
}

// inject injects a fault and prints what is heard of it. It tells whether the
// fault was confirmed and seen to be over.
func (s *handSession) inject(ctx context.Context, f scenarios.Fault) (ok bool, err error) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	lines, over := make(chan hand.Line), make(chan error, 1)
	go func() {
		over <- s.client.Inject(ctx, hand.Order{Name: f.Name, Chaos: f.Chaos}, func(line hand.Line) { lines <- line })
	}()
	var name string // that it goes by, once it is requested
	var confirmed, recovered bool
	var failed error
	var last time.Time
	for {
		select {
		case line := <-lines:
			switch ev := line.Event; {
			case line.Note != "":
				fmt.Fprintf(s.out, "%s: %s\n", f.Name, line.Note)
			case line.Error != "":
				failed = errors.New(line.Error)
			case ev != nil:
				if name == "" && !s.alone {
					fmt.Fprintf(s.out, "%s: its trigger does not count by hand\n", f.Name)
				}
				name = ev.Name
				confirmed = confirmed || ev.Event == history.Evidence && ev.Proof == history.Confirmed
				recovered = recovered || ev.Event == history.Recovered
				printEvent(s.out, time.Now().Add(ev.At-line.Now), ev, f.Plan.Duration)
			}
		case <-s.signals:
			if time.Since(last) < oneRequest {
				continue
			}
			last = time.Now()
			again := s.stopped
			s.stopped = true
			if again || name == "" {
				leave() // which heals it, too
				continue
			}
			fmt.Fprintln(s.out, "healing; again to leave at once")
			// If it cannot be asked, the harness is gone, or the fault is over.
			go s.client.Heal(ctx, name)
		case err := <-over:
			switch {
			case failed != nil:
				return false, failed
			case ctx.Err() != nil && name == "":
				fmt.Fprintf(s.out, "%s was not injected\n", f.Name)
				return false, nil
			case ctx.Err() != nil:
				fmt.Fprintf(s.out, "%s is healed; nobody waited to see it\n", name)
				return false, nil
			case err != nil:
				return false, err
			case confirmed && !recovered:
				fmt.Fprintf(s.out, "%s is over, but its targets were not seen back in time\n", name)
			}
			return confirmed && recovered, nil
		}
	}
}

// printEvent prints what happened to a fault that lasts so long, 0 if it has no
// duration, as one line.
func printEvent(out io.Writer, at time.Time, ev *history.Fault, lasts time.Duration) {
	what := ev.Detail
	switch ev.Event {
	case history.Requested:
		what = strings.TrimSpace(ev.Kind+" "+ev.Action) + " on " + targetsOf(ev)
		if lasts > 0 {
			what += fmt.Sprintf(" for %s, or until Ctrl-C", lasts)
		}
	case history.Injected:
		what = "seen on " + targetsOf(ev)
	case history.Evidence:
		what = string(ev.Proof) + ": " + ev.Detail
	}
	fmt.Fprintf(out, "%s  %s  %-9s  %s\n", at.Format("15:04:05.000"), ev.Name, ev.Event, what)
}

// targetsOf names the targets of a fault, and their roles.
func targetsOf(ev *history.Fault) string {
	var list []string
	for _, t := range ev.Targets {
		if role := ev.Roles[t]; role != "" {
			t += " (" + role + ")"
		}
		list = append(list, t)
	}
	if len(list) == 0 {
		return "nobody"
	}
	return strings.Join(list, ", ")
}

// harnessOf returns the directory in which a harness takes faults for the
// cluster. For one that runs by itself it starts a harness; leave ends it.
func harnessOf(cluster string) (dir string, leave func(), err error) {
	info, err := os.Stat(cluster)
	if err == nil && info.IsDir() {
		return cluster, func() {}, nil
	}
	address := strings.TrimSuffix(strings.TrimPrefix(cluster, "http://"), "/")
	if _, _, bad := net.SplitHostPort(address); bad != nil {
		if err == nil {
			err = fmt.Errorf("%s: is a file", cluster)
		}
		return "", nil, fmt.Errorf("--cluster: neither a directory (%w) nor an address\nhint: the directory of statequake cluster up or of a run in progress, or an address as in http://127.0.0.1:7001", err)
	}
	return adopt(cluster)
}

// adopt starts a harness for a cluster that runs by itself. It is a process of
// its own, so that it heals what this one can no longer.
func adopt(address string) (dir string, leave func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find the statequake program: %w", err)
	}
	cmd := exec.Command(program, "cluster", "adopt", address)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for this process
	life, err := cmd.StdinPipe()                         // ends with this process, however that ends
	if err != nil {
		return "", nil, err
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start a harness: %w", err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	leave = func() {
		life.Close()
		_ = cmd.Wait() // it has said what there was to say
	}
	if err != nil {
		leave()
		return "", nil, exit(exitError) // it has said why
	}
	return strings.TrimSuffix(line, "\n"), leave, nil
}

// whyNot lists the kinds of faults that a harness does not take, those with the
// same reason together.
func whyNot(cannot map[string]string) []string {
	kinds := map[string][]string{} // by reason
	for kind, why := range cannot {
		why, _, _ = strings.Cut(why, "\nhint: ")
		kinds[why] = append(kinds[why], kind)
	}
	var lines []string
	for why, list := range kinds {
		slices.Sort(list)
		lines = append(lines, strings.Join(list, ", ")+": "+why)
	}
	slices.Sort(lines)
	return lines
}
