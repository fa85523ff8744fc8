package check

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
)

// parts is how many parts a store has. Who reads holds one of them in memory.
const parts = 256

// store keeps records by part, in memory or on disk. Of one part they keep
// their order.
type store struct {
	parts [parts]part
	used  int64 // bytes in memory
}

// free holds empty chunks of the largest size: clearing new ones takes time, and
// a violation is made small by judging again and again.
var free = sync.Pool{New: func() any { return (*[lastChunk]byte)(make([]byte, lastChunk)) }}

type part struct {
	extents []extent // on disk; older than chunks
	chunks  [][]byte // whole records
}

type extent struct{ at, length int64 }

// Chunks grow from the first size to the second, so that a small run costs
// little and a large one is not copied.
const firstChunk, lastChunk = 512, 128 << 10

// add returns n bytes of part p, to be written before the next call.
func (s *store) add(p uint8, n int) []byte {
	b := s.reserve(p, n)[:n]
	s.keep(p, n)
	return b
}

// reserve returns an empty slice with room for n bytes, in which keep keeps what
// was written.
func (s *store) reserve(p uint8, n int) []byte {
	chunks := s.parts[p].chunks
	last := len(chunks) - 1
	if last < 0 || cap(chunks[last])-len(chunks[last]) < n {
		size := firstChunk
		if last >= 0 {
			size = min(2*cap(chunks[last]), lastChunk)
		}
		size = max(size, n)
		if size == lastChunk {
			chunks = append(chunks, free.Get().(*[lastChunk]byte)[:0])
		} else {
			chunks = append(chunks, make([]byte, 0, size))
		}
		s.parts[p].chunks = chunks
		last++
	}
	at := len(chunks[last])
	return chunks[last][at : at : at+n]
}

// keep keeps the first n bytes of what was last reserved.
func (s *store) keep(p uint8, n int) {
	chunks := s.parts[p].chunks
	last := len(chunks) - 1
	chunks[last] = chunks[last][:len(chunks[last])+n]
	s.used += int64(n)
}

// spill moves what is in memory to disk.
func (s *store) spill(d *disk) error {
	for i := range s.parts {
		p := &s.parts[i]
		at := d.end
		for _, c := range p.chunks {
			if err := d.write(c); err != nil {
				return err
			}
		}
		if d.end > at {
			p.extents = append(p.extents, extent{at, d.end - at})
		}
		last := len(p.chunks) - 1
		if last < 0 {
			continue
		}
		giveBack(p.chunks[:last])
		p.chunks[0] = p.chunks[last][:0]
		clear(p.chunks[1:])
		p.chunks = p.chunks[:1]
	}
	s.used = 0
	return nil
}

// read returns the records of a part in pieces of whole ones. They are valid
// until buf is used again, which holds those from disk. It may be called
// concurrently.
func (s *store) read(p int, d *disk, buf *[]byte) ([][]byte, error) {
	from := &s.parts[p]
	if len(from.extents) == 0 {
		return from.chunks, nil
	}
	size := int64(0)
	for _, e := range from.extents {
		size += e.length
	}
	if int64(cap(*buf)) < size {
		*buf = make([]byte, size+size/8)
	}
	b := (*buf)[:size]
	at := int64(0)
	for _, e := range from.extents {
		if _, err := d.file.ReadAt(b[at:at+e.length], e.at); err != nil {
			return nil, fmt.Errorf("read spilled operations: %w", err)
		}
		at += e.length
	}
	return append([][]byte{b}, from.chunks...), nil
}

// disk is a file for what does not fit into memory. It has no name, so that
// nothing is left of it, however the process ends.
type disk struct {
	dir  string
	file *os.File // nil until the first write
	end  int64
}

func (d *disk) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if d.file == nil {
		f, err := os.CreateTemp(d.dir, "statequake-check-*")
		if err != nil {
			return fmt.Errorf("spill operations: %w\nhint: set TMPDIR to a folder that can be written", err)
		}
		d.file = f
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("spill operations: %w", err)
		}
	}
	if _, err := d.file.WriteAt(b, d.end); err != nil {
		return fmt.Errorf("spill operations to %s: %w\nhint: set TMPDIR to a folder with more space", cmp.Or(d.dir, os.TempDir()), err)
	}
	d.end += int64(len(b))
	return nil
}

func (d *disk) close() error {
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return err
}

// eachRecord calls fn with every record of pieces; a record starts with its
// length, of which it is part, in 4 bytes.
func eachRecord(pieces [][]byte, fn func(rec []byte)) {
	for _, b := range pieces {
		for len(b) > 0 {
			n := binary.LittleEndian.Uint32(b)
			fn(b[:n:n])
			b = b[n:]
		}
	}
}

// touch reads a byte of every cache line of pieces. Where a record begins is known
// only from the one before it; the processor would wait for memory at each.
func touch(pieces [][]byte) (sum int) {
	for _, b := range pieces {
		for i := 0; i < len(b); i += 64 {
			sum += int(b[i])
		}
	}
	return sum
}

// release gives back the memory of a store.
func (s *store) release() {
	for i := range s.parts {
		giveBack(s.parts[i].chunks)
		s.parts[i].chunks = nil
	}
}

func giveBack(chunks [][]byte) {
	for _, c := range chunks {
		if cap(c) == lastChunk {
			free.Put((*[lastChunk]byte)(c[:lastChunk]))
		}
	}
}
