package ownership

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"statequake/runtime/journal"
)

// TestStories runs the files in testdata: one node of three, told what it sees.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var (
			m       *Machine
			now     time.Duration
			view    = journal.View{Owners: map[int]journal.Owner{}, Members: map[string]journal.Member{}}
			claimed time.Duration // start of the latest claim
		)
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			var out strings.Builder
			tell := func(actions []Action) {
				for _, a := range actions {
					if a.Do != Confirm || td.HasArg("confirms") {
						fmt.Fprintf(&out, "%v: %v\n", now, a)
					}
				}
			}
			str := func(name string) (v string) { td.MaybeScanArgs(t, name, &v); return v }
			num := func(name string) (v int64) { td.MaybeScanArgs(t, name, &v); return v }
			shard := int(num("shard"))
			switch td.Cmd {
			case "start": // start shards=2 [bug=lease-not-checked]: n1 of n1, n2, n3; what is in the store stays
				m = New(Config{Name: "n1", Members: []string{"n1", "n2", "n3"}, Shards: int(num("shards")), Unchecked: str("bug") == "lease-not-checked"})
			case "own": // own shard=0 node=n2 revision=5 [next=n1: released]: in the store
				view.Owners[shard] = journal.Owner{Node: str("node"), Revision: num("revision"), Released: td.HasArg("next"), Next: str("next")}
			case "look": // look for=1s beating=n1,n2 [confirms]: each 100 ms
				length, err := time.ParseDuration(str("for"))
				if err != nil {
					t.Fatal(err)
				}
				for end := now + length; now < end; now += ConfirmEvery {
					for _, name := range strings.Split(str("beating"), "+") {
						seen := view.Members[name]
						seen.Revision++
						view.Members[name] = seen
					}
					tell(m.Looked(now, now, view))
				}
			case "pass": // pass 5s: without a look
				d, err := time.ParseDuration(td.CmdArgs[0].Key)
				if err != nil {
					t.Fatal(err)
				}
				now += d
			case "unanswered": // unanswered [confirms]: a look that began 400 ms ago
				tell(m.Unanswered(now - 400*time.Millisecond))
			case "claimed": // claimed shard=0 epoch=7, 0 if lost
				claimed = now
				tell(m.Claimed(claimed, now, shard, num("epoch")))
			case "recovered":
				tell(m.Recovered(now, shard, num("epoch"), !td.HasArg("failed")))
			case "waited":
				tell(m.Waited(now, shard, num("epoch")))
			case "ended":
				tell(m.Ended(shard, num("epoch")))
			case "released":
				m.Released(shard, num("epoch"))
			case "refused":
				if m.Refused(str("node")) {
					out.WriteString("look now\n")
				}
			case "connected":
				m.Connected(str("node"))
			case "drain":
				tell(m.Drain())
			default:
				t.Fatalf("unknown step %q", td.Cmd)
			}
			if out.Len() == 0 {
				return "nothing\n"
			}
			return out.String()
		})
	})
}

// TestFewShardsMove: when a member leaves only its shards move, and when it
// joins only those that it gets.
func TestFewShardsMove(t *testing.T) {
	members := []string{"n1", "n2", "n3", "n4"}
	moved := 0
	for shard := range 1000 {
		all := Preferred(shard, members, func(string) bool { return true })
		without := Preferred(shard, members, func(name string) bool { return name != "n4" })
		if all != without {
			moved++
			if all != "n4" {
				t.Errorf("shard %d moves from %s to %s when n4 leaves", shard, all, without)
			}
		}
	}
	if moved < 200 || moved > 300 {
		t.Errorf("%d of 1000 shards move when one of four members leaves", moved)
	}
}
