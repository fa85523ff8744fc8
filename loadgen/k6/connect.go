package k6

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"statequake/chaos/hand"
	"statequake/fixtures/reference"
	"statequake/loadgen"
)

// codec is that of the reference runtime's API, which every system that k6 sends
// to by itself must speak. Other systems are reached through a scenario.
var codec = reference.Codec{}

// targetConfig says where and how operations are sent.
type targetConfig struct {
	urls     string // separated by commas
	run      string // directory of a running harness
	timeout  time.Duration
	retries  int
	maxConns int

	nodes []loadgen.Endpoint // found by endpoints
}

// endpoints finds the nodes.
func (c targetConfig) endpoints() ([]loadgen.Endpoint, error) {
	if c.run != "" {
		return runNodes(c.run)
	}
	var nodes []loadgen.Endpoint
	for text := range strings.SplitSeq(c.urls, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("statequake.connect: %q is not the URL of a node\nhint: as in http://127.0.0.1:7001", text)
		}
		addr := u.Host
		if u.Port() == "" {
			addr = net.JoinHostPort(u.Hostname(), "80")
		}
		nodes = append(nodes, loadgen.Endpoint{Node: addr, Addr: addr})
	}
	return nodes, nil
}

// runNodes asks the harness of a directory for its nodes.
func runNodes(dir string) ([]loadgen.Endpoint, error) {
	client, err := hand.Dial(dir)
	if err != nil {
		return nil, fmt.Errorf("statequake.connect: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	info, err := client.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("statequake.connect: %w", err)
	}
	var nodes []loadgen.Endpoint
	for _, n := range info.Nodes {
		nodes = append(nodes, loadgen.Endpoint{Node: n.Name, Addr: cmp.Or(n.Reach, n.Addr)})
	}
	return nodes, nil
}
