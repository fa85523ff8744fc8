package loadgen

import (
	"testing"
	"time"
)

func TestMeasurePacing(t *testing.T) {
	p := MeasurePacing(100 * time.Millisecond)
	if p.N != 100 || p.P50 <= 0 || p.P50 > p.P99 || p.P99 > p.Max {
		t.Errorf("got %+v", p)
	}
}
