package clock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"statequake/history"
)

const (
	askEvery  = 20 * time.Millisecond   // between two questions
	askFor    = 1500 * time.Millisecond // all of them: the Date changes once a second
	patience  = 500 * time.Millisecond  // for one answer
	fine      = 2 * askEvery            // width at which Observe is content
	slack     = 50 * time.Millisecond   // by which an offset may be off and still be the one
	dateCache = time.Second             // for which some servers keep a Date
)

var (
	errNoAnswer = errors.New("no answer")
	errNoDate   = errors.New("its answers have no Date header")
	errJumped   = errors.New("its answers contradict each other: the clock moved meanwhile, or it does not take the time anew for each")
)

// Observation is how far a node's wall clock is from this process's: from Low
// to High, both included; positive if the node's is ahead.
type Observation struct {
	Low, High time.Duration
	Answers   int
	First     time.Time // when the first of them came
}

func (o Observation) String() string {
	return fmt.Sprintf("%s to %s by the Date of %d answers", signed(o.Low), signed(o.High), o.Answers)
}

// Observe asks a node what time it is: by the Date header of its HTTP answers,
// of whatever status. A Date has whole seconds, but it changes at a certain
// instant: so Observe asks every 20 ms for up to 1.5 s and is content with 40 ms
// between Low and High. It has to be called while the clock is not moved. The
// error is about a node that does not answer, or not with such a Date.
func Observe(ctx context.Context, url string) (Observation, error) {
	client := &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	o := Observation{Low: -1 << 63, High: 1<<63 - 1}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var last error
	for {
		a, err := ask(ctx, client, url)
		switch {
		case err == nil:
			if o.Answers == 0 {
				o.First = time.Now()
			}
			o.Low, o.High, o.Answers = max(o.Low, a.Low), min(o.High, a.High), o.Answers+1
		case errors.Is(err, errNoDate):
			return o, err
		case ctx.Err() == nil:
			last = err
		}
		if o.Low > o.High {
			return o, errJumped
		}
		if o.Answers > 0 && o.High-o.Low <= fine {
			return o, nil
		}
		select {
		case <-ctx.Done():
			if o.Answers == 0 {
				return o, errors.Join(errNoAnswer, last)
			}
			return o, nil
		case <-time.After(askEvery):
		}
	}
}

// ask is what one answer says: the Date d means a time from d on and before
// d + 1 s, at an instant between question and answer.
func ask(ctx context.Context, client *http.Client, url string) (Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Observation{}, err
	}
	sent := time.Now().Round(0)
	resp, err := client.Do(req)
	if err != nil {
		return Observation{}, err
	}
	received := time.Now().Round(0)
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // lets the connection be used again
	resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return Observation{}, errNoDate
	}
	return Observation{Low: date.Sub(received), High: date.Add(time.Second).Sub(sent)}, nil
}

// Evidence is what an observer found out about a node's wall clock.
type Evidence struct {
	At     time.Duration // of the first answer, or without one of the observation's end; on the run clock
	Proof  history.Proof
	Detail string // in words, with figures
	Again  bool   // inconclusive for want of answers that agree: there may be some later
}

// Confirm observes whether a node's wall clock is off by want; 0 confirms that
// it is right. Offsets of other clocks cannot be seen in this way, nor those
// below about 100 ms: they are not told from none. now is the run clock.
func Confirm(ctx context.Context, url string, want time.Duration, now func() time.Duration) Evidence {
	o, err := Observe(ctx, url)
	ev := Evidence{At: now()}
	if o.Answers > 0 {
		ev.At -= time.Since(o.First)
	}
	if err != nil {
		ev.Again = errors.Is(err, errNoAnswer) || errors.Is(err, errJumped)
		ev.Proof = history.Inconclusive
		ev.Detail = fmt.Sprintf("the wall clock could not be read back from %s: %v", url, err)
		return ev
	}
	ev.Proof, ev.Detail = o.judge(want)
	return ev
}

func (o Observation) judge(want time.Duration) (history.Proof, string) {
	seen := fmt.Sprintf("wall clock off by %v", o)
	switch {
	case !o.near(want, dateCache):
		return history.Mismatch, fmt.Sprintf("%s, want %s", seen, signed(want))
	case !o.near(want, slack):
		return history.Inconclusive, fmt.Sprintf("%s, want %s; a server that keeps a Date for a second could cause the difference", seen, signed(want))
	case want != 0 && o.near(0, slack):
		return history.Inconclusive, fmt.Sprintf("%s, want %s, which is not told from a right clock", seen, signed(want))
	}
	return history.Confirmed, fmt.Sprintf("%s, set to %s", seen, signed(want))
}

// near reports whether the offset can be d, give or take.
func (o Observation) near(d, give time.Duration) bool {
	return o.Low-give <= d && d <= o.High+give
}

// signed writes an offset in milliseconds' resolution, as in "+1m30.004s".
func signed(d time.Duration) string {
	d = d.Round(time.Millisecond)
	if d > 0 {
		return "+" + d.String()
	}
	return d.String()
}
