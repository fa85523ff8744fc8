package loadgen

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// Poisson is an arrival process with gaps that are independent and exponentially
// distributed, as those of many users who do not know of each other. The first
// operation is due at 0. It is a function of rate and seed. Use NewPoisson.
//
// Any part of it can be had without what comes before. Time is divided into
// blocks, whose numbers of arrivals are independent and Poisson distributed;
// given the number of arrivals in a stretch of time they are independent and
// uniform in it, so that the number in its first half is binomial (the
// conditional property: J. F. C. Kingman, Poisson Processes, 1993, section 2.4).
// A block is halved until about leafSize are left, which are drawn and sorted.
// Every draw depends on the seed and on its place in the tree alone.
type Poisson struct {
	rate float64
	seed int64
	leaf time.Duration // length of a leaf

	last atomic.Pointer[leaf] // asked for last: those who ask in order find it here

	mu     sync.Mutex
	before []int64 // arrivals before block i
}

const (
	leafSize = 64 // arrivals in a leaf, on average
	levels   = 10 // halvings of a block
)

// leaf holds the instants of some arrivals in a row, from number first on.
type leaf struct {
	first int64
	at    []time.Duration
}

// NewPoisson returns the process of so many operations per second, at most
// 1,000,000.
func NewPoisson(rate float64, seed int64) (*Poisson, error) {
	if err := Constant(rate).check(); err != nil {
		return nil, err
	}
	length := leafSize / rate * float64(time.Second)
	p := &Poisson{rate: rate, seed: seed, leaf: time.Duration(min(length, math.MaxInt64>>(levels+1))), before: []int64{0}}
	return p, nil
}

// block is the length of a block.
func (p *Poisson) block() time.Duration { return p.leaf << levels }

// blocks is how many blocks there are before the end of time.
func (p *Poisson) blocks() int64 { return math.MaxInt64/int64(p.block()) - 1 }

// At is when operation n is due; the largest duration if that is out of range.
// The first time it takes some microseconds for every block up to n, of 65,536
// operations on average; then it does not depend on n.
func (p *Poisson) At(n int64) time.Duration {
	if n <= 0 {
		return 0
	}
	n-- // operation 0 comes before what is drawn
	l := p.last.Load()
	if l == nil || n < l.first || n >= l.first+int64(len(l.at)) {
		if l = p.find(n); l == nil {
			return math.MaxInt64
		}
		p.last.Store(l)
	}
	return l.at[n-l.first]
}

// find returns the leaf that holds arrival n, nil if that is beyond the end of
// time.
func (p *Poisson) find(n int64) *leaf {
	block := p.blockOf(func(_ int64, before int64) bool { return before > n })
	if block < 0 {
		return nil
	}
	return p.descend(block, func(_ time.Duration, before int64) bool { return n < before })
}

// blockOf returns the number of the last block before the first one of which
// beyond is true, -1 if none is before the end of time.
func (p *Poisson) blockOf(beyond func(block, before int64) bool) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !beyond(int64(len(p.before)-1), p.before[len(p.before)-1]) {
		block := int64(len(p.before) - 1)
		if block >= p.blocks() {
			return -1
		}
		p.before = append(p.before, p.before[block]+p.arrivals(block))
	}
	return int64(sort.Search(len(p.before), func(i int) bool { return beyond(int64(i), p.before[i]) })) - 1
}

// arrivals is the number of arrivals in a block.
func (p *Poisson) arrivals(block int64) int64 {
	return int64(distuv.Poisson{Lambda: p.rate * p.block().Seconds(), Src: p.source(block, 0)}.Rand())
}

// descend goes down from a block to the leaf before the first half that is
// beyond what is looked for, by its start or the number of arrivals before it.
func (p *Poisson) descend(block int64, beyond func(start time.Duration, before int64) bool) *leaf {
	p.mu.Lock()
	first := p.before[block]
	p.mu.Unlock()
	inside := p.arrivals(block)
	start, length := time.Duration(block)*p.block(), p.block()
	node := int64(1) // as in a heap: 2*node and 2*node+1 are its halves
	for range levels {
		left := halves(inside, p.source(block, node))
		length /= 2
		node *= 2
		if beyond(start+length, first+left) {
			inside = left
		} else {
			start, first, inside = start+length, first+left, inside-left
			node++
		}
	}
	l := &leaf{first: first, at: make([]time.Duration, inside)}
	draw := rand.New(p.source(block, node))
	for i := range l.at {
		l.at[i] = start + time.Duration(draw.Int64N(int64(length)))
	}
	slices.Sort(l.at)
	return l
}

// source is the randomness of one node of a block.
func (p *Poisson) source(block, node int64) *rand.PCG {
	const stream = 0x9d5f3c1b7a2e4d61 // apart from what else depends on the seed
	return rand.NewPCG(mix(uint64(p.seed)^stream)^mix(uint64(block)), mix(uint64(node)))
}

// halves is how many of n coins show heads: exactly binomial.
func halves(n int64, source *rand.PCG) int64 {
	var heads int
	for ; n >= 64; n -= 64 {
		heads += bits.OnesCount64(source.Uint64())
	}
	return int64(heads + bits.OnesCount64(source.Uint64()&(1<<n-1)))
}

// Count agrees with At to the nanosecond.
func (p *Poisson) Count(until time.Duration) int64 {
	if until <= 0 {
		return 0
	}
	until = min(until, time.Duration(p.blocks())*p.block())
	block := p.blockOf(func(b, _ int64) bool { return b > int64((until-1)/p.block()) })
	l := p.descend(block, func(start time.Duration, _ int64) bool { return start >= until })
	within, _ := slices.BinarySearch(l.at, until)
	return 1 + l.first + int64(within)
}
