package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// upWithin is when a member is taken not to come back; a healthy one takes less
// than a second.
var upWithin = map[string]time.Duration{"safe": time.Minute, "unsafe": 8 * time.Second}

// runEtcd runs a single member in a directory. It prints the keys that it
// has, "ready", and then the number of every put once it is acknowledged; at most so many puts.
func runEtcd(args []string) {
	dir, unsafe := args[0], args[1] == "unsafe"
	clients, _ := strconv.Atoi(args[2])
	from, _ := strconv.Atoi(args[3])
	puts, _ := strconv.Atoi(args[4])
	c := embed.NewConfig()
	c.Dir = dir
	peer := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenPeerUrls, c.AdvertisePeerUrls = peer, peer
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, nil
	c.UnsafeNoFsync = unsafe
	c.TickMs, c.ElectionMs = 10, 100
	c.SnapshotCount = 2000
	c.LogLevel, c.LogOutputs = "panic", []string{"stderr"}
	e, err := embed.StartEtcd(c)
	must(err)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		must(fmt.Errorf("member ended: %w", err))
	case <-time.After(upWithin[args[1]]):
		must(fmt.Errorf("no leader after %v", upWithin[args[1]]))
	}
	client := v3client.New(e.Server)
	got, err := client.Get(context.Background(), "", clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(0))
	must(err)
	for _, kv := range got.Kvs {
		fmt.Println("has", string(kv.Key))
	}
	fmt.Println("ready")
	var wait sync.WaitGroup
	var mu sync.Mutex
	next := from
	begin := time.Now()
	value := strings.Repeat("v", 200)
	for range clients {
		wait.Go(func() {
			for {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if n >= from+puts {
					return
				}
				_, err := client.Put(context.Background(), fmt.Sprint(n), value)
				must(err)
				os.Stdout.WriteString("ack " + strconv.Itoa(n) + "\n")
			}
		})
	}
	wait.Wait()
	fmt.Printf("rate %.0f\n", float64(puts)/time.Since(begin).Seconds())
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// crashEtcd runs a member until the power goes at the nth write to its log,
// torn. It adds the keys acknowledged to acked and returns those
// of before that the member did not have; it fails if the member does not come up.
func crashEtcd(t *testing.T, f *fixture, unsafe string, seed uint64, acked map[string]bool) (lost int, up bool) {
	random := rand.New(rand.NewPCG(seed, 0))
	frozen := make(chan struct{})
	c := start(t, "etcd", f.path("etcd"), unsafe, "16", fmt.Sprint(seed*1_000_000), "1000000")
	lines, up := c.await(t, "ready")
	if !up {
		t.Logf("seed %d: %q", seed, lines)
		c.rest(t)
		return 0, false
	}
	has := map[string]bool{}
	for _, line := range lines {
		if key, ok := strings.CutPrefix(line, "has "); ok {
			has[key] = true
		}
	}
	for key := range acked {
		if !has[key] {
			lost++
		}
	}
	if _, err := f.On(Trigger{Method: "write", Path: "etcd/member/wal/*.wal", Nth: 60 + random.IntN(200), After: random.IntN(2) == 0,
		Func: func() {
			Freeze(f.Disk)
			close(frozen)
		}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-frozen:
	case <-time.After(2 * time.Minute):
		t.Fatal("no write to the log for 2 minutes")
	}
	for _, line := range c.rest(t) {
		if key, ok := strings.CutPrefix(line, "ack "); ok {
			acked[key] = true
		}
	}
	f.crash(t, []float64{0, 0.5}[random.IntN(2)], seed)
	return lost, true
}

func TestEtcd(t *testing.T) {
	options := Options{PowerLoss: true}
	f := newFixture(t, options)
	acked := map[string]bool{}
	for seed := range uint64(11) { // the last one only to look
		lost, up := crashEtcd(t, f, "safe", seed, acked)
		if lost > 0 || !up {
			t.Fatalf("seed %d: lost %d of %d acknowledged puts, up: %v", seed, lost, len(acked), up)
		}
		f.mount(t, options)
	}
	if len(acked) < 1000 {
		t.Errorf("only %d puts were acknowledged", len(acked))
	}
	t.Logf("%d acknowledged puts, none lost in 10 crashes", len(acked))
}

func TestEtcdUnsafe(t *testing.T) {
	options := Options{PowerLoss: true}
	f := newFixture(t, options)
	acked := map[string]bool{}
	for seed := range uint64(2) {
		lost, up := crashEtcd(t, f, "unsafe", seed, acked)
		if seed == 1 && up && lost == 0 {
			t.Errorf("without fsync none of %d acknowledged puts was lost", len(acked))
		}
		if seed == 1 {
			t.Logf("of %d acknowledged puts %d were lost; up: %v", len(acked), lost, up)
		}
		if up {
			f.mount(t, options)
		}
	}
}

// BenchmarkEtcd reports puts/s on the mount and directly.
func BenchmarkEtcd(b *testing.B) {
	for _, clients := range []int{1, 32} {
		for _, where := range []string{"direct", "mount", "powerloss"} {
			b.Run(fmt.Sprintf("%s/clients=%d", where, clients), func(b *testing.B) {
				var sum float64
				for range b.N {
					f := newFixture(b, Options{PowerLoss: where == "powerloss"})
					dir := f.path("etcd")
					if where == "direct" {
						dir = f.back + "/etcd"
					}
					c := start(b, "etcd", dir, "safe", fmt.Sprint(clients), "0", fmt.Sprint(2000*min(clients, 4)))
					lines, ok := c.await(b, "rate ")
					if !ok {
						b.Fatal(lines)
					}
					rate, err := strconv.ParseFloat(strings.TrimPrefix(lines[len(lines)-1], "rate "), 64)
					if err != nil {
						b.Fatal(err)
					}
					sum += rate
					c.rest(b)
				}
				b.ReportMetric(sum/float64(b.N), "puts/s")
			})
		}
	}
}
