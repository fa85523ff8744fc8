package loadgen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"statequake/history"
)

// ProberConfig says what a Prober touches.
type ProberConfig struct {
	Endpoints []Endpoint
	Codec     Codec

	// Keys are without their generation: of "{probe-3}" the prober touches
	// "{probe-3}.1", after at most 512 writes "{probe-3}.2" and so on. Their
	// entities are those whose keys workloads touch, as Operations names them.
	Keys  []EntityKey
	Every time.Duration // between two probes of one key; 0 means 20 ms

	Start    time.Duration // first probe, on the run clock
	Timeout  time.Duration // of a probe, from its sending, and for its wait to be sent
	MaxConns int           // 0 means 1,024
	MaxBody  int           // bytes of an answer's body, 0 means 8 MiB
	Tag      string
	Now      func() time.Duration // run clock: monotonic, concurrent-safe
	Record   func(*history.Op)    // as in Config
}

// Prober writes to each of a few keys at a steady pace (it adds 1 to a counter),
// so that an outage is seen whatever the workload does. Probes are an open loop:
// a slow answer never delays the next probe. Each is sent once, so that its
// outcome is that of one node at one instant. Successive probes of a key go to
// the endpoints in turn.
type Prober struct {
	c      ProberConfig
	sender *sender
	probes map[string]probe // by entity
	share  int64            // probes of one key in one generation
	made   atomic.Int64
}

// NewProber checks the config. Nothing is sent yet.
func NewProber(c ProberConfig) (*Prober, error) {
	t := target{c.Endpoints, c.Codec, c.Timeout, c.Tag, c.Now, c.Record, c.MaxBody}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("prober: %w", err)
	}
	if c.Every == 0 {
		c.Every = 20 * time.Millisecond
	}
	if c.MaxConns == 0 {
		c.MaxConns = defaultMaxConns
	}
	switch {
	case len(c.Keys) == 0:
		return nil, errors.New("prober: keys: none given")
	case c.Every < time.Millisecond:
		return nil, fmt.Errorf("prober: every: %v is below 1ms", c.Every)
	case c.MaxConns < 0:
		return nil, fmt.Errorf("prober: max conns: %d is negative", c.MaxConns)
	}
	p := &Prober{c: c, sender: t.sender(c.MaxConns), probes: map[string]probe{}, share: generationWrites}
	p.sender.once = true
	for _, s := range services {
		p.probes[s.entity] = s.probe
	}
	for i, k := range c.Keys {
		probe, ok := p.probes[k.Entity]
		if !ok {
			return nil, fmt.Errorf("prober: keys[%d]: no workload has an entity %q", i, k.Entity)
		}
		p.share = min(p.share, generationWrites/int64(probe.writes))
	}
	return p, nil
}

// Run probes from Start until ctx is done, and returns when every probe is
// recorded. Call it once. The error says that the prober itself is at fault: the
// probes recorded are not those scheduled.
func (p *Prober) Run(ctx context.Context) (Result, error) {
	arrivals := staggered{int64(len(p.c.Keys)), p.c.Every}
	loop := &openLoop{s: p.sender, max: p.c.MaxConns}
	stop := loop.run(ctx, p.c.Start, math.MaxInt64, arrivals, p.flight)
	r := Result{Scheduled: map[history.Phase]int64{history.Probe: arrivals.Count(stop)}}
	if err := p.sender.identity(r.Scheduled); err != nil {
		return r, fmt.Errorf("prober: %w", err)
	}
	return r, nil
}

// StallMax is the longest time that the prober did not get to run, as in Stats.
// Safe for concurrent use.
func (p *Prober) StallMax() time.Duration { return p.sender.meter.stats().StallMax }

// Touched returns every entity probed so far, in order of first use. Safe for
// concurrent use.
func (p *Prober) Touched() []EntityKey {
	keys := int64(len(p.c.Keys))
	var touched []EntityKey
	made := p.made.Load()
	for first := int64(0); first < made; first += keys * p.share {
		for n := first; n < min(first+keys, made); n++ {
			touched = append(touched, p.key(n))
		}
	}
	return touched
}

// key is the entity of probe n.
func (p *Prober) key(n int64) EntityKey {
	keys := int64(len(p.c.Keys))
	k := p.c.Keys[n%keys]
	k.Key += "." + strconv.FormatInt(n/keys/p.share+1, 10)
	return k
}

func (p *Prober) flight(n int64, at time.Duration) *flight {
	p.made.Store(n + 1)
	k := p.key(n)
	round := n / int64(len(p.c.Keys))
	name, args := p.probes[k.Entity].make(n)
	return &flight{
		op: history.Op{
			ID: opID(p.c.Tag, history.Probe, n), N: n, Phase: history.Probe,
			Entity: k.Entity, Key: k.Key, Name: name, Args: args,
			Scheduled: p.c.Start + at, Version: -1,
		},
		route:   int((n + round) % int64(len(p.c.Endpoints))),
		expires: p.c.Start + at + p.c.Timeout,
		legs:    1,
	}
}
