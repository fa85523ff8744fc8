package chaos

import (
	"context"
	"time"
)

// awaitReady waits until a node is ready and returns a word on it; false if ctx
// ends before.
func awaitReady(ctx context.Context, node Node) (string, bool) {
	for {
		if ok, word := node.Ready(ctx); ok {
			return word, true
		}
		select {
		case <-ctx.Done():
			return "", false
		case <-time.After(20 * time.Millisecond):
		}
	}
}
