package history

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is the deepest nesting of a JSON value that is taken for valid.
// encoding/json stops at 10,000; nothing a benchmark sends comes near either.
const maxDepth = 1000

// maxNames bounds the table of repeated strings; a full table starts anew.
const maxNames = 1 << 16

// plain holds the bytes that stand for themselves in a JSON string and need no
// look at their neighbours: printable ASCII except quote and backslash.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// The members of an operation's line in the order in which they are written.
// The scanner takes any order, but is fastest with this one.
const (
	fieldID = iota
	fieldN
	fieldPhase
	fieldClient
	fieldEntity
	fieldKey
	fieldOp
	fieldArgs
	fieldScheduled
	fieldSent
	fieldReturned
	fieldAttempts
	fieldOutcome
	fieldResult
	fieldVersion
	fieldDigest
	fieldEpoch
	fieldError
	fieldNode
	fieldVia
	fieldFooter  // not of an operation: the footer's line has this one alone
	fieldUnknown // skipped
)

// fieldNames are the members' names on disk.
var fieldNames = [fieldUnknown]string{
	fieldID: "id", fieldN: "n", fieldPhase: "phase", fieldClient: "client",
	fieldEntity: "entity", fieldKey: "key", fieldOp: "op", fieldArgs: "args",
	fieldScheduled: "scheduled_ns", fieldSent: "sent_ns", fieldReturned: "returned_ns",
	fieldAttempts: "attempts", fieldOutcome: "outcome", fieldResult: "result",
	fieldVersion: "version", fieldDigest: "digest", fieldEpoch: "epoch",
	fieldError: "error", fieldNode: "node", fieldVia: "via", fieldFooter: "footer",
}

// fieldPrefixes are the names as they start a member that is written without
// spaces.
var fieldPrefixes = func() (t [fieldUnknown]string) {
	for f, name := range fieldNames {
		t[f] = `"` + name + `":`
	}
	return t
}()

// fieldSet holds 1<<field for each of its fields.
type fieldSet uint32

// required are the fields that every operation has.
const required fieldSet = 1<<fieldID | 1<<fieldN | 1<<fieldPhase | 1<<fieldClient |
	1<<fieldEntity | 1<<fieldKey | 1<<fieldOp | 1<<fieldScheduled | 1<<fieldSent |
	1<<fieldReturned | 1<<fieldAttempts | 1<<fieldOutcome

// scanner decodes lines of history.jsonl. It reads what encoding/json would
// read into a map of members, several times faster. Strings that repeat from
// line to line are shared, raw values live in larger blocks, so that an
// operation costs two small allocations.
type scanner struct {
	line  []byte
	pos   int
	text  []byte            // scratch for a string with escapes
	names map[string]string // entities, keys, operations, nodes seen
	block []byte            // rest of the block that holds raw values
	wide  bool              // the value being skipped holds bytes beyond ASCII
}

// scan decodes one line into o, or returns the value of its footer member,
// which is valid until the next call. After an error o is unspecified.
func (s *scanner) scan(line []byte, o *Op) (footer []byte, err error) {
	s.line, s.pos = line, 0
	s.space()
	if !s.take('{') {
		return nil, s.unexpected("an object")
	}
	s.space()
	var seen fieldSet
	f := -1
	for more := !s.take('}'); more; {
		if f, err = s.member(f + 1); err != nil {
			return nil, err
		}
		s.space()
		// Values are assigned over those of the line before, so that equal
		// strings can be kept; what this line lacks is cleared below.
		var b []byte
		var v int64
		present := true // false for null
		switch f {
		case fieldID:
			if b, present, err = s.str(); present {
				o.ID = string(b)
			}
		case fieldN:
			o.N, present, err = s.integer()
		case fieldPhase:
			if b, present, err = s.str(); present {
				o.Phase, err = phaseOf(b)
			}
		case fieldClient:
			v, present, err = s.integer()
			o.Client = int(v)
		case fieldEntity:
			if b, present, err = s.str(); present {
				o.Entity = s.name(o.Entity, b)
			}
		case fieldKey:
			if b, present, err = s.str(); present {
				o.Key = s.name(o.Key, b)
			}
		case fieldOp:
			if b, present, err = s.str(); present {
				o.Name = s.name(o.Name, b)
			}
		case fieldArgs:
			if b, err = s.raw(); err == nil {
				o.Args = s.keep(b)
			}
		case fieldScheduled:
			v, present, err = s.integer()
			o.Scheduled = time.Duration(v)
		case fieldSent:
			v, present, err = s.integer()
			o.Sent = time.Duration(v)
		case fieldReturned:
			v, present, err = s.integer()
			o.Returned = time.Duration(v)
		case fieldAttempts:
			v, present, err = s.integer()
			o.Attempts = int(v)
		case fieldOutcome:
			if b, present, err = s.str(); present {
				o.Outcome, err = outcomeOf(b)
			}
		case fieldResult:
			if b, err = s.raw(); err == nil {
				o.Result = s.keep(b)
			}
		case fieldVersion:
			v, present, err = s.integer()
			o.Version = max(v, -1)
		case fieldDigest:
			if b, present, err = s.str(); present {
				o.Digest = string(b)
			}
		case fieldEpoch:
			o.Epoch, present, err = s.integer()
		case fieldError:
			if b, present, err = s.str(); present {
				o.Error = s.name(o.Error, b)
			}
		case fieldNode:
			if b, present, err = s.str(); present {
				o.Node = s.name(o.Node, b)
			}
		case fieldVia:
			if b, present, err = s.str(); present {
				o.Via = s.name(o.Via, b)
			}
		case fieldFooter:
			footer, err = s.raw()
		default:
			err = s.skip(0)
		}
		if err != nil {
			if f < fieldUnknown {
				err = fmt.Errorf("%s: %w", fieldNames[f], err)
			}
			return nil, err
		}
		if present {
			seen |= 1 << f
		} else {
			seen &^= 1 << f
		}
		s.space()
		if s.take(',') {
			s.space()
			continue
		}
		if !s.take('}') {
			return nil, s.unexpected("a comma or the end of the object")
		}
		more = false
	}
	s.space()
	if s.pos < len(s.line) {
		return nil, s.unexpected("the end of the line")
	}
	if footer != nil && seen&required == 0 {
		return footer, nil
	}
	if seen&required != required {
		var missing []string
		for f, name := range fieldNames {
			if required&^seen&(1<<f) != 0 {
				missing = append(missing, name)
			}
		}
		return nil, fmt.Errorf("missing field: %s", strings.Join(missing, ", "))
	}
	if footer != nil {
		return nil, errors.New("both an operation and the footer")
	}
	o.reset(seen)
	return nil, nil
}

// member reads a member's name and its colon. guess is the field that follows
// if the line is written as Writer does.
func (s *scanner) member(guess int) (int, error) {
	rest := s.line[s.pos:]
	// Two optional fields may lack in a row before the guess is given up.
	for f := guess; f < min(guess+3, len(fieldPrefixes)); f++ {
		if prefix := fieldPrefixes[f]; len(rest) >= len(prefix) && string(rest[:len(prefix)]) == prefix {
			s.pos += len(prefix)
			return f, nil
		}
	}
	name, err := s.string()
	if err != nil {
		return 0, err
	}
	s.space()
	if !s.take(':') {
		return 0, s.unexpected("a colon")
	}
	for f := range fieldNames {
		if string(name) == fieldNames[f] {
			return f, nil
		}
	}
	return fieldUnknown, nil
}

// reset clears the optional fields that are not in seen.
func (o *Op) reset(seen fieldSet) {
	if seen&(1<<fieldArgs) == 0 {
		o.Args = nil
	}
	if seen&(1<<fieldResult) == 0 {
		o.Result = nil
	}
	if seen&(1<<fieldVersion) == 0 {
		o.Version = -1
	}
	if seen&(1<<fieldDigest) == 0 {
		o.Digest = ""
	}
	if seen&(1<<fieldEpoch) == 0 {
		o.Epoch = 0
	}
	if seen&(1<<fieldError) == 0 {
		o.Error = ""
	}
	if seen&(1<<fieldNode) == 0 {
		o.Node = ""
	}
	if seen&(1<<fieldVia) == 0 {
		o.Via = ""
	}
}

// phaseOf returns the constant phase, which shares no memory with b.
func phaseOf(b []byte) (Phase, error) {
	switch string(b) {
	case string(Load):
		return Load, nil
	case string(Warmup):
		return Warmup, nil
	case string(Probe):
		return Probe, nil
	case string(Drain):
		return Drain, nil
	case string(Audit):
		return Audit, nil
	}
	return "", fmt.Errorf("%s is not one of warmup, load, probe, drain, audit", excerpt(b))
}

// outcomeOf returns the constant outcome, which shares no memory with b.
func outcomeOf(b []byte) (Outcome, error) {
	switch string(b) {
	case string(OK):
		return OK, nil
	case string(Fail):
		return Fail, nil
	case string(Info):
		return Info, nil
	case string(Unsent):
		return Unsent, nil
	}
	return "", fmt.Errorf("%s is not one of ok, fail, info, unsent", excerpt(b))
}

// excerpt quotes b for an error message, cut to a readable length.
func excerpt(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%q...", b[:40])
	}
	return fmt.Sprintf("%q", b)
}

// name returns b as a string: prev if it is equal, else a shared one.
func (s *scanner) name(prev string, b []byte) string {
	if prev == string(b) {
		return prev
	}
	if name, ok := s.names[string(b)]; ok {
		return name
	}
	name := string(b)
	if len(b) > 64 {
		return name
	}
	if s.names == nil || len(s.names) >= maxNames {
		s.names = make(map[string]string)
	}
	s.names[name] = name
	return name
}

// keep copies b to where the following lines do not overwrite it.
func (s *scanner) keep(b []byte) []byte {
	const size = 16 << 10
	if len(b) > cap(s.block)-len(s.block) {
		if len(b) > size/4 {
			return bytes.Clone(b)
		}
		s.block = make([]byte, 0, size)
	}
	at := len(s.block)
	s.block = append(s.block, b...)
	return s.block[at:len(s.block):len(s.block)]
}

// space skips JSON whitespace.
func (s *scanner) space() {
	if s.pos < len(s.line) && s.line[s.pos] <= ' ' {
		s.spaces()
	}
}

func (s *scanner) spaces() {
	for s.pos < len(s.line) && isSpace(s.line[s.pos]) {
		s.pos++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// take skips c if it is next.
func (s *scanner) take(c byte) bool {
	if s.pos < len(s.line) && s.line[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// unexpected says what is at the position instead of what should be.
func (s *scanner) unexpected(want string) error {
	if s.pos >= len(s.line) {
		return fmt.Errorf("column %d: the line ends, expected %s", s.pos+1, want)
	}
	return fmt.Errorf("column %d: unexpected %q, expected %s", s.pos+1, s.line[s.pos], want)
}

// literal skips word if it is next.
func (s *scanner) literal(word string) bool {
	if len(s.line)-s.pos >= len(word) && string(s.line[s.pos:s.pos+len(word)]) == word {
		s.pos += len(word)
		return true
	}
	return false
}

// str reads a string as string does, or null as absent.
func (s *scanner) str() (b []byte, present bool, err error) {
	if s.pos < len(s.line) && s.line[s.pos] == 'n' && s.literal("null") {
		return nil, false, nil
	}
	b, err = s.string()
	return b, err == nil, err
}

// string reads a string, valid until the next string or line is read.
func (s *scanner) string() ([]byte, error) {
	if !s.take('"') {
		return nil, s.unexpected("a string")
	}
	line, start := s.line, s.pos
	i := start
	for i < len(line) && plain[line[i]] {
		i++
	}
	if i < len(line) && line[i] == '"' {
		s.pos = i + 1
		return line[start:i], nil
	}
	s.pos = start
	if err := s.skipString(); err != nil {
		return nil, err
	}
	s.text = appendUnquoted(s.text[:0], line[start:s.pos-1])
	return s.text, nil
}

// appendUnquoted decodes the inside of a valid JSON string. Invalid UTF-8 and
// surrogates without a partner become U+FFFD, as encoding/json has it.
func appendUnquoted(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		c := src[i]
		if plain[c] {
			dst = append(dst, c)
			i++
			continue
		}
		if c != '\\' {
			r, n := utf8.DecodeRune(src[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		c = src[i+1]
		i += 2
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(src[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if len(src)-i >= 6 && src[i] == '\\' && src[i+1] == 'u' {
					pair = utf16.DecodeRune(r, hex4(src[i+2:]))
				}
				if pair != utf8.RuneError {
					i += 6
				}
				r = pair
			}
			dst = utf8.AppendRune(dst, r)
		default: // quote, backslash, slash
			dst = append(dst, c)
		}
	}
	return dst
}

// hex4 is the value of four valid hexadecimal digits.
func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// integer reads a 64-bit integer, or null as absent.
func (s *scanner) integer() (v int64, present bool, err error) {
	line, start := s.line, s.pos
	i := start
	negative := i < len(line) && line[i] == '-'
	if negative {
		i++
	}
	first := i
	var u uint64
	// 19 digits always fit into 64 bits without a sign.
	for i < len(line) && i-first < 19 && line[i]-'0' <= 9 {
		u = u*10 + uint64(line[i]-'0')
		i++
	}
	if i > first && (i == len(line) || !inNumber(line[i])) && (line[first] != '0' || i-first == 1) {
		s.pos = i
		switch {
		case negative && u <= -math.MinInt64:
			return -int64(u), true, nil
		case !negative && u <= math.MaxInt64:
			return int64(u), true, nil
		}
	}
	s.pos = start
	if s.literal("null") {
		return 0, false, nil
	}
	if err := s.skip(0); err != nil {
		return 0, false, err
	}
	end := s.pos
	for end < len(line) && inNumber(line[end]) {
		end++ // 01 is two values to skip
	}
	return 0, false, fmt.Errorf("%s is not a 64-bit integer", excerpt(line[start:end]))
}

func inNumber(c byte) bool {
	return c-'0' <= 9 || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

// raw validates a value and returns its text, valid until the next line.
// Invalid UTF-8 is replaced.
func (s *scanner) raw() ([]byte, error) {
	start := s.pos
	s.wide = false
	if err := s.skip(0); err != nil {
		return nil, err
	}
	b := s.line[start:s.pos]
	if s.wide {
		b = []byte(string([]rune(string(b)))) // U+FFFD for each byte that is not UTF-8
	}
	return b, nil
}

// skip validates the value at the position and moves behind it.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("column %d: nested deeper than %d", s.pos+1, maxDepth)
	}
	if s.pos >= len(s.line) {
		return s.unexpected("a value")
	}
	switch c := s.line[s.pos]; {
	case c == '"':
		s.pos++
		return s.skipString()
	case c == '{' || c == '[':
		return s.skipNested(c, depth)
	case c == '-' || c-'0' <= 9:
		return s.skipNumber()
	case c == 't' && s.literal("true"), c == 'f' && s.literal("false"), c == 'n' && s.literal("null"):
		return nil
	}
	return s.unexpected("a value")
}

// skipNested validates the object or array that opens at the position.
func (s *scanner) skipNested(open byte, depth int) error {
	s.pos++
	end := open + 2 // in ASCII ] and } follow [ and { by two
	s.space()
	if s.take(end) {
		return nil
	}
	for {
		if open == '{' {
			if !s.take('"') {
				return s.unexpected("a string")
			}
			if err := s.skipString(); err != nil {
				return err
			}
			s.space()
			if !s.take(':') {
				return s.unexpected("a colon")
			}
			s.space()
		}
		if err := s.skip(depth + 1); err != nil {
			return err
		}
		s.space()
		if s.take(end) {
			return nil
		}
		if !s.take(',') {
			return s.unexpected(fmt.Sprintf("a comma or %q", end))
		}
		s.space()
	}
}

// skipString validates a string whose opening quote is behind the position.
func (s *scanner) skipString() error {
	line, i := s.line, s.pos
	for i < len(line) {
		c := line[i]
		switch {
		case plain[c]:
			i++
		case c == '"':
			s.pos = i + 1
			return nil
		case c >= utf8.RuneSelf:
			s.wide = true
			i++
		case c == '\\':
			n := escapeLen(line[i:])
			if n == 0 {
				s.pos = i
				return fmt.Errorf("column %d: invalid escape", i+1)
			}
			i += n
		default:
			s.pos = i
			return fmt.Errorf("column %d: control character %q in a string", i+1, c)
		}
	}
	s.pos = i
	return s.unexpected("the end of the string")
}

// escapeLen is the length of the escape at the start of b, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if c-'0' > 9 && c-'a' > 5 && c-'A' > 5 {
				return 0
			}
		}
		return 6
	}
	return 0
}

// skipNumber validates a number.
func (s *scanner) skipNumber() error {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return s.unexpected("a digit")
	}
	if s.take('.') && !s.digits() {
		return s.unexpected("a digit")
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	return nil
}

// digits skips digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.line) && s.line[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > start
}
