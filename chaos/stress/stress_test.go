package stress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

const modeVariable = "STRESS_TEST_MODE"

func TestMain(m *testing.M) {
	Main()
	if os.Getenv(modeVariable) == "harness" { // starts workers and is killed
		s, err := Start(context.Background(), Config{CPU: CPU{Workers: 2, Load: 0.01}, Memory: Memory{Workers: 1, Bytes: 1e6}})
		if err != nil {
			panic(err)
		}
		for _, w := range s.workers {
			fmt.Print(w.cmd.Process.Pid, " ")
		}
		fmt.Println()
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

func start(t *testing.T, config Config) *Stress {
	t.Helper()
	s, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if reached() {
			return
		}
	}
	t.Fatalf("not within 30s: %s", what)
}

// await waits for evidence: on a busy machine a second may go wrong.
func (s *Stress) await(t *testing.T, proof history.Proof, words string) {
	t.Helper()
	var ev Evidence
	await(t, fmt.Sprintf("%s: %s", proof, words), func() bool {
		ev = s.Evidence(t.Context(), MinWatch)
		t.Log(ev)
		return ev.Proof == proof && strings.Contains(ev.Detail, words) && ev.At > 0
	})
}

func TestCPU(t *testing.T) {
	for _, cpu := range []CPU{{1, 0.2}, {2, 0.5}, {1, 0}} {
		start(t, Config{CPU: cpu}).await(t, history.Confirmed, "workers used")
	}
}

func TestMemory(t *testing.T) {
	s := start(t, Config{Memory: Memory{Workers: 2, Bytes: 64 << 20}})
	s.await(t, history.Confirmed, "want 64MiB")
	s.size *= 2
	s.await(t, history.Mismatch, "want 128MiB")
}

func TestWorkerThatEnds(t *testing.T) {
	for _, config := range []Config{{CPU: CPU{Workers: 1, Load: 0.05}}, {Memory: Memory{Workers: 1, Bytes: 1e6}}} {
		s := start(t, config)
		s.workers[0].cmd.Process.Kill()
		s.await(t, history.Mismatch, "a worker has ended")
	}
}

func TestEvidenceThatIsCutShort(t *testing.T) {
	s := start(t, Config{CPU: CPU{Workers: 1, Load: 0.05}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ev := s.Evidence(ctx, MinWatch); ev.Proof != history.Inconclusive {
		t.Errorf("%+v, want %s", ev, history.Inconclusive)
	}
}

func TestStop(t *testing.T) {
	s := start(t, Config{CPU: CPU{Workers: 2}, Memory: Memory{Workers: 1, Bytes: 1e6}})
	if s.Gone() {
		t.Error("the workers are gone before Stop")
	}
	s.Stop()
	s.Stop()
	if !s.Gone() {
		t.Error("a worker is there after Stop")
	}
	if ev := s.Evidence(t.Context(), MinWatch); ev.Proof != history.Mismatch {
		t.Errorf("%+v, want %s", ev, history.Mismatch)
	}
}

func TestStartAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Start(ctx, Config{CPU: CPU{Workers: 1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v; want %v", s, err, context.Canceled)
	}
}

// Workers end with the process that started them, even if it is killed.
func TestNothingIsLeft(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), modeVariable+"=harness")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var pids [3]int
	if _, err := fmt.Fscan(stdout, &pids[0], &pids[1], &pids[2]); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	await(t, "no worker left", func() bool {
		for _, pid := range pids {
			// As a zombie it is nobody's but init's.
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
				return false
			}
		}
		return true
	})
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		config Config
		want   string
	}{
		{Config{}, "stress: no workers"},
		{Config{CPU: CPU{Workers: -1}}, "cpu.workers: -1 is not within"},
		{Config{CPU: CPU{Workers: 1, Load: 1.01}}, "cpu.load: 1.01 is not a share"},
		{Config{CPU: CPU{Workers: 1, Load: -0.1}}, "cpu.load: -0.1 is not a share"},
		{Config{Memory: Memory{Workers: 9000}}, "memory.workers: 9000 is not within"},
		{Config{Memory: Memory{Workers: 1}}, "memory: 0 bytes are less than a page"},
		{Config{Memory: Memory{Workers: 1, Bytes: -1}}, "memory: -1 bytes are less than a page"},
		{Config{Memory: Memory{Workers: 1, Share: 1.5}}, "memory.share: 1.5 is not a share"},
		{Config{Memory: Memory{Workers: 1, Share: 1}}, "memory: "},
		{Config{Memory: Memory{Workers: 1, Bytes: 1 << 62}}, "memory: 4EiB is more than the "},
	} {
		s, err := Start(t.Context(), tt.config)
		if err == nil {
			s.Stop()
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", tt.config, err, tt.want)
		}
	}
}

// What was used, as told on a machine with time to spare and on one without.
func TestJudge(t *testing.T) {
	s := &Stress{config: Config{CPU: CPU{Workers: 2, Load: 0.5}}}
	for _, tt := range []struct {
		used, waited time.Duration
		want         history.Proof
		words        string
	}{
		{time.Second, 0, history.Confirmed, "used 1.00 CPUs for 1.00 s, want 1.00"},
		{860 * time.Millisecond, 0, history.Confirmed, ""},
		{800 * time.Millisecond, 0, history.Mismatch, "waited for 0.00 more only"},
		{400 * time.Millisecond, time.Second, history.Confirmed, "saturated: they waited for 1.00 more"},
		{1200 * time.Millisecond, 0, history.Mismatch, ""},
		{0, 0, history.Mismatch, ""},
	} {
		now := time.Now()
		proof, detail := s.judge(use{at: now}, use{at: now.Add(time.Second), cpu: tt.used, waited: tt.waited})
		if proof != tt.want || !strings.Contains(detail, tt.words) {
			t.Errorf("used %v, waited %v: %s, %s; want %s, %s", tt.used, tt.waited, proof, detail, tt.want, tt.words)
		}
	}
}
