package script

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"statequake/history"
)

const (
	// Variable of the environment that holds the number of the inherited socket.
	Variable = "STATEQUAKE_DRIVER_FD"
	// DurationVariable is how long a load is to last, the warmup included, as k6
	// and Go write durations: for the script's own options.
	DurationVariable = "STATEQUAKE_DURATION"

	version = 1

	// MaxCall is the longest line that a script's process sends, and so the limit
	// of an operation with its arguments, in bytes.
	MaxCall = 2 << 20
	// maxName is the longest entity type, key or command, in bytes.
	maxName = 1024
	// maxAnswer is the longest line that it gets: an answer of 8 MiB, escaped.
	maxAnswer = 64 << 20
)

// Call is one operation that the script wants to be carried out, or that it left
// unsent.
type Call struct {
	N      int64           `json:"n"` // names it on this connection
	VU     int             `json:"vu"`
	Entity string          `json:"entity"`
	Key    string          `json:"key"`
	Op     string          `json:"op"`
	Args   json.RawMessage `json:"args,omitempty"` // JSON object
	Due    time.Duration   `json:"due_ns"`         // on the run clock
	Unsent string          `json:"unsent,omitempty"`
}

// Check says what is wrong with a call.
func (c *Call) Check() error {
	for _, part := range []struct{ name, text string }{{"entity", c.Entity}, {"key", c.Key}, {"command", c.Op}} {
		if part.text == "" || len(part.text) > maxName {
			return fmt.Errorf("%s: %d bytes, want 1 to %d", part.name, len(part.text), maxName)
		}
	}
	if c.VU < 0 {
		return fmt.Errorf("vu: %d is negative", c.VU)
	}
	if len(c.Args) > MaxCall/2 {
		return fmt.Errorf("args: %d bytes of JSON, limit %d", len(c.Args), MaxCall/2)
	}
	if len(c.Args) > 0 && c.Args[0] != '{' {
		return errors.New("args: not an object")
	}
	return nil
}

// answer is what became of a call.
type answer struct {
	N    int64  `json:"n"`
	Over bool   `json:"over,omitempty"` // the load is over: nothing was done
	Op   result `json:"op"`
}

// result is the part of a complete operation that a script is told.
type result struct {
	Outcome   history.Outcome `json:"outcome"`
	Result    json.RawMessage `json:"result,omitempty"`
	Version   int64           `json:"version"`
	Digest    string          `json:"digest,omitempty"`
	Error     string          `json:"error,omitempty"`
	Node      string          `json:"node,omitempty"`
	Scheduled time.Duration   `json:"scheduled_ns"`
	Returned  time.Duration   `json:"returned_ns"`
}

// Welcome tells a script's process about the run.
type Welcome struct {
	Version  int           `json:"version"`
	Tag      string        `json:"tag"`     // of the run
	Base     int64         `json:"base_ns"` // CLOCK_MONOTONIC at the start of the run clock
	Warmup   time.Duration `json:"warmup_ns"`
	Duration time.Duration `json:"duration_ns"` // of the load, the warmup included
	Timeout  time.Duration `json:"timeout_ns"`  // of an operation, and of its wait to be sent
	Rate     float64       `json:"rate_per_s"`  // of the scenario's arrivals; 0 if it has none
}

// End is the last word of a script's process.
type End struct {
	Calls      int64               `json:"calls"` // that it sent, those left unsent included
	Thresholds []history.Threshold `json:"thresholds,omitempty"`
}

// fromScript is one line of the script's process; one field is set.
type fromScript struct {
	Hello  *hello          `json:"hello,omitempty"`
	Begin  *time.Duration  `json:"begin_ns,omitempty"` // operations are due from here on
	Call   *Call           `json:"call,omitempty"`
	Sample *history.Sample `json:"sample,omitempty"` // of that process, as a load generator
	End    *End            `json:"end,omitempty"`
}

type hello struct {
	Version int `json:"version"`
}

// toScript is one line of the harness; one field is set.
type toScript struct {
	Welcome *Welcome `json:"welcome,omitempty"`
	Answer  *answer  `json:"answer,omitempty"`
}

// readLine reads one line of at most limit bytes into message.
func readLine(r *bufio.Reader, limit int, message any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return fmt.Errorf("a line is longer than %d bytes", limit)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return json.Unmarshal(line, message)
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(line) > 0:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

// encode makes the line of a message. Whatever its texts hold, it has one newline,
// at its end.
func encode(message any) ([]byte, error) {
	line, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	return append(line, '\n'), nil
}
