package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Version is the version of the format that this package writes and reads.
const Version = 1

// Names of the recorded files in a run directory.
const (
	historyFile = "history.jsonl"
	faultsFile  = "faults.jsonl"
	samplesFile = "samples.jsonl"
)

const (
	maxLine    = 16 << 20    // longest line, newline included
	maxAnswer  = 2 << 20     // longest answer of the system, all its fields together, that is recorded whole
	maxCut     = 256 << 10   // what is left of each field of a longer one
	flushEvery = time.Second // longest time that a record stays in memory only
	flushSize  = 256 << 10   // buffered bytes at which a flush starts early
	maxPending = 64 << 20    // buffered bytes per file at which recording waits for the disk
)

// Writer records a run in its directory. Op, Fault, Sample, Err and Failed may
// be called concurrently.
//
// Recording touches memory only: a goroutine of the Writer hands what was
// recorded to the operating system every second, so that a run that is killed
// loses at most its last second. Recording waits only when the disk is 64 MiB
// behind.
type Writer struct {
	history, faults, samples *stream
	counts                   map[Phase]Counts // guarded by history.mu

	kick   chan struct{} // asks the flusher to start early
	stop   chan struct{} // closed to end the flusher
	done   chan struct{} // closed when the flusher has ended
	failed chan struct{} // closed when err is set

	mu     sync.Mutex // guards the fields below
	err    error      // the first error
	closed bool
}

// stream is one append-only file of the Writer.
type stream struct {
	file *os.File
	zip  *zstd.Encoder // writes to file; nil if its lines are written as they are

	mu      sync.Mutex
	room    *sync.Cond // pending was taken, or the stream closed
	pending []byte     // whole lines that the flusher has not taken yet
	closed  bool       // takes no more lines
	lossy   bool       // a record was refused

	spare  []byte // the flusher's: lines being written
	broken bool   // the flusher's: a write failed, nothing may follow what could be half a line
}

// Create opens history.jsonl, faults.jsonl and samples.jsonl in dir, which must
// exist and hold none of them, nor a history.jsonl.zst. The Writer must be closed with Close or Abort.
func Create(dir string) (*Writer, error) { return newWriter(dir, false) }

// CreateCompressed is Create with a history.jsonl.zst in place of history.jsonl.
// What is killed loses no more for it: every flush ends a block of the one frame.
func CreateCompressed(dir string) (*Writer, error) { return newWriter(dir, true) }

func newWriter(dir string, compressed bool) (*Writer, error) {
	w := &Writer{
		counts: make(map[Phase]Counts),
		kick:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		failed: make(chan struct{}),
	}
	name, other := historyFile, historyFile+compressedSuffix
	if compressed {
		name, other = other, name
	}
	if path := filepath.Join(dir, other); exists(path) {
		return nil, fmt.Errorf("open %s: %w: a run is recorded there already\nhint: choose a new directory", path, os.ErrExist)
	}
	var opened []*stream
	for _, f := range []struct {
		name   string
		stream **stream
	}{{name, &w.history}, {faultsFile, &w.faults}, {samplesFile, &w.samples}} {
		path := filepath.Join(dir, f.name)
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			for _, s := range opened {
				err = errors.Join(err, s.file.Close(), os.Remove(s.file.Name()))
			}
			if errors.Is(err, os.ErrExist) {
				return nil, fmt.Errorf("%w: a run is recorded there already\nhint: choose a new directory", err)
			}
			return nil, err
		}
		s := &stream{file: file}
		s.room = sync.NewCond(&s.mu)
		opened = append(opened, s)
		*f.stream = s
	}
	if compressed {
		w.history.zip = newEncoder(w.history.file)
	}
	go w.flusher()
	return w, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

var lineBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Op records one completed operation, which the Writer does not retain. A
// result or args that is not one JSON value is recorded as a JSON string. If
// result, digest, error and node are longer than 2 MiB together, each is cut to
// 256 KiB. An unknown phase or outcome, and a line longer than 16 MiB for other
// reasons, is an error, see Err.
func (w *Writer) Op(o *Op) {
	if err := o.check(); err != nil {
		w.refuse(w.history, fmt.Errorf("%s: operation %q: %w", w.history.file.Name(), o.ID, err))
		return
	}
	if len(o.Result)+len(o.Digest)+len(o.Error)+len(o.Node) > maxAnswer {
		short := *o
		if len(o.Result) > maxCut {
			short.Result = appendString(nil, []byte(o.Result[:maxCut]))
		}
		short.Digest = o.Digest[:min(len(o.Digest), maxCut)]
		short.Error = o.Error[:min(len(o.Error), maxCut)]
		short.Node = o.Node[:min(len(o.Node), maxCut)]
		o = &short
	}
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	*buf = appendOp((*buf)[:0], o)
	w.append(w.history, *buf, func() {
		c := w.counts[o.Phase]
		c.Add(o.Outcome)
		w.counts[o.Phase] = c
	})
}

// Fault records one fault event. One without a name, of an unknown kind of
// event, or with a proof where none belongs is an error, see Err.
func (w *Writer) Fault(f Fault) {
	if err := f.check(); err != nil {
		w.refuse(w.faults, fmt.Errorf("%s: fault %q: %w", w.faults.file.Name(), f.Name, err))
		return
	}
	w.encode(w.faults, f)
}

// Sample records one reading of resources.
func (w *Writer) Sample(s Sample) {
	if err := s.check(); err != nil {
		w.refuse(w.samples, fmt.Errorf("%s: sample of node %q: %w", w.samples.file.Name(), s.Node, err))
		return
	}
	w.encode(w.samples, s)
}

func (w *Writer) encode(s *stream, record any) {
	line, err := encodeLine(record)
	if err != nil {
		w.refuse(s, fmt.Errorf("%s: %w", s.file.Name(), err))
		return
	}
	w.append(s, line, func() {})
}

// encodeLine encodes a record as one line.
func encodeLine(record any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	err := e.Encode(record)
	return buf.Bytes(), err
}

// append queues a whole line; count runs under the stream's lock if it was
// taken.
func (w *Writer) append(s *stream, line []byte, count func()) {
	if len(line) > maxLine {
		w.refuse(s, fmt.Errorf("%s: record of %d bytes: a line has at most %d", s.file.Name(), len(line), maxLine))
		return
	}
	s.mu.Lock()
	for len(s.pending) >= maxPending && !s.closed {
		s.room.Wait()
	}
	if s.closed {
		s.mu.Unlock()
		w.fail(fmt.Errorf("%s: record after the recording ended", s.file.Name()))
		return
	}
	s.pending = append(s.pending, line...)
	count()
	early := len(s.pending) >= flushSize
	s.mu.Unlock()
	if early {
		select {
		case w.kick <- struct{}{}:
		default: // a flush is due already
		}
	}
}

// refuse notes that a record of s could not be taken.
func (w *Writer) refuse(s *stream, err error) {
	s.mu.Lock()
	s.lossy = true
	s.mu.Unlock()
	w.fail(err)
}

// fail keeps the first error.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		close(w.failed)
	}
}

// Err returns the first error of the recording, nil while there is none.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Failed is closed when Err becomes an error, at most a second after the
// record that could not be written. A file whose write failed is not written
// again, so that it stays readable up to there; the others go on.
func (w *Writer) Failed() <-chan struct{} { return w.failed }

// flusher hands lines to the files until the Writer is closed.
func (w *Writer) flusher() {
	defer close(w.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.kick:
		case <-w.stop:
			return
		}
		for _, s := range w.streams() {
			w.flush(s)
		}
	}
}

func (w *Writer) streams() []*stream { return []*stream{w.history, w.faults, w.samples} }

// flush writes what s holds. Only one goroutine flushes at a time: the flusher,
// and after it has ended the one that closes.
func (w *Writer) flush(s *stream) {
	s.mu.Lock()
	s.pending, s.spare = s.spare[:0], s.pending
	s.room.Broadcast()
	s.mu.Unlock()
	if s.broken || len(s.spare) == 0 {
		return
	}
	if err := s.write(s.spare); err != nil {
		s.broken = true
		w.fail(err)
	}
}

// write hands whole lines to the operating system.
func (s *stream) write(lines []byte) error {
	if s.zip == nil {
		_, err := s.file.Write(lines)
		return err
	}
	if _, err := s.zip.Write(lines); err != nil {
		return err
	}
	return s.zip.Flush()
}

// end writes what belongs behind the last line.
func (s *stream) end() error {
	if s.zip == nil || s.broken {
		return nil
	}
	return s.zip.Close()
}

// Close ends the recording: it sets the footer's Version and Counts, writes it
// as the last line of the history, and syncs all files to disk. It returns
// the first error of the whole recording. A history that lacks an operation
// because of an error gets no footer, so that it counts as torn.
//
// Records must not be added any more when Close is called.
func (w *Writer) Close(f Footer) error {
	if !w.end() {
		return errors.New("close recording: closed already")
	}
	w.flush(w.history)
	// The streams are closed: counts and lossy do not change any more.
	if !w.history.broken && !w.history.lossy {
		f.Version = Version
		f.Counts = w.counts
		if f.Scheduled == nil {
			f.Scheduled = map[Phase]int64{}
		}
		line, err := encodeLine(map[string]Footer{"footer": f})
		if err != nil {
			w.fail(fmt.Errorf("%s: footer: %w", w.history.file.Name(), err))
		}
		w.history.pending = line
	}
	w.closeFiles()
	return w.Err()
}

// Abort ends the recording without a footer; what was recorded is written.
// After Close it does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	if w.end() {
		w.closeFiles()
	}
}

// end refuses further records and ends the flusher. It returns false if the
// Writer is closed already.
func (w *Writer) end() bool {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return false
	}
	for _, s := range w.streams() {
		s.mu.Lock()
		s.closed = true
		s.room.Broadcast()
		s.mu.Unlock()
	}
	close(w.stop)
	<-w.done
	return true
}

// closeFiles writes the rest, syncs and closes.
func (w *Writer) closeFiles() {
	for _, s := range w.streams() {
		w.flush(s)
		if err := s.end(); err != nil {
			w.fail(err)
		}
		if err := s.file.Sync(); err != nil {
			w.fail(err)
		}
		if err := s.file.Close(); err != nil {
			w.fail(err)
		}
	}
}
