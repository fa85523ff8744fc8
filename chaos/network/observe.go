package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

// wire is what the observer sends probes over: a Switch or Links.
type wire interface {
	// probe sends a round of probes over a path. If ctx ends while it listens
	// the result is what arrived so far, beside the error.
	probe(ctx context.Context, p Path, plan round) (*result, error)

	// probeOwn sends something to a host that passes no path. It arrives, or
	// the error says that the host receives nothing at all.
	probeOwn(ctx context.Context, host string) error

	// effects are those that hold on a path at present.
	effects(p Path) ([]Effect, error)

	// lookReject observes that who sends into a path is told that nothing
	// passes.
	lookReject(ctx context.Context, p Path) Evidence

	// overhead is how many bytes of a probe count beside its payload.
	overhead() int

	// inOrder tells whether what is delayed delays what comes behind it.
	inOrder() bool
}

// Evidence is what the observer found out about an effect on some paths. It
// sends probes of its own from one host to the other and knows nothing of what
// was done to them.
type Evidence struct {
	Proof  history.Proof
	At     time.Time // when the first probe was sent that showed the effect; zero if none did
	Detail string    // in words, with figures
}

const (
	// tolerance is how much later than ordered a probe may arrive: the time
	// that a busy machine takes for two hops.
	tolerance = 10 * time.Millisecond

	// straggle is how long after the last probe, and its delay, the receiver
	// still listens.
	straggle = 150 * time.Millisecond

	// doubt is how likely a count may be outside of its interval by chance.
	doubt = 1e-4

	// maxProbes bounds a round; shares below about 0.05 % cannot be told from
	// none with them.
	maxProbes = 20_000

	// headers are the bytes of a frame before a UDP payload.
	headers = 14 + 20 + 8

	probeSize  = 64   // bytes of payload
	damageSize = 1000 // where damage is looked for: most of it hits the payload
)

func probeOne(ctx context.Context, w wire, p Path) (time.Duration, bool, error) {
	wait := time.Second
	if end, ok := ctx.Deadline(); ok {
		wait = time.Until(end)
	}
	r, err := w.probe(ctx, p, round{n: 1, size: probeSize, listen: wait, hasty: true})
	if r == nil {
		return 0, false, err
	}
	return r.late(0), r.copies[0] > 0, nil
}

// round is a series of probes.
type round struct {
	n      int
	size   int // of the payload, bytes
	gap    time.Duration
	listen time.Duration // after the last one
	hasty  bool          // not longer than until one copy of each arrived
}

// result is what became of the probes of a round, by number.
type result struct {
	sent    []time.Time
	arrived []time.Time // the first copy; zero if none came
	copies  []int
	damaged []bool // of at least one copy
	order   []int  // in which the probes arrived
}

// late is how long a probe that arrived was on its way.
func (r *result) late(i int) time.Duration { return r.arrived[i].Sub(r.sent[i]) }

// seal writes a probe: its number three times, a checksum, zeros.
func seal(payload []byte, number int) {
	for i := range 3 {
		binary.BigEndian.PutUint32(payload[4*i:], uint32(number))
	}
	binary.BigEndian.PutUint32(payload[12:], 0)
	binary.BigEndian.PutUint32(payload[12:], crc32.ChecksumIEEE(payload))
}

// unseal reads the number of a probe of which at most one bit is wrong.
func unseal(payload []byte) (number int, damaged bool) {
	a, b, c := binary.BigEndian.Uint32(payload), binary.BigEndian.Uint32(payload[4:]), binary.BigEndian.Uint32(payload[8:])
	sum := binary.BigEndian.Uint32(payload[12:])
	binary.BigEndian.PutUint32(payload[12:], 0)
	return int(a&b | b&c | a&c), sum != crc32.ChecksumIEEE(payload)
}

// confirmAll confirms an effect on several paths at once.
func confirmAll(ctx context.Context, w wire, paths []Path, e Effect) Evidence {
	if len(paths) == 0 {
		return Evidence{Proof: history.Inconclusive, Detail: "no paths"}
	}
	each := make([]Evidence, len(paths))
	var running sync.WaitGroup
	for i, p := range paths {
		running.Go(func() { each[i] = confirm(ctx, w, p, e) })
	}
	running.Wait()
	sum := Evidence{Proof: history.Confirmed}
	var details []string
	for i, ev := range each {
		details = append(details, fmt.Sprintf("%s: %s", paths[i], ev.Detail))
		if !ev.At.IsZero() && (sum.At.IsZero() || ev.At.Before(sum.At)) {
			sum.At = ev.At
		}
		if sum.Proof == history.Confirmed || ev.Proof == history.Mismatch {
			sum.Proof = ev.Proof
		}
	}
	sum.Detail = strings.Join(details, "; ")
	return sum
}

// confirm sends rounds over one path until one of them is as it should be.
func confirm(ctx context.Context, w wire, p Path, e Effect) Evidence {
	last := Evidence{Proof: history.Inconclusive, Detail: "not observed"}
	for {
		ev := look(ctx, w, p, e)
		if ctx.Err() != nil && ev.Proof != history.Confirmed {
			// A round that was cut short says less than the one before.
			if last.Detail == "not observed" {
				last.Detail = "not observed in time"
			}
			return last
		}
		if ev.Proof == history.Mismatch && others(w, p, e) {
			ev.Proof = history.Inconclusive
			ev.Detail += ", but another effect holds there"
		}
		if ev.Proof == history.Confirmed {
			return ev
		}
		last = ev
		select {
		case <-ctx.Done():
			return last
		case <-time.After(straggle):
		}
	}
}

// others reports whether effects hold on a path beside e.
func others(w wire, p Path, e Effect) bool {
	all, err := w.effects(p)
	if err != nil {
		return false
	}
	n := len(all)
	if slices.Contains(all, e) {
		n--
	}
	return n > 0
}

// look sends one round over one path and judges it.
func look(ctx context.Context, w wire, p Path, e Effect) Evidence {
	switch {
	case e.Reject:
		return w.lookReject(ctx, p)
	case e.Drop:
		return lookDrop(ctx, w, p)
	}
	j := &judgement{proof: history.Confirmed, inOrder: w.inOrder()}
	rest := e
	rest.Rate, rest.Buffer, rest.Limit = 0, 0, 0
	if e.Rate == 0 || rest != (Effect{}) {
		r, err := w.probe(ctx, p, plan(e))
		if err != nil {
			return Evidence{Proof: history.Inconclusive, Detail: err.Error()}
		}
		j.judge(r, e)
	}
	if e.Rate > 0 {
		lookRate(ctx, w, p, e, j)
	}
	return Evidence{j.proof, j.at, strings.Join(j.words, ", ")}
}

func lookDrop(ctx context.Context, w wire, p Path) Evidence {
	back := Path{p.To, p.From}
	there, err := w.effects(back)
	if err != nil {
		return Evidence{Proof: history.Inconclusive, Detail: err.Error()}
	}
	open := len(there) == 0
	few := round{n: 20, size: probeSize, gap: 5 * time.Millisecond, listen: straggle}
	var r, other *result
	var errs [3]error
	var running sync.WaitGroup
	running.Go(func() { r, errs[0] = w.probe(ctx, p, few) })
	running.Go(func() { errs[1] = w.probeOwn(ctx, p.To) })
	if open {
		running.Go(func() { other, errs[2] = w.probe(ctx, back, few) })
	}
	running.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return Evidence{Proof: history.Inconclusive, Detail: err.Error()}
	}
	ev := Evidence{Proof: history.Confirmed}
	lost := few.n - len(r.order)
	ev.Detail = fmt.Sprintf("%d of %d probes were lost", lost, few.n)
	if i := slices.Index(r.copies, 0); i >= 0 {
		ev.At = r.sent[i]
	}
	if lost < few.n {
		ev.Proof = history.Mismatch
	}
	if open {
		ev.Detail += fmt.Sprintf(", %d of %d arrived on the way back", len(other.order), few.n)
		// A fault that begins during the round may take some.
		if len(other.order) == 0 && ev.Proof == history.Confirmed {
			ev.Proof = history.Inconclusive
		}
	}
	return ev
}

// plan is a round that is long enough to tell the effect from none.
func plan(e Effect) round {
	r := round{n: 20, size: probeSize, gap: 5 * time.Millisecond, listen: e.Latency + e.Jitter + straggle}
	if e.Latency+e.Jitter > 0 {
		r.n = 40
	}
	for _, share := range []float64{e.Loss, e.Duplicate, e.Corrupt, e.Reorder} {
		if share > 0 {
			// None of n with a probability of exp(-n share): a tenth of doubt/2.
			r.n = max(r.n, min(maxProbes, int(math.Ceil(-math.Log(doubt/20)/share))))
		}
	}
	if e.Corrupt > 0 {
		r.size = damageSize
	}
	r.gap = min(r.gap, time.Second/time.Duration(r.n))
	if e.Rate > 0 {
		// Well below the rate, so that no probe waits for its tokens.
		r.gap = max(r.gap, time.Duration(4*float64(r.size+headers)/float64(e.Rate)*float64(time.Second)))
	}
	return r
}

// judgement grows with each finding.
type judgement struct {
	inOrder bool // see wire
	proof   history.Proof
	at      time.Time
	words   []string
}

func (j *judgement) add(proof history.Proof, at time.Time, format string, args ...any) {
	if j.proof == history.Confirmed || proof == history.Mismatch {
		j.proof = proof
	}
	if !at.IsZero() && (j.at.IsZero() || at.Before(j.at)) {
		j.at = at
	}
	j.words = append(j.words, fmt.Sprintf(format, args...))
}

// judge compares a round with the effect that it was to show.
func (j *judgement) judge(r *result, e Effect) {
	n := len(r.sent)
	// What an effect does to each copy.
	inHeader := float64(headers-14) / float64(headers-14+plan(e).size) // such damage loses a probe
	copyLost := 1 - (1-e.Loss)*(1-e.Corrupt*inHeader)
	copyDamaged := (1 - e.Loss) * e.Corrupt * (1 - inHeader)
	twice := func(p float64) float64 { // for a probe with one copy or two
		return (1-e.Duplicate)*p + e.Duplicate*(1-(1-p)*(1-p))
	}
	lost := (1-e.Duplicate)*copyLost + e.Duplicate*copyLost*copyLost
	correlated := e.LossCorrelation > 0 || e.DuplicateCorrelation > 0 || e.CorruptCorrelation > 0

	share := func(what string, p, ordered float64, shows func(i int) bool) {
		k, first := 0, time.Time{}
		for i := range n {
			if shows(i) {
				if k++; k == 1 {
					first = r.sent[i]
				}
			}
		}
		j.share(what, k, n, p, ordered > 0, correlated, first)
	}
	share("lost", lost, e.Loss, func(i int) bool { return r.copies[i] == 0 })
	share("damaged", twice(copyDamaged), e.Corrupt, func(i int) bool { return r.damaged[i] })
	share("duplicated", e.Duplicate*(1-copyLost)*(1-copyLost), e.Duplicate, func(i int) bool { return r.copies[i] > 1 })

	if len(r.order) == 0 {
		if e.Loss < 1 {
			j.add(history.Inconclusive, time.Time{}, "no probe arrived")
		}
		return
	}
	if e.Latency+e.Jitter > 0 || e == (Effect{}) {
		j.latency(r, e)
	}
}

// share judges that k of n probes showed something that has probability p. If
// it was ordered, and is no by-product, it must be seen.
func (j *judgement) share(what string, k, n int, p float64, ordered, correlated bool, first time.Time) {
	if p == 0 {
		if k > 0 {
			j.add(history.Mismatch, time.Time{}, "%d of %d probes were %s", k, n, what)
		}
		return
	}
	if correlated {
		proof := history.Confirmed
		if k == 0 && ordered {
			proof = history.Inconclusive
		}
		j.add(proof, first, "%d of %d probes were %s (correlated, so the share is not judged)", k, n, what)
		return
	}
	low, high := interval(n, p)
	proof := history.Confirmed
	switch {
	case k < low || k > high:
		proof = history.Mismatch
	case k == 0 && ordered: // it would be the same without the effect
		proof = history.Inconclusive
	}
	j.add(proof, first, "%d of %d probes were %s (%.3g%% ordered: %d to %d)", k, n, what, 100*p, low, high)
}

// interval is where the number of successes in n trials of probability p lies,
// ends included, with less than doubt/2 on each side of it.
func interval(n int, p float64) (low, high int) {
	if p >= 1 {
		return n, n
	}
	all, _ := math.Lgamma(float64(n + 1))
	chance := func(k int) float64 {
		in, _ := math.Lgamma(float64(k + 1))
		out, _ := math.Lgamma(float64(n - k + 1))
		return math.Exp(all - in - out + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	for below := chance(0); below < doubt/2; below += chance(low) {
		low++
	}
	high = n
	for above := chance(n); above < doubt/2; above += chance(high) {
		high--
	}
	return low, high
}

// latency judges how late the probes were.
func (j *judgement) latency(r *result, e Effect) {
	var late []time.Duration
	var first time.Time
	early := 0
	for i := range r.sent {
		if r.copies[i] == 0 {
			continue
		}
		if e.Reorder > 0 && r.late(i) < (e.Latency-e.Jitter)/2 {
			early++
			continue
		}
		late = append(late, r.late(i))
		if first.IsZero() {
			first = r.sent[i]
		}
	}
	if e.Reorder > 0 {
		j.share("overtaking", early, len(r.order), e.Reorder, true,
			e.ReorderCorrelation > 0 || e.Gap > 1 || e.Duplicate > 0 || e.Jitter >= e.Latency, time.Time{})
	}
	if len(late) == 0 {
		j.add(history.Inconclusive, time.Time{}, "no late probe")
		return
	}
	slices.Sort(late)
	median, most := late[len(late)/2], late[len(late)-1]
	// The median of n uniform numbers has a standard deviation of about
	// Jitter/sqrt(n+2); four of them, unless correlation makes it more.
	spread := e.Jitter
	if e.DelayCorrelation == 0 {
		spread = min(spread, time.Duration(4*float64(e.Jitter)/math.Sqrt(float64(len(late)+2))))
	}
	low, high := e.Latency-spread, e.Latency+spread+tolerance
	if j.inOrder {
		high = e.Latency + e.Jitter + tolerance // the latest one delays those behind it
	}
	proof := history.Confirmed
	if median < low || median > high || most < e.Latency {
		proof = history.Mismatch
	} else if e.Jitter > 0 && low <= 0 {
		proof = history.Inconclusive // the same without the effect, or nearly so
	}
	j.add(proof, first, "median of %d latencies %.3g ms (%.4g to %.4g ms ordered), max %.3g ms",
		len(late), ms(median), ms(max(low, 0)), ms(high), ms(most))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// lookRate sends at twice the rate, for half a second or 20 packets, and judges
// what arrives once the bucket is empty.
func lookRate(ctx context.Context, w wire, p Path, e Effect, j *judgement) {
	const most = 64 << 20 // bytes to send
	buffer := max(e.Buffer, frameMax)
	beside := w.overhead()
	frame := min(max(e.Rate/50, int64(probeSize+beside)), frameMax)
	total := 2*buffer + max(e.Rate, 40*frame)
	if total > most {
		j.add(history.Inconclusive, time.Time{}, "rate not measured: it would take %d MB", total>>20)
		return
	}
	n := int(total / frame)
	speed := 2*float64(e.Rate) + 10*float64(buffer) // bytes/s
	r, err := w.probe(ctx, p, round{
		n: n, size: int(frame) - beside,
		gap:    time.Duration(float64(frame) / speed * float64(time.Second)),
		listen: time.Duration(float64(total)/float64(e.Rate)*float64(time.Second)) + e.Latency + e.Jitter + straggle,
	})
	if err != nil {
		j.add(history.Inconclusive, time.Time{}, "%v", err)
		return
	}
	skip := int(buffer/frame) + 1
	if len(r.order) < skip+5 {
		j.add(history.Inconclusive, time.Time{}, "%d of %d probes of a stream arrived", len(r.order), n)
		return
	}
	head, tail := r.order[skip], r.order[len(r.order)-1]
	took := r.arrived[tail].Sub(r.arrived[head])
	rate := float64(int64(len(r.order)-1-skip)*frame) / took.Seconds()
	proof := history.Confirmed
	switch {
	case rate > 1.1*float64(e.Rate):
		proof = history.Mismatch
	case rate < 0.5*float64(e.Rate):
		proof = history.Inconclusive
	}
	at := time.Time{}
	if proof == history.Confirmed {
		at = r.sent[head]
	}
	j.add(proof, at, "%.4g B/s of a stream of %.4g B/s arrived (%d ordered)", rate, speed, e.Rate)
}

// effects are those of a lane's filters.
func (l *lane) effects() (list []Effect) {
	if all := l.filters.Load(); all != nil {
		for _, f := range *all {
			list = append(list, f.Effect)
		}
	}
	return list
}

// Held is a TCP connection that is kept while its path is disturbed. On a
// Switch it reaches from one host to the other; with Links it ends and begins
// again in the link between them.
type Held struct{ from, to *net.TCPConn }

// Info is what the kernel tells of both ends, for instance their State.
func (h *Held) Info() (from, to *unix.TCPInfo, err error) {
	if from, err = tcpInfo(h.from); err == nil {
		to, err = tcpInfo(h.to)
	}
	return from, to, err
}

func tcpInfo(c *net.TCPConn) (info *unix.TCPInfo, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); e != nil {
		return nil, e
	}
	return info, err
}

// Established reports whether both ends take the connection for established.
func (h *Held) Established() bool {
	from, to, err := h.Info()
	return err == nil && from.State == unix.BPF_TCP_ESTABLISHED && to.State == unix.BPF_TCP_ESTABLISHED
}

// Exchange sends a byte forth and back. The error is ctx's, or that of the
// connection. After an error the bytes may still be on their way, so that a
// later Exchange may end early.
func (h *Held) Exchange(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		h.from.SetDeadline(time.Now())
		h.to.SetDeadline(time.Now())
	})()
	h.from.SetDeadline(time.Time{})
	h.to.SetDeadline(time.Time{})
	b := []byte{1}
	for _, step := range []func([]byte) (int, error){h.from.Write, h.to.Read, h.to.Write, h.from.Read} {
		if _, err := step(b); err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
	return nil
}

// Close closes both ends.
func (h *Held) Close() error { return errors.Join(h.from.Close(), h.to.Close()) }
