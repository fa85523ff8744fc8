package hand

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"statequake/history"
)

const (
	// maxFaults is how many faults may be in progress at once.
	maxFaults = 64

	headerTime = 5 * time.Second
	maxHeader  = 16 << 10
)

// Desk is what takes the faults in a harness. Its functions are called
// concurrently.
type Desk struct {
	Now  func() time.Duration // the harness's clock
	Info func() Info

	// Take checks an order; the error is *Refused, or says why no fault can be
	// taken at present. inject then injects the fault and returns when it is
	// over; when ctx ends the fault is healed at once, and the wait goes on
	// until that was seen. tell gets the events, and notes before them.
	Take func(Order) (inject func(ctx context.Context, tell func(Line)) error, err error)
}

// Server takes faults in a run directory.
type Server struct {
	desk   Desk
	dir    int // file descriptor
	http   *http.Server
	served chan struct{}   // closed when nobody accepts any more
	life   context.Context // of the faults
	end    context.CancelFunc

	mu     sync.Mutex
	faults int                           // in progress
	heal   map[string]context.CancelFunc // by the name of the fault
}

// Serve takes faults at the socket in dir until Close.
func Serve(dir string, desk Desk) (*Server, error) {
	s := &Server{desk: desk, served: make(chan struct{}), heal: map[string]context.CancelFunc{}}
	var err error
	if s.dir, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	listener, err := s.listen()
	if err != nil {
		unix.Close(s.dir)
		return nil, fmt.Errorf("listen at %s: %w", filepath.Join(dir, socketName), err)
	}
	s.life, s.end = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1", s.info)
	mux.HandleFunc("POST /v1/faults", s.inject)
	mux.HandleFunc("DELETE /v1/faults/{name}", s.undo)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: headerTime, MaxHeaderBytes: maxHeader}
	go func() {
		defer close(s.served)
		s.http.Serve(listener) // its error is that of Close
	}()
	return s, nil
}

// address is that of the socket in an open directory. The path of the directory
// may be longer than the 107 bytes that an address has.
func address(dir int) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir, socketName) }

// listen binds the socket, in place of one that nobody listens at.
func (s *Server) listen() (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		// The mode of a socket is that of the file that its bind makes.
		var err error
		if bad := conn.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); bad != nil {
			return bad
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", address(s.dir))
	if errors.Is(err, unix.EADDRINUSE) {
		other, err := net.Dial("unix", address(s.dir))
		if err == nil {
			other.Close()
			return nil, errors.New("another harness takes faults there\nhint: it has to end first")
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, err
		}
		if err := unix.Unlinkat(s.dir, socketName, 0); err != nil {
			return nil, err
		}
		l, err = config.Listen(context.Background(), "unix", address(s.dir))
		if err != nil {
			return nil, err
		}
		return s.keep(l), nil
	}
	if err != nil {
		return nil, err
	}
	return s.keep(l), nil
}

// keep leaves the removal of the socket to Close.
func (s *Server) keep(l net.Listener) net.Listener {
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l
}

// Close takes no more faults, heals those in progress, and returns when they
// are over.
func (s *Server) Close() {
	unix.Unlinkat(s.dir, socketName, 0) // whoever has removed it was first
	s.end()
	s.http.Shutdown(context.Background()) // waits for the answers
	<-s.served
	unix.Close(s.dir)
}

func (s *Server) info(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s.desk.Info())
}

func (s *Server) undo(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.mu.Lock()
	heal := s.heal[name]
	s.mu.Unlock()
	if heal == nil {
		http.Error(w, fmt.Sprintf("no fault %q by hand is in progress", name), http.StatusNotFound)
		return
	}
	heal()
	w.WriteHeader(http.StatusNoContent)
}

// begin counts one more fault; false if there are too many, or none is taken any more.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults >= maxFaults || s.life.Err() != nil {
		return false
	}
	s.faults++
	return true
}

func (s *Server) inject(w http.ResponseWriter, r *http.Request) {
	if !s.begin() {
		http.Error(w, fmt.Sprintf("the harness takes no more faults: it ends, or %d are in progress", maxFaults), http.StatusServiceUnavailable)
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults--
	}()
	inject, err := s.take(w, r)
	if err != nil {
		var refused *Refused
		if !errors.As(err, &refused) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(refused)
		return
	}

	// It ends with the client, by DELETE, or with the harness.
	ctx, heal := context.WithCancel(r.Context())
	defer heal()
	defer context.AfterFunc(s.life, heal)()
	w.Header().Set("Content-Type", "application/x-ndjson")
	answer := &answer{w: w, now: s.desk.Now}
	answer.flush()
	name := ""
	err = inject(ctx, func(line Line) {
		if line.Event != nil && line.Event.Event == history.Requested {
			name = line.Event.Name
			s.mu.Lock()
			s.heal[name] = heal
			s.mu.Unlock()
		}
		answer.tell(line)
	})
	if err != nil {
		answer.tell(Line{Error: err.Error()})
	}
	s.mu.Lock()
	delete(s.heal, name)
	s.mu.Unlock()
}

// take reads an order and has it checked.
func (s *Server) take(w http.ResponseWriter, r *http.Request) (func(ctx context.Context, tell func(Line)) error, error) {
	var order Order
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&order); err != nil {
		return nil, &Refused{[]Problem{{Text: fmt.Sprintf("not an order: %v", err)}}}
	}
	if decoder.More() {
		return nil, &Refused{[]Problem{{Text: "more than one order"}}}
	}
	return s.desk.Take(order)
}

// answer is a stream of lines. A client that is gone hears nothing, which is no
// error.
type answer struct {
	w   http.ResponseWriter
	now func() time.Duration
	mu  sync.Mutex
}

func (a *answer) tell(line Line) {
	a.mu.Lock()
	defer a.mu.Unlock()
	line.Now = a.now()
	json.NewEncoder(a.w).Encode(line)
	a.flush()
}

func (a *answer) flush() { http.NewResponseController(a.w).Flush() }
