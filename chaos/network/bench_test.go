package network

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkRequest is what an idle link costs an HTTP request: run it with
// -count=5 or more and compare p50 and CPU time with those over loopback.
func BenchmarkRequest(b *testing.B) {
	s, links := open(b, "a", "b"), openLinks(b, "a", "b")
	for _, way := range []struct{ name, server, addr string }{
		{"switch", "b", s.Addr("b").String() + ":0"},
		{"links", Client, "127.0.0.1:0"},
		{"loopback", "a", "127.0.0.1:0"},
	} {
		l, err := s.Listen(way.server, way.addr)
		if err != nil {
			b.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
		go server.Serve(l)
		defer server.Close()
		var conn net.Conn
		if way.name == "links" {
			conn, err = dialSOCKS(b.Context(), links.Proxy("a"), netip.MustParseAddrPort(at(links, "b", l.Addr())))
		} else {
			conn, err = s.Dial(b.Context(), "a", l.Addr().String())
		}
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		b.Run(way.name, func(b *testing.B) {
			request := []byte("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
			answer := make([]byte, 4096)
			took := make([]time.Duration, 0, b.N)
			before := cpu()
			for b.Loop() {
				start := time.Now()
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				n, err := conn.Read(answer)
				if err != nil || !strings.HasSuffix(string(answer[:n]), "hello") {
					b.Fatalf("%v: %q", err, answer[:n])
				}
				took = append(took, time.Since(start))
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(len(took)), "cpu-us/op")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
		})
	}
}

// cpu is the CPU time that this process has used.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(os.NewSyscallError("getrusage", err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
