package core

// lru is a list of entities by their last use.
type lru struct {
	newest, oldest *live
	n              int
}

func (l *lru) remove(e *live) {
	if !e.inRecent {
		return
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		l.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		l.oldest = e.newer
	}
	e.newer, e.older, e.inRecent = nil, nil, false
	l.n--
}

func (l *lru) push(e *live) {
	e.older, e.inRecent = l.newest, true
	if l.newest != nil {
		l.newest.newer = e
	} else {
		l.oldest = e
	}
	l.newest = e
	l.n++
}

// touch notes that e was used and what it takes now.
func (s *Shard) touch(e *live) {
	if s.recent.newest != e {
		s.recent.remove(e)
		s.recent.push(e)
	}
	s.measure(e)
}

// measure estimates what e takes: its state as encoded last and what came on
// top since. States that are replaced are overestimated until they are encoded.
func (s *Shard) measure(e *live) {
	size := int64(liveOverhead + e.encoded + e.since + e.answers.bytes)
	s.bytes += size - e.size
	e.size = size
}

// over tells whether the budget is exceeded n times.
func (s *Shard) over(n int64) bool {
	return s.cfg.MaxEntities > 0 && int64(len(s.entities)) > n*int64(s.cfg.MaxEntities) ||
		s.cfg.MaxBytes > 0 && s.bytes > n*s.cfg.MaxBytes
}

// overfull tells whether room is needed faster than it can be made.
func (s *Shard) overfull() bool { return s.over(2) }

// shrink removes the entities that were used least recently until the budget
// is kept. What is stored leaves at once; the others are asked to be stored
// first, and leave when they are.
func (s *Shard) shrink() {
	for e := s.recent.oldest; e != nil && s.over(1) && s.storing < s.excess(); {
		next := e.newer
		switch {
		case e.busy != nil || len(e.waiting) > 0 || e.storing || e.wanted:
		case e.pos > e.stored:
			s.ask(e)
		default:
			s.evict(e)
		}
		e = next
	}
}

// excess is about how many entities have to leave.
func (s *Shard) excess() int {
	n := 0
	if s.cfg.MaxEntities > 0 {
		n = len(s.entities) - s.cfg.MaxEntities
	}
	if over := s.bytes - s.cfg.MaxBytes; s.cfg.MaxBytes > 0 && over > 0 {
		n = max(n, int(over*int64(s.recent.n)/s.bytes)+1)
	}
	return min(n, maxStoring)
}

// ask has an entity stored.
func (s *Shard) ask(e *live) {
	if !e.storing {
		e.storing = true
		s.storing++
		s.out.Stores = append(s.out.Stores, e.id)
	}
}

// asked notes that the answer to ask has come.
func (s *Shard) asked(e *live) {
	if e.storing {
		e.storing = false
		s.storing--
	}
}

// evict lets go of an entity whose state and answers are in the store.
func (s *Shard) evict(e *live) {
	s.asked(e)
	s.recent.remove(e)
	s.bytes -= e.size
	delete(s.entities, e.id)
	s.out.Passivated++
}

// Entities is the number of entities in memory, and about how many bytes they take.
func (s *Shard) Entities() (n int, bytes int64) { return len(s.entities), s.bytes }
