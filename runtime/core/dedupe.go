package core

// dedupe remembers the answers to an entity's last operations: a ring of them
// and where each stands.
type dedupe struct {
	ring  []Answer         // its length is 0 or a power of two
	at    map[string]int64 // op -> number of its answer, counted from the first one ever
	first int64            // number of the oldest answer
	next  int64            // number of the next one
	bytes int
}

func (d *dedupe) slot(n int64) *Answer { return &d.ring[n&int64(len(d.ring)-1)] }

func (d *dedupe) find(op string) (Answer, bool) {
	n, ok := d.at[op]
	if !ok {
		return Answer{}, false
	}
	return *d.slot(n), true
}

func (d *dedupe) size(a Answer) int { return 2*len(a.Op) + len(a.Result) + len(a.Digest) + 64 }

// remember adds an answer, or replaces the one of the same operation.
func (d *dedupe) remember(a Answer) {
	if n, ok := d.at[a.Op]; ok {
		d.bytes += d.size(a) - d.size(*d.slot(n))
		*d.slot(n) = a
		return
	}
	for d.next-d.first >= DedupeLimit || d.next > d.first && d.bytes+d.size(a) > DedupeBytes {
		d.forget()
	}
	if d.next-d.first == int64(len(d.ring)) {
		d.grow()
	}
	d.at[a.Op] = d.next
	*d.slot(d.next) = a
	d.next++
	d.bytes += d.size(a)
}

func (d *dedupe) forget() {
	oldest := d.slot(d.first)
	d.bytes -= d.size(*oldest)
	delete(d.at, oldest.Op)
	*oldest = Answer{}
	d.first++
}

func (d *dedupe) grow() {
	if d.at == nil {
		d.at = map[string]int64{}
	}
	old := *d
	d.ring = make([]Answer, max(4, 2*len(old.ring)))
	for n := d.first; n < d.next; n++ {
		*d.slot(n) = *old.slot(n)
	}
}

// list returns the answers, oldest first.
func (d *dedupe) list() []Answer {
	answers := make([]Answer, 0, d.next-d.first)
	for n := d.first; n < d.next; n++ {
		answers = append(answers, *d.slot(n))
	}
	return answers
}
