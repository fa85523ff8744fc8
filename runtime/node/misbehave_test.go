package node

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"statequake/runtime/core"
)

// TestStaleForward: the planted bug shows in what a node answers for an entity
// that has moved, and only there.
func TestStaleForward(t *testing.T) {
	for _, planted := range []bool{true, false} {
		c := newInMemory(t, 3, Config{Bugs: core.Bugs{StaleForward: planted}})
		key := c.ownedBy("n1", "k")
		c.ok("n1", "", "entities/list/"+key+"/add", push{Word: "a"})
		drain, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c.nodes["n1"].Drain(drain)
		c.ok("n1", "", "entities/list/"+key+"/add", push{Word: "b"})
		old, now := []string{"a", "b"}, []string{"a", "b"}
		if planted {
			old = []string{"a"}
		}
		if got := c.words("n1", "list", key); !slices.Equal(got, old) {
			t.Errorf("planted %t: n1, which has handed the list over, answers %v, want %v", planted, got, old)
		}
		if got := c.words("n2", "list", key); !slices.Equal(got, now) {
			t.Errorf("planted %t: n2 answers %v, want %v", planted, got, now)
		}
	}
}

// TestFailedCommandApplied: the planted bug shows in a write that failed and is
// there.
func TestFailedCommandApplied(t *testing.T) {
	c := newInMemory(t, 1, Config{Bugs: core.Bugs{FailedCommandApplied: true}, StoreDelay: 2 * hasty})
	if status, r, _ := c.post("n1", "", "entities/list/k/add", push{Word: "a"}); status != http.StatusGatewayTimeout || r.Effect != "none" {
		t.Errorf("a write that takes long: %d %+v, want a failure without effect", status, r)
	}
	c.await("the write is there", func() (string, bool) {
		status, r, _ := c.post("n1", "", "entities/list/k/all", nil)
		return string(r.Result), status == http.StatusOK && string(r.Result) == `["a"]`
	})
}
