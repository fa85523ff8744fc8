package network

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// frameMax is the longest frame on a link: an Ethernet header and 1500 bytes.
const frameMax = 14 + 1500

// Effect is what happens to the packets of a path. The zero Effect is none.
// Shares and correlations are from 0 to 1.
type Effect struct {
	Drop   bool // nothing passes, and nobody is told
	Reject bool // nothing passes, and who sends is told: connections are reset, new ones refused. Only Links can

	// Each packet is late by Latency plus a jitter, uniform in [-Jitter,
	// Jitter), never less than 0. So jitter changes the order of packets.
	Latency, Jitter  time.Duration
	DelayCorrelation float64

	// Reorder is the share of packets that are not delayed and so overtake the
	// others. With a Gap above 1 only every Gap-th packet has that chance.
	// It needs a Latency.
	Reorder, ReorderCorrelation float64
	Gap                         int

	Loss, LossCorrelation           float64
	Duplicate, DuplicateCorrelation float64
	Corrupt, CorruptCorrelation     float64 // one bit behind the Ethernet header is flipped

	// Rate is in bytes of frames per second; 0 is no limit. Buffer is how many
	// bytes may pass at once after a pause, at least a frame. What arrives
	// while Limit bytes are waiting is dropped; 0 means 1 MiB.
	Rate, Buffer, Limit int64
}

const defaultLimit = 1 << 20

func (e Effect) check() error {
	for name, p := range map[string]float64{
		"delay correlation": e.DelayCorrelation,
		"reorder":           e.Reorder, "reorder correlation": e.ReorderCorrelation,
		"loss": e.Loss, "loss correlation": e.LossCorrelation,
		"duplicate": e.Duplicate, "duplicate correlation": e.DuplicateCorrelation,
		"corrupt": e.Corrupt, "corrupt correlation": e.CorruptCorrelation,
	} {
		if !(0 <= p && p <= 1) {
			return fmt.Errorf("%s: %v is not from 0 to 1", name, p)
		}
	}
	for name, v := range map[string]int64{
		"latency": int64(e.Latency), "jitter": int64(e.Jitter), "gap": int64(e.Gap),
		"rate": e.Rate, "buffer": e.Buffer, "limit": e.Limit,
	} {
		if v < 0 {
			return fmt.Errorf("%s: %d is negative", name, v)
		}
	}
	if e.Reorder > 0 && e.Latency == 0 {
		return fmt.Errorf("reorder: %v needs a latency", e.Reorder)
	}
	return nil
}

// filter is an effect at work on one path: a pure function of the packets'
// times and sizes and of its random numbers.
type filter struct {
	Effect
	rng *rand.Rand

	delay, reorder, loss, duplicate, corrupt float64 // the last correlated numbers

	sinceReorder int
	full         time.Duration // when the bucket will be full, if nothing more comes
	last         time.Duration // when the last packet leaves the bucket
}

func newFilter(e Effect, seed uint64, path int) *filter {
	f := &filter{Effect: e, rng: rand.New(rand.NewPCG(seed, uint64(path)))}
	for _, last := range []*float64{&f.delay, &f.reorder, &f.loss, &f.duplicate, &f.corrupt} {
		*last = f.rng.Float64()
	}
	return f
}

// draw is netem's get_crandom.
func (f *filter) draw(last *float64, correlation float64) float64 {
	*last = (1-correlation)*f.rng.Float64() + correlation**last
	return *last
}

// fate is what becomes of one copy of a packet.
type fate struct {
	wait  time.Duration // for the token buckets
	delay time.Duration
	flip  int // the bit to flip, counted behind the Ethernet header; -1 for none
}

// tally counts what happened to the copies of one packet.
type tally struct{ dropped, delayed, duplicated, corrupted int64 }

// pass applies the effect to each of the copies in fates of a packet of size
// bytes that arrives now, and returns those that are left, in the same array if
// that is large enough.
func (f *filter) pass(now time.Duration, size int, fates []fate, t *tally) []fate {
	if f.Duplicate > 0 {
		for _, c := range fates {
			if f.draw(&f.duplicate, f.DuplicateCorrelation) < f.Duplicate {
				fates = append(fates, c)
				t.duplicated++
			}
		}
	}
	kept := fates[:0]
	for _, c := range fates {
		if f.Loss > 0 && f.draw(&f.loss, f.LossCorrelation) < f.Loss {
			t.dropped++
			continue
		}
		if f.Corrupt > 0 && f.draw(&f.corrupt, f.CorruptCorrelation) < f.Corrupt {
			c.flip = f.rng.IntN((size - 14) * 8)
			t.corrupted++
		}
		if f.Rate > 0 {
			wait, ok := f.bucket(now, size)
			if !ok {
				t.dropped++
				continue
			}
			c.wait = max(c.wait, wait)
		}
		c.delay += f.late()
		kept = append(kept, c)
	}
	return kept
}

// bucket is how long a packet waits for its tokens; false if the queue is full.
func (f *filter) bucket(now time.Duration, size int) (time.Duration, bool) {
	limit := f.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	if f.due(now, size)-now > f.spend(limit) {
		return 0, false
	}
	return f.leaves(now, size) - now, true
}

// spend is how long it takes until there are tokens for so many bytes.
func (f *filter) spend(bytes int64) time.Duration {
	return time.Duration(float64(bytes) / float64(f.Rate) * float64(time.Second))
}

// due is when there are tokens for a packet that arrives now. The bucket holds
// Buffer - (full-t)*Rate tokens at time t.
func (f *filter) due(now time.Duration, size int) time.Duration {
	return max(now, f.last, f.full-f.spend(max(f.Buffer, frameMax)-int64(size)))
}

// leaves is due, and takes the tokens.
func (f *filter) leaves(now time.Duration, size int) time.Duration {
	f.last = f.due(now, size)
	f.full = max(f.full, f.last) + f.spend(int64(size))
	return f.last
}

// late is the delay of the next packet.
func (f *filter) late() time.Duration {
	if f.Latency == 0 && f.Jitter == 0 {
		return 0
	}
	if f.Reorder > 0 {
		if f.sinceReorder+1 >= f.Gap && f.draw(&f.reorder, f.ReorderCorrelation) < f.Reorder {
			f.sinceReorder = 0
			return 0
		}
		f.sinceReorder++
	}
	late := f.Latency
	if f.Jitter > 0 {
		late += time.Duration((2*f.draw(&f.delay, f.DelayCorrelation) - 1) * float64(f.Jitter))
	}
	return max(late, 0)
}
