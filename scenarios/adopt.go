package scenarios

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"statequake/chaos"
	"statequake/chaos/hand"
	"statequake/chaos/process"
	"statequake/fixtures"
	"statequake/fixtures/reference"
	"statequake/history"
)

// Adopt takes faults by hand, at the socket in dir, for a cluster of the
// reference runtime that somebody else runs on this machine; address is that of
// one of its nodes. It returns when ctx ends and all faults are healed. ready is
// called when faults are taken.
func Adopt(ctx context.Context, address, dir string, ready func()) error {
	cluster, err := reference.Attach(ctx, address)
	if err != nil {
		return err
	}
	began := time.Now()
	now := func() time.Duration { return time.Since(began) }
	d := &desk{
		harness:  "cluster that runs by itself",
		scenario: &Scenario{System: System{Name: "reference", Nodes: len(cluster.Nodes())}},
		kinds:    append([]string{chaos.StressChaos}, always...),
		cannot:   map[string]string{},
		refuse:   refuseAdopted, note: noteAdopted, now: now,
	}
	for kind := range chaos.Local.Can {
		d.cannot[kind] = kind + " takes nodes that this program has started\nhint: statequake cluster up --chaos starts such a cluster"
	}
	var nodes []chaos.Node
	for _, n := range cluster.Nodes() {
		addr, err := netip.ParseAddrPort(n.Addr)
		if err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		s := &stranger{name: n.Name, addr: addr}
		if s.PID() == 0 {
			if _, err := fixtures.Listener(addr); err != nil {
				return fmt.Errorf("node %s: %w", n.Name, err)
			}
		}
		nodes = append(nodes, chaos.Node{
			Node:   process.Node{Name: n.Name, Addr: n.Addr, ReadyURL: n.ReadyURL, PID: s.PID, Kill: s.Kill, Hold: func(bool) {}},
			Labels: n.Labels,
		})
		d.nodes = append(d.nodes, hand.Node{Name: n.Name, Addr: n.Addr})
	}
	d.nemesis = chaos.New(chaos.Config{
		Nodes: nodes, Seed: rand.Int64(), Resolve: cluster.Resolve,
		Executors: map[string]chaos.Executor{chaos.StressChaos: &chaos.Stresses{Now: now}},
		Now:       now, Record: func(history.Fault) {},
	})
	server, err := d.serve(dir)
	if err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	server.Close()
	return nil
}

// refuseAdopted refuses what takes a hold on the start of nodes.
func refuseAdopted(f *chaos.Fault) *hand.Problem {
	if f.Action != chaos.PodFailure {
		return nil
	}
	return &hand.Problem{Field: "chaos.spec.action", Text: "pod-failure has to keep a node down, and whoever runs this cluster may start it again",
		Hint: "pod-kill ends it; statequake cluster up starts a cluster that takes pod-failure"}
}

func noteAdopted(f *chaos.Fault) string {
	if f.Action != chaos.PodKill {
		return ""
	}
	return "whoever runs this cluster has to start the node again; it is back when it is ready, and waited for 30 s"
}

// stranger is the process of a node that somebody else runs, whoever it is at
// present.
type stranger struct {
	name string
	addr netip.AddrPort

	mu sync.Mutex
	id process.ID
}

// PID is the process that listens at the node's address, 0 while there is none.
func (s *stranger) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid()
}

func (s *stranger) pid() int {
	if now, ok := process.Identify(s.id.PID); ok && now == s.id {
		return s.id.PID
	}
	s.id = process.ID{}
	pid, err := fixtures.Listener(s.addr)
	if err != nil {
		return 0
	}
	s.id, _ = process.Identify(pid)
	return s.id.PID
}

// Kill signals the process, and none that got its pid later.
func (s *stranger) Kill(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid := s.pid()
	if pid == 0 {
		return fmt.Errorf("send %s to %s: %w", sig, s.name, fixtures.ErrDown)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", sig, s.name, err)
	}
	defer unix.Close(fd)
	if now, ok := process.Identify(pid); !ok || now != s.id {
		return fmt.Errorf("send %s to %s: %w", sig, s.name, fixtures.ErrDown)
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return fmt.Errorf("send %s to %s: %w", sig, s.name, err)
	}
	return nil
}
