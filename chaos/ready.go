package chaos

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// awaitReady waits until a node is ready and returns a word on it; false if ctx
// ends before.
func awaitReady(ctx context.Context, node Node) (string, bool) {
	const every, patience = 20 * time.Millisecond, 500 * time.Millisecond
	for {
		asking, cancel := context.WithTimeout(ctx, patience)
		word, ok := ready(asking, node)
		cancel()
		if ok {
			return word, true
		}
		select {
		case <-ctx.Done():
			return "", false
		case <-time.After(every):
		}
	}
}

func ready(ctx context.Context, node Node) (string, bool) {
	if node.ReadyURL == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", node.Addr)
		if err != nil {
			return "", false
		}
		conn.Close()
		return "accepted a connection", true
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, node.ReadyURL, nil)
	if err != nil {
		return "", false
	}
	// A transport of its own keeps no connection and follows no redirect.
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return "", false
	}
	resp.Body.Close()
	return fmt.Sprintf("was ready, status %d", resp.StatusCode), 200 <= resp.StatusCode && resp.StatusCode <= 299
}
