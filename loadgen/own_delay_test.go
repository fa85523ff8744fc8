package loadgen

import (
	"testing"
	"time"
)

func TestOwnDelay(t *testing.T) {
	m := newMeter(func() time.Duration { return 0 })
	if p99, most := m.own.take(); p99 != 0 || most != 0 {
		t.Errorf("nothing happened, and the delays are %v and %v", p99, most)
	}
	for range 990 {
		m.lagged(time.Millisecond)
	}
	for range 10 {
		m.lagged(time.Second)
	}
	m.own.woke(5 * time.Millisecond)
	p99, most := m.own.take()
	if p99 < 6*time.Millisecond || p99 > 6100*time.Microsecond || most != 1005*time.Millisecond {
		t.Errorf("the delays are %v and %v, want about 6ms and 1.005s", p99, most)
	}
	if p99, most := m.own.take(); p99 != 0 || most != 0 {
		t.Errorf("taken already, and the delays are %v and %v", p99, most)
	}
}
