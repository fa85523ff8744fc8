// Lossy is a small service that remembers registers, and by default lies about
// it: it acknowledges a write at once and writes it to its file later. It is
// there to be caught. With WRITE=first it writes first.
//
//	PUT /registers/KEY          {"value": "x"} -> {"value": "x", "version": 1, "digest": "..."}
//	GET /registers/KEY          -> {"value": "x", ...}; {"value": null, ...} before the first write
//	GET /registers/KEY/witness  -> {"ids": ["..."], ...}: the ids of the writes applied, in order
//
// The header Statequake-Op carries the id of a write. One that was applied
// before is not applied again.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// flushEvery is how long an acknowledged write may exist in memory only.
const flushEvery = 2 * time.Second

func main() {
	addr := flag.String("listen", "127.0.0.1:8080", "address to serve")
	data := flag.String("data", ".", "folder of the journal")
	flag.Parse()
	s, err := open(filepath.Join(*data, "journal.jsonl"), os.Getenv("WRITE") == "first")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /registers/{key}", s.put)
	mux.HandleFunc("GET /registers/{key}", s.get)
	mux.HandleFunc("GET /registers/{key}/witness", s.witness)
	log.Fatal(http.ListenAndServe(*addr, mux))
}

// write is one line of the journal.
type write struct {
	Key   string `json:"key"`
	ID    string `json:"id"`
	Value string `json:"value"`
}

// register is the state of one key, and the answer to operations on it.
type register struct {
	Value   *string  `json:"value"`
	Version int      `json:"version"`
	Digest  string   `json:"digest"`
	IDs     []string `json:"ids,omitempty"`
}

type store struct {
	sync bool

	mu        sync.Mutex
	journal   *os.File
	registers map[string]*register
	answers   map[string]register // to writes, by id
	unwritten []write
}

// open reads the journal back. A torn last line was never acknowledged.
func open(path string, sync bool) (*store, error) {
	s := &store{sync: sync, registers: map[string]*register{}, answers: map[string]register{}}
	old, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	whole := int64(0)
	if err == nil {
		defer old.Close()
		for lines := bufio.NewReader(old); ; {
			line, err := lines.ReadBytes('\n')
			var w write
			if err != nil || json.Unmarshal(line, &w) != nil {
				break
			}
			whole += int64(len(line))
			s.apply(w)
		}
	}
	if s.journal, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if err := s.journal.Truncate(whole); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if _, err := s.journal.Seek(whole, 0); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	go func() {
		for range time.Tick(flushEvery) {
			s.mu.Lock()
			s.flush()
			s.mu.Unlock()
		}
	}()
	return s, nil
}

func (s *store) of(key string) *register {
	r := s.registers[key]
	if r == nil {
		r = &register{Digest: "0000000000000000"}
		s.registers[key] = r
	}
	return r
}

func (s *store) apply(w write) {
	r := s.of(w.Key)
	sum := sha256.Sum256([]byte(r.Digest + w.ID))
	r.Value, r.Version, r.Digest = &w.Value, r.Version+1, hex.EncodeToString(sum[:8])
	r.IDs = append(r.IDs, w.ID)
	s.answers[w.ID] = register{Value: r.Value, Version: r.Version, Digest: r.Digest}
}

// flush writes what is not in the journal yet. Whoever cannot write must not
// go on as if nothing had happened.
func (s *store) flush() {
	if len(s.unwritten) == 0 {
		return
	}
	var lines []byte
	for _, w := range s.unwritten {
		line, err := json.Marshal(w)
		if err != nil {
			log.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	}
	if _, err := s.journal.Write(lines); err != nil {
		log.Fatal(err)
	}
	if err := s.journal.Sync(); err != nil {
		log.Fatal(err)
	}
	s.unwritten = s.unwritten[:0]
}

func (s *store) put(w http.ResponseWriter, r *http.Request) {
	in := write{Key: r.PathValue("key"), ID: r.Header.Get("Statequake-Op")}
	var body struct {
		Value *string `json:"value"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil || body.Value == nil || in.ID == "" {
		http.Error(w, `{"error": "want an id and a value"}`, http.StatusBadRequest)
		return
	}
	in.Value = *body.Value
	s.mu.Lock()
	answer, applied := s.answers[in.ID]
	if !applied {
		s.apply(in)
		answer = s.answers[in.ID]
		s.unwritten = append(s.unwritten, in)
		if s.sync {
			s.flush()
		}
	}
	s.mu.Unlock()
	reply(w, answer)
}

func (s *store) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	answer := *s.of(r.PathValue("key"))
	s.mu.Unlock()
	answer.IDs = nil
	reply(w, answer)
}

func (s *store) witness(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	answer := *s.of(r.PathValue("key"))
	answer.IDs = slices.Clone(answer.IDs)
	s.mu.Unlock()
	reply(w, struct {
		register
		IDs []string `json:"ids"`
	}{answer, append([]string{}, answer.IDs...)})
}

func reply(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer) // the client is gone, or has its answer
}
