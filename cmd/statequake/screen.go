package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

const (
	// heardWithin is how long somebody who says something waits until it is
	// written: what he prints next himself comes after it, unless nobody reads.
	heardWithin = time.Second

	// waitingLines is how many lines are kept while nobody reads.
	waitingLines = 1000
)

// screen writes lines and, on a terminal, a region below them that is drawn again
// in its place. One goroutine writes, always the latest state, so that a terminal
// that is stopped, or a pipe that nobody reads, holds up nobody else: frames are
// left out, and of the lines those that come when there is no room.
type screen struct {
	out  io.Writer
	size func() (width, height int)
	live bool // there is a region

	mu      sync.Mutex
	lines   []string
	dropped int
	region  func(width, height int) []string // nil: none
	asked   int                              // number of the last request to write
	written int                              // the last request that is written
	heard   *sync.Cond                       // written has changed
	wake    chan struct{}

	drawn      []int // widths of the lines of the region, of the writing goroutine alone
	drawnWidth int   // of the terminal when they were drawn
}

// newScreen starts the writing goroutine, which goes on as long as the process.
func newScreen(out io.Writer, live bool, size func() (width, height int)) *screen {
	s := &screen{out: out, size: size, live: live, wake: make(chan struct{}, 1)}
	s.heard = sync.NewCond(&s.mu)
	go s.write()
	return s
}

// print puts text, which may have several lines, above the region. It does not
// wait.
func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) >= waitingLines {
		s.dropped++
		return
	}
	s.lines = append(s.lines, strings.TrimSuffix(text, "\n"))
	s.ask()
}

// draw has the region drawn anew; nil removes it. It does not wait.
func (s *screen) draw(region func(width, height int) []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.region = region
	s.ask()
}

// again has the region drawn as it is, for a terminal that has another size.
func (s *screen) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask()
}

// ask is called with mu held.
func (s *screen) ask() {
	s.asked++
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flush waits until all that was asked for is written, but not for long. It
// returns false if nobody reads.
func (s *screen) flush() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := false
	timer := time.AfterFunc(heardWithin, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.heard.Broadcast()
	})
	defer timer.Stop()
	for asked := s.asked; s.written < asked && !late; {
		s.heard.Wait()
	}
	return !late
}

func (s *screen) write() {
	for range s.wake {
		s.mu.Lock()
		lines, dropped, region, asked := s.lines, s.dropped, s.region, s.asked
		s.lines, s.dropped = nil, 0
		s.mu.Unlock()
		if dropped > 0 {
			lines = append(lines, fmt.Sprintf("%s left out: nobody read", plural(dropped, "line")))
		}
		width, height := s.size()
		if bytes := s.compose(lines, region, width, height); len(bytes) > 0 {
			s.out.Write(bytes) // there is nobody to tell
		}
		s.mu.Lock()
		s.written = asked
		s.heard.Broadcast()
		s.mu.Unlock()
	}
}

// Control sequences, as ECMA-48 and xterm have them.
const (
	up       = "\x1b[%dA" // no further than to the first line of the screen
	down     = "\x1b[%dB"
	toEnd    = "\x1b[K"      // erases the rest of the line
	below    = "\x1b[J"      // erases the rest of the screen
	cutting  = "\x1b[?7l"    // what is too wide is cut off
	breaking = "\x1b[?7h"    // what is too wide goes on in the next line
	together = "\x1b[?2026h" // what follows is to be shown at once; terminals that cannot ignore it
	shown    = "\x1b[?2026l"
)

// compose is what is written to put lines above the region and to draw it. The
// cursor is left at the beginning of the region's last line: there it stays, in
// that line, when a terminal that gets narrower breaks the lines above it.
//
// Terminals break these lines some time before they tell their new size, tmux for
// a quarter of a second. A frame that is drawn in between begins too low, but as no
// line of it is broken it does so once: the rows to go up, when the new size is
// known, are the same whether there was such a frame or not.
func (s *screen) compose(lines []string, region func(width, height int) []string, width, height int) []byte {
	var frame []string
	if region != nil && s.live {
		// The last column is left free: some terminals go to the next line as soon
		// as it is written. One line stays to what was printed before.
		frame = region(max(width-1, 1), max(height-1, 1))
	}
	if !s.live || len(frame) == 0 && len(s.drawn) == 0 {
		var b []byte
		for _, l := range lines {
			b = append(append(b, l...), '\n')
		}
		return b
	}
	var b strings.Builder
	b.WriteString(together + "\r")
	rows := rowsAbove(s.drawn, width)
	move(&b, up, rows)
	if width != s.drawnWidth || len(frame) == 0 {
		// Line by line: tmux moves what "the rest of the screen" is into its history
		// if that is all of the screen.
		for range rows {
			b.WriteString(toEnd)
			move(&b, down, 1)
		}
		b.WriteString(toEnd)
		move(&b, up, rows)
	}
	for _, text := range lines {
		for l := range strings.SplitSeq(text, "\n") {
			b.WriteString(l + toEnd + "\n")
		}
	}
	s.drawn, s.drawnWidth = s.drawn[:0], width
	b.WriteString(cutting)
	for i, l := range frame {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(l + toEnd)
		s.drawn = append(s.drawn, shownWidth(l))
	}
	if len(frame) > 0 { // so the cursor is not in the first line's first column
		b.WriteString(below)
	}
	b.WriteString("\r" + breaking + shown)
	return []byte(b.String())
}

// move moves the cursor by n rows.
func move(b *strings.Builder, where string, n int) {
	if n > 0 {
		fmt.Fprintf(b, where, n)
	}
}

// rowsAbove is how many rows the lines but the last take, on a terminal that has
// broken those that are wider than it is now.
func rowsAbove(widths []int, width int) int {
	rows := 0
	for i := range len(widths) - 1 {
		rows += max(1, (widths[i]+width-1)/max(width, 1))
	}
	return rows
}

// shownWidth is the number of columns of a line of a frame.
func shownWidth(l string) int {
	width := 0
	for l != "" {
		text, rest, found := strings.Cut(l, "\x1b[")
		width += runewidth.StringWidth(text)
		if l = ""; found {
			_, l, _ = strings.Cut(rest, "m")
		}
	}
	return width
}

// terminalSize is the size of the terminal f, 80x24 if it does not tell.
func terminalSize(f *os.File) (width, height int) {
	if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
		return w, h
	}
	return 80, 24
}

// lookOf is what the terminal f can show, by what the environment says of it.
func lookOf(f *os.File) look {
	color, _ := terminal(f)
	locale := ""
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale = os.Getenv(name); locale != "" {
			break
		}
	}
	locale = strings.ToUpper(locale)
	utf8 := strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
	return look{color: color, unicode: utf8 && !runewidth.IsEastAsian()} // where block characters may be two columns wide
}
