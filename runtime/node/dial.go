package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/net/proxy"
)

// dialMember connects to another member: directly if it is on this machine's
// loopback interface, else by the SOCKS proxy in ALL_PROXY, if there is one. The
// error is ECONNREFUSED also where the proxy was refused.
func dialMember(ctx context.Context, network, addr string) (net.Conn, error) {
	if a, err := netip.ParseAddrPort(addr); err == nil && a.Addr().IsLoopback() {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	conn, err := proxy.Dial(ctx, network, addr)
	if err != nil && !errors.Is(err, syscall.ECONNREFUSED) && strings.HasSuffix(err.Error(), syscall.ECONNREFUSED.Error()) {
		err = fmt.Errorf("%w (%w)", err, syscall.ECONNREFUSED) // it has no type of its own
	}
	return conn, err
}
