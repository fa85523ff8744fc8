// Viewbench measures what the live view of a load costs the load: the same load, in
// turns, with a terminal to draw on and without one. The terminal is a pty of 80x24
// that is read at once.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// result is what statequake load --json says of itself.
type result struct {
	SendLag struct {
		P50 time.Duration `json:"p50"`
		P99 time.Duration `json:"p99"`
	} `json:"send_lag_ns"`
	Generator struct {
		Verdict string  `json:"verdict"`
		CPU     float64 `json:"cpu_us_per_request"`
	} `json:"generator"`
	Scheduled int64 `json:"scheduled"`

	drawn int64 // bytes
}

func main() {
	log.SetFlags(0)
	binary := flag.String("binary", "bin/statequake", "program")
	n := flag.Int("n", 10, "pairs of loads")
	rate := flag.Int("rate", 5000, "requests per second")
	duration := flag.Duration("duration", 5*time.Second, "of each load")
	flag.Parse()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	args := []string{"load", "--json", "--url", "http://" + l.Addr().String() + "/", "--rate", fmt.Sprintf("%d/s", *rate), "--duration", duration.String()}

	var with, without []result
	for i := range *n {
		for j := range 2 {
			if view := (i+j)%2 == 0; view { // first in every other pair
				with = append(with, run(*binary, args, true))
			} else {
				without = append(without, run(*binary, args, false))
			}
		}
	}
	fmt.Printf("%d loads each of %d/s for %v, in turns; median [least to most]\n", *n, *rate, *duration)
	print := func(name, unit string, of func(r result) float64) {
		a, b := figures(with, of), figures(without, of)
		fmt.Printf("%-26s with the view %s   without %s   %s\n", name, a, b, unit)
	}
	print("CPU of the generator", "µs/request", func(r result) float64 { return r.Generator.CPU })
	print("send lag p50", "µs", func(r result) float64 { return float64(r.SendLag.P50) / 1e3 })
	print("send lag p99", "µs", func(r result) float64 { return float64(r.SendLag.P99) / 1e3 })
	print("drawn", "kB/s", func(r result) float64 { return float64(r.drawn) / 1e3 / duration.Seconds() })
	var differences []float64
	for i := range with {
		differences = append(differences, (with[i].Generator.CPU-without[i].Generator.CPU)*float64(*rate)/1e4)
	}
	slices.Sort(differences)
	fmt.Printf("of one CPU the view takes  %.2f %% [%.2f to %.2f], by pairs\n", differences[len(differences)/2], differences[0], differences[len(differences)-1])
}

// figures are the median and the range of a figure.
func figures(results []result, of func(result) float64) string {
	var all []float64
	for _, r := range results {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return fmt.Sprintf("%8.1f [%.1f to %.1f]", all[len(all)/2], all[0], all[len(all)-1])
}

// run makes one load, whose progress goes to a terminal or nowhere.
func run(binary string, args []string, view bool) result {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8")
	drawn := make(chan int64, 1)
	drawn <- 0
	if view {
		terminal, other := pty()
		defer terminal.Close()
		cmd.Stderr = other
		<-drawn
		go func() {
			n, _ := io.Copy(io.Discard, terminal) // until the other side is closed, which is an error
			drawn <- n
		}()
		defer other.Close()
	}
	out, err := cmd.Output()
	if err != nil {
		if failed, ok := err.(*exec.ExitError); !ok || failed.ExitCode() == 3 {
			log.Fatalf("%v: %v", cmd, err)
		}
	}
	if view {
		cmd.Stderr.(*os.File).Close()
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		log.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	r.drawn = <-drawn
	return r
}

// pty opens a terminal of 80x24 and its other side, pts(4).
func pty() (terminal, other *os.File) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		log.Fatal(err)
	}
	fd := int(terminal.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		log.Fatal("unlock pty: ", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		log.Fatal("number of pty: ", err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		log.Fatal("size of pty: ", err)
	}
	other, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		log.Fatal(err)
	}
	return terminal, other
}
