//go:build e2e

package k6

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"statequake/history"
)

// One stall of 1 s at second 5 of 10, at 1,000/s, with ten virtual users: the
// hundredth of the slowest waits 900 ms. A pacer shows that. The executor
// constant-arrival-rate does not, since what was due in the stall is dropped and
// so never measured; the record has it as unsent.
//
// It is repeated as often as STATEQUAKE_TIMES says, else once.
func TestStall(t *testing.T) {
	const want, users = 900 * time.Millisecond, 10
	times := 1
	if text := os.Getenv("STATEQUAKE_TIMES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("STATEQUAKE_TIMES=%s: want a number from 1 on", text)
		}
		times = n
	}
	var paced, plain []time.Duration
	for range times {
		for _, c := range []struct {
			name, script string
			p99          *[]time.Duration
		}{
			{"pacer", `
export const options = { scenarios: { paced: { executor: 'constant-vus', vus: %d, duration: '12s' } } };
const pacer = statequake.pacer({ rate: '1000/s', duration: '10s' });
export default function () {
  const slot = pacer.next();
  if (slot !== null) client.invokeSync('thing', 'k-' + slot.n %% 100, 'get', undefined, { due: slot });
}`, &paced},
			{"constant-arrival-rate", `
export const options = { scenarios: { rate: { executor: 'constant-arrival-rate', rate: 1000, duration: '10s', preAllocatedVUs: %[1]d, maxVUs: %[1]d } } };
export default function () { client.invokeSync('thing', 'k', 'get'); }`, &plain},
		} {
			n := newNode(t)
			var once sync.Once
			var began time.Time
			n.delay = func() time.Duration {
				once.Do(func() { began = time.Now() })
				if at := time.Since(began); at >= 5*time.Second && at < 6*time.Second {
					return 6*time.Second - at
				}
				return 0
			}
			dir := filepath.Join(t.TempDir(), "run")
			script := "import statequake from 'k6/x/statequake';\nconst client = statequake.connect();\n" + fmt.Sprintf(c.script, users)
			if code, said := n.k6(t, script, "--out", "statequake="+dir); code != 0 {
				t.Fatalf("%s: k6 ended with %d:\n%s", c.name, code, said)
			}
			ops, _ := record(t, dir)
			var latency []time.Duration
			unsent := 0
			for i := range ops {
				switch op := &ops[i]; {
				case op.Phase != history.Load:
				case op.Outcome == history.OK:
					latency = append(latency, op.Latency())
				case op.Outcome == history.Unsent:
					unsent++
				}
			}
			slices.Sort(latency)
			p99 := latency[len(latency)*99/100-1]
			*c.p99 = append(*c.p99, p99)
			v := judged(t, dir)
			t.Logf("%s with %d users: p99 %v, %d ok, %d unsent, generator %s %s", c.name, users, p99.Round(time.Millisecond), len(latency), unsent,
				v.Load.Generator, strings.Join(v.Load.GeneratorReasons, " "))
			if c.name == "pacer" {
				if len(latency) != 10_000 || unsent != 0 {
					t.Errorf("pacer: %d ok, %d unsent, want 10000 and 0", len(latency), unsent)
				}
				if p99 < want*95/100 || p99 > want*105/100 {
					t.Errorf("pacer: p99 %v is not within 5 %% of %v", p99, want)
				}
			} else if unsent < 500 || !strings.Contains(strings.Join(v.Reasons, " "), "k6 had too few virtual users") {
				t.Errorf("%s: %d unsent, reasons %q: what it dropped must be told", c.name, unsent, v.Reasons)
			}
		}
	}
	for name, all := range map[string][]time.Duration{"pacer": paced, "constant-arrival-rate": plain} {
		slices.Sort(all)
		fmt.Printf("p99 after a stall of 1 s with %d users, true 900 ms: %s, n=%d: median %v [%v-%v]\n", users, name, len(all),
			all[len(all)/2].Round(time.Millisecond), all[0].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
	}
}
