package search

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// writes are n concurrent writes of different values to a register, and a read
// of the value that is given. A positive input is a write.
func writes(n, read int) Question {
	q := Question{
		Model: porcupine.Model{
			Init: func() any { return 0 },
			Step: func(state, input, _ any) (bool, any) {
				if input.(int) > 0 {
					return true, input
				}
				return state == -input.(int), state
			},
			DescribeState: func(state any) string { return fmt.Sprintf("s%d", state) },
		},
		Size: func(any) int64 { return 100 },
	}
	for i := range n {
		q.Ops = append(q.Ops, porcupine.Operation{ClientId: i, Input: i + 1, Call: 0, Return: 9})
	}
	q.Ops = append(q.Ops, porcupine.Operation{ClientId: n, Input: -read, Call: 0, Return: 9})
	return q
}

func TestLinearizable(t *testing.T) {
	for _, c := range []struct {
		n, read int
		limit   Budget
		want    bool
		err     error
	}{
		{3, 2, Budget{time.Minute, 1 << 20}, true, nil},
		{3, 7, Budget{time.Minute, 1 << 20}, false, nil},
		{3, 2, Budget{0, 1 << 20}, false, ErrTime},
		{30, 31, Budget{50 * time.Millisecond, 0}, false, ErrTime},
		{30, 31, Budget{time.Minute, 1 << 20}, false, ErrMemory},
		{3, 2, Budget{time.Minute, 1}, false, ErrMemory}, // an answer found beyond the limit does not count
	} {
		if ok, err := writes(c.n, c.read).Linearizable(c.limit); ok != c.want || err != c.err {
			t.Errorf("%d writes, read of %d, %+v: %t, %v", c.n, c.read, c.limit, ok, err)
		}
	}
}

func TestDraw(t *testing.T) {
	q := writes(5, 7)
	q.Model.Step = func(state, input, _ any) (bool, any) { return state == 0, input } // so that every operation has an order of its own
	first, err := q.Draw("<b>", Budget{Time: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, err := q.Draw("<b>", Budget{Time: time.Minute}); err != nil || !bytes.Equal(first, again) {
			t.Fatalf("drawn again, the page is another: %v", err)
		}
	}
	page := string(first)
	if !strings.Contains(page, "<title>&lt;b&gt;</title>") || !strings.Contains(page, policy) {
		t.Error("the page lacks its title or its policy")
	}
	for want, limit := range map[error]Budget{ErrTime: {}, ErrMemory: {Time: time.Minute, Memory: 1}} {
		if _, err := q.Draw("", limit); err != want {
			t.Errorf("%+v: %v, want %v", limit, err, want)
		}
	}
}
