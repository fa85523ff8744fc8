package script

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

const (
	logLimit  = 64 << 20 // of k6.log, in bytes; what comes later is dropped
	tailLimit = 16 << 10 // of what is kept of the log's end, for messages
	saidLimit = 2 << 10  // of a message
)

// log keeps what k6 says in a file, and its end in memory.
type log struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int
	tail []byte
}

func openLog(path string) (*log, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &log{path: path, file: file}, nil
}

// Write never fails: k6 must not stop because nobody listens.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size < logLimit {
		_, _ = l.file.Write(p[:min(len(p), logLimit-l.size)])
		l.size += len(p)
	}
	l.tail = append(l.tail, p...)
	if extra := len(l.tail) - tailLimit; extra > 0 {
		l.tail = append(l.tail[:0], l.tail[extra:]...)
	}
	return len(p), nil
}

func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close()
}

var errorLine = regexp.MustCompile(`(?m)^time=\S+ level=(?:error|fatal) msg=("(?:[^"\\]|\\.)*"|\S+)`)

// errors is what k6 logged as errors, the last ones, or else its last words.
func (l *log) errors() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var said []string
	for _, match := range errorLine.FindAllSubmatch(l.tail, -1) {
		text := string(match[1])
		if plain, err := strconv.Unquote(text); err == nil {
			text = plain
		}
		said = append(said, strings.TrimSpace(text))
	}
	text := strings.Join(said, "; ")
	if text == "" {
		text = strings.TrimSpace(string(l.tail))
	}
	if extra := len(text) - saidLimit; extra > 0 {
		text = "... " + strings.ToValidUTF8(text[extra:], "")
	}
	return text
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// valid is a result as one JSON value: what a system answered need not be one.
func valid(result json.RawMessage) json.RawMessage {
	if len(result) == 0 || json.Valid(result) {
		return result
	}
	text, err := json.Marshal(string(result))
	if err != nil {
		return nil
	}
	return text
}
