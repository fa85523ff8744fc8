package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	// ErrUnavailable says that this machine does not let clocks be moved.
	ErrUnavailable = errors.New("clock offsets are not available")

	// ErrGone says that the process has ended, or runs another program now.
	ErrGone = errors.New("process has ended or runs another program")
)

// Clocks is a set of clocks, with the bit 1<<id for the clock id of
// clock_gettime(2).
type Clocks uint32

// The clocks that programs read.
const (
	Realtime        Clocks = 1 << 0 // also of gettimeofday and time
	Monotonic       Clocks = 1 << 1
	MonotonicRaw    Clocks = 1 << 4
	RealtimeCoarse  Clocks = 1 << 5
	MonotonicCoarse Clocks = 1 << 6
	Boottime        Clocks = 1 << 7

	// Wall is the time of day: the default.
	Wall = Realtime | RealtimeCoarse
)

// ids are the names that TimeChaos has for clocks.
var ids = map[string]Clocks{
	"CLOCK_REALTIME":           Realtime,
	"CLOCK_MONOTONIC":          Monotonic,
	"CLOCK_PROCESS_CPUTIME_ID": 1 << 2,
	"CLOCK_THREAD_CPUTIME_ID":  1 << 3,
	"CLOCK_MONOTONIC_RAW":      MonotonicRaw,
	"CLOCK_REALTIME_COARSE":    RealtimeCoarse,
	"CLOCK_MONOTONIC_COARSE":   MonotonicCoarse,
	"CLOCK_BOOTTIME":           Boottime,
	"CLOCK_REALTIME_ALARM":     1 << 8,
	"CLOCK_BOOTTIME_ALARM":     1 << 9,
}

// ParseClocks reads the clockIds of a TimeChaos. Without any it is Wall.
func ParseClocks(clockIDs []string) (Clocks, error) {
	if len(clockIDs) == 0 {
		return Wall, nil
	}
	var set Clocks
	for i, name := range clockIDs {
		c, ok := ids[name]
		if !ok {
			return 0, fmt.Errorf("clockIds[%d]: unknown clock %q; have %s", i, name, strings.Join(names(^Clocks(0)), ", "))
		}
		set |= c
	}
	return set, nil
}

// String is as in "CLOCK_REALTIME, CLOCK_REALTIME_COARSE".
func (c Clocks) String() string { return strings.Join(names(c), ", ") }

// names are those of the clocks in c, in the order of their ids.
func names(c Clocks) []string {
	var list []string
	for name, clock := range ids {
		if c&clock != 0 {
			list = append(list, name)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return int(ids[a]) - int(ids[b]) })
	return list
}

// The stub's data: the distance from here to the slot that is in use, one
// byte; then from slotSize on the slots: seconds (int64), nanoseconds (uint32,
// below 1e9) and Clocks (uint32).
//
// A slot is written while another one is in use, and then taken into use by
// one byte, so that no reader sees half an offset. A reader that is stopped
// between the two looks would have to sleep through slots-1 changes.
const (
	slotSize = 16
	slots    = 4
	dataSize = (1 + slots) * slotSize
)

// Clock is the clocks of one process. Its methods may be called concurrently.
type Clock struct {
	pid int

	mu   sync.Mutex
	mem  *os.File // memory of this program in this process, and of no later one
	data int64    // address of the stub's data
	slot int      // in use
}

// Set moves the clocks by offset from their true time, whatever they were
// moved by before, and leaves all others right; no clocks means Wall. It is in
// force for every reading that begins after Set returns. The error is ErrGone
// if the process has ended.
func (c *Clock) Set(offset time.Duration, clocks Clocks) error {
	if clocks == 0 {
		clocks = Wall
	}
	seconds := int64(offset / time.Second)
	nanoseconds := int64(offset % time.Second)
	if nanoseconds < 0 {
		seconds--
		nanoseconds += int64(time.Second)
	}
	value := binary.LittleEndian.AppendUint64(nil, uint64(seconds))
	value = binary.LittleEndian.AppendUint32(value, uint32(nanoseconds))
	value = binary.LittleEndian.AppendUint32(value, uint32(clocks))

	c.mu.Lock()
	defer c.mu.Unlock()
	slot := c.slot%slots + 1
	if err := c.write(value, c.data+int64(slot*slotSize)); err != nil {
		return err
	}
	if err := c.write([]byte{byte(slot * slotSize)}, c.data); err != nil {
		return err
	}
	c.slot = slot
	return nil
}

// Reset makes all clocks right again.
func (c *Clock) Reset() error { return c.Set(0, 0) }

// Close frees what Clock holds. The clocks stay as they are.
func (c *Clock) Close() error { return c.mem.Close() }

// write writes into the process, whose pages refuse it unless forced; a debugger's
// way in, /proc/PID/mem, forces.
func (c *Clock) write(value []byte, address int64) error {
	_, err := c.mem.WriteAt(value, address)
	if errors.Is(err, io.ErrUnexpectedEOF) { // the kernel wrote nothing: the memory is nobody's any more
		err = ErrGone
	}
	if err != nil {
		return fmt.Errorf("set the clock of pid %d: %w", c.pid, err)
	}
	return nil
}
