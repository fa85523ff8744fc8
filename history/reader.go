package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Run is a recorded run.
type Run struct {
	Dir     string
	Ops     []Op // in the order of recording, which is roughly that of Returned
	Faults  []Fault
	Samples []Sample
	Footer  *Footer // nil if the history is torn: operations may be missing at its end
	Skipped int     // unreadable ends, at most one per file
}

// LoadRun reads the run directory dir as ReadRun does and keeps its operations.
func LoadRun(dir string) (*Run, error) {
	var ops []Op
	if info, err := os.Stat(filepath.Join(dir, historyFile)); err == nil {
		ops = make([]Op, 0, info.Size()/300) // a usual line is a little longer
	}
	run, err := ReadRun(dir, func(o *Op) error {
		ops = append(ops, *o)
		return nil
	})
	if err != nil {
		return nil, err
	}
	run.Ops = ops
	return run, nil
}

// ReadRun reads the run directory dir. It calls fn with every operation, as
// ReadOps does, instead of keeping it: Ops of the Run that it returns is nil.
//
// An unreadable last line of a file, as an interrupted recording leaves it, is
// skipped and counted, and so is what a history.jsonl.zst lacks at its end; a
// bad line elsewhere is an error `FILE:LINE: problem`. One of history.jsonl and
// history.jsonl.zst must exist, faults.jsonl and samples.jsonl need not. An
// error of fn is returned as it is.
func ReadRun(dir string, fn func(*Op) error) (*Run, error) {
	run := &Run{Dir: dir}
	var err error
	if run.Footer, run.Skipped, err = readHistory(dir, fn); err != nil {
		return nil, err
	}
	var skipped int
	if run.Faults, skipped, err = loadLines(filepath.Join(dir, faultsFile), (*Fault).check); err != nil {
		return nil, err
	}
	run.Skipped += skipped
	if run.Samples, skipped, err = loadLines(filepath.Join(dir, samplesFile), (*Sample).check); err != nil {
		return nil, err
	}
	run.Skipped += skipped
	return run, nil
}

// readHistory reads the operations of a run directory.
func readHistory(dir string, fn func(*Op) error) (footer *Footer, skipped int, err error) {
	path := filepath.Join(dir, historyFile)
	file, err := os.Open(path)
	packed, packedErr := os.Open(path + compressedSuffix)
	switch {
	case err == nil && packedErr == nil:
		file.Close()
		packed.Close()
		return nil, 0, fmt.Errorf("load run: %s: there is %s%s, too\nhint: remove the one that is not the record of this run", path, historyFile, compressedSuffix)
	case packedErr == nil:
		defer packed.Close()
		return readCompressed(packed, path+compressedSuffix, fn)
	case err == nil:
		defer file.Close()
		return ReadOps(file, path, fn)
	case !errors.Is(packedErr, fs.ErrNotExist):
		err = packedErr
	}
	return nil, 0, fmt.Errorf("load run: %w", err)
}

// loadLines reads a file with one JSON object per line; no file is an empty one.
func loadLines[T any](path string, check func(*T) error) (records []T, skipped int, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("load run: %w", err)
	}
	defer file.Close()
	var record T
	skipped, err = eachLine(file, path, func(line []byte) error {
		record = *new(T)
		if err := json.Unmarshal(line, &record); err != nil {
			return err
		}
		return check(&record)
	}, func(int) error {
		records = append(records, record)
		return nil
	})
	return records, skipped, err
}

// batchSize is how many operations are decoded before they are handed over.
const batchSize = 256

// ReadOps reads a history.jsonl and calls fn with every operation in the order
// of the file, while another goroutine decodes those that follow. The Op is
// reused between the calls, but a copy of it shares no memory with later ones
// and may be kept. Args and Result lie in blocks of 16 KiB: who keeps few
// operations of many should clone them. name is the file's name for errors.
//
// The footer is nil if the history has none. skipped is 1 if the last line was
// unreadable, otherwise 0. ReadOps returns an error for any other bad line, for
// a footer whose counts are not those of the lines, for another version, and
// the error of fn as it is. What stands before a bad line has been handed to fn.
// r is not read any more when ReadOps has returned.
func ReadOps(r io.Reader, name string, fn func(*Op) error) (footer *Footer, skipped int, err error) {
	full, empty := make(chan []Op, 2), make(chan []Op, 4)
	stop := make(chan struct{})
	var end struct { // what the decoding ended with, once full is closed
		footer  *Footer
		skipped int
		err     error
	}
	go func() {
		defer close(full)
		batch := make([]Op, 0, batchSize)
		hand := func() error {
			select {
			case full <- batch:
			case <-stop:
				return errStopped
			}
			select {
			case batch = <-empty:
			default:
				batch = make([]Op, 0, batchSize)
			}
			return nil
		}
		end.footer, end.skipped, end.err = decodeOps(r, name, func(o *Op) error {
			if batch = append(batch, *o); len(batch) < batchSize {
				return nil
			}
			return hand()
		})
		_ = hand() // if nobody wants it any more, nobody looks at the error either
	}()
	defer func() {
		close(stop)
		for range full { // until the goroutine has ended
		}
	}()
	for batch := range full {
		for i := range batch {
			if err := fn(&batch[i]); err != nil {
				return nil, 0, err
			}
		}
		select {
		case empty <- batch[:0]:
		default:
		}
	}
	return end.footer, end.skipped, end.err
}

var errStopped = errors.New("nobody reads any more")

// decodeOps is ReadOps in one goroutine.
func decodeOps(r io.Reader, name string, fn func(*Op) error) (footer *Footer, skipped int, err error) {
	var (
		s      scanner
		o      Op
		parsed *Footer // of the line at hand, nil if it is an operation
		counts = make(map[Phase]*Counts)
	)
	parse := func(line []byte) error {
		parsed = nil
		raw, err := s.scan(line, &o)
		if err != nil || raw == nil {
			return err
		}
		parsed = new(Footer)
		if err := json.Unmarshal(raw, parsed); err != nil {
			return fmt.Errorf("footer: %w", err)
		}
		return nil
	}
	accept := func(line int) error {
		if footer != nil {
			return fmt.Errorf("%s:%d: line after the footer", name, line)
		}
		if parsed != nil {
			if parsed.Version != Version {
				return fmt.Errorf("%s:%d: footer: version %d: only version %d can be read", name, line, parsed.Version, Version)
			}
			footer = parsed
			return nil
		}
		c := counts[o.Phase]
		if c == nil {
			c = new(Counts)
			counts[o.Phase] = c
		}
		c.Add(o.Outcome)
		return fn(&o)
	}
	skipped, err = eachLine(r, name, parse, accept)
	if err != nil {
		return nil, skipped, err
	}
	if footer != nil {
		if err := sameCounts(footer.Counts, counts); err != nil {
			return nil, skipped, fmt.Errorf("%s: %w", name, err)
		}
	}
	return footer, skipped, nil
}

// sameCounts returns an error for the first phase, by name, whose lines are not
// as many as the footer says.
func sameCounts(footer map[Phase]Counts, lines map[Phase]*Counts) error {
	phases := slices.AppendSeq(slices.Collect(maps.Keys(footer)), maps.Keys(lines))
	slices.Sort(phases)
	for _, p := range phases {
		var read Counts
		if lines[p] != nil {
			read = *lines[p]
		}
		if footer[p] != read {
			return fmt.Errorf("footer: counts of %s are %v, the lines hold %v", p, footer[p], read)
		}
	}
	return nil
}

// eachLine calls parse with every line that is not blank, and accept with its
// number if parse took it. A last line that parse did not take is skipped and
// counted; if more follows, its error is returned as `name:line: problem`.
// Errors of accept are returned as they are.
func eachLine(r io.Reader, name string, parse func(line []byte) error, accept func(line int) error) (skipped int, err error) {
	lines := lineReader{r: bufio.NewReaderSize(r, 64<<10)}
	var bad error
	for n := 1; ; n++ {
		line, lineErr := lines.next()
		if lineErr == io.EOF {
			break
		}
		if lineErr != nil && lineErr != errLineTooLong {
			return 0, fmt.Errorf("%s:%d: %w", name, n, lineErr)
		}
		if lineErr == nil && blank(line) {
			continue
		}
		if bad != nil {
			return 0, bad
		}
		if lineErr == nil {
			lineErr = parse(line)
		}
		if lineErr != nil {
			bad = fmt.Errorf("%s:%d: %w", name, n, lineErr)
			continue
		}
		if err := accept(n); err != nil {
			return 0, err
		}
	}
	if bad != nil {
		return 1, nil
	}
	return 0, nil
}

func blank(line []byte) bool {
	for _, c := range line {
		if !isSpace(c) {
			return false
		}
	}
	return true
}

var errLineTooLong = fmt.Errorf("line is longer than %d bytes", maxLine)

// lineReader splits its input at newlines.
type lineReader struct {
	r    *bufio.Reader
	long []byte // a line that did not fit into the buffer of r
}

// next returns the next line without its newline, valid until the next call.
// It returns errLineTooLong for a line that is longer than maxLine, having
// skipped it, and io.EOF behind the last line.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		l.long = l.long[:0]
		tooLong := false
		for err == bufio.ErrBufferFull {
			tooLong = tooLong || len(l.long)+len(line) > maxLine
			if !tooLong {
				l.long = append(l.long, line...)
			}
			line, err = l.r.ReadSlice('\n')
		}
		if err == nil || err == io.EOF {
			if tooLong || len(l.long)+len(line) > maxLine {
				return nil, errLineTooLong
			}
		}
		l.long = append(l.long, line...)
		line = l.long
	}
	if err == io.EOF && len(line) > 0 {
		err = nil // the last line needs no newline
	}
	return bytes.TrimSuffix(line, []byte("\n")), err
}
