package node

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// scrape reads /metrics: the values by name and labels, and which names have a
// help text.
func scrape(t *testing.T, url string) (values map[string]string, helped map[string]bool) {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	values, helped = map[string]string{}, map[string]bool{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if help, ok := strings.CutPrefix(lines.Text(), "# HELP "); ok {
			name, text, _ := strings.Cut(help, " ")
			helped[name] = text != ""
		} else if !strings.HasPrefix(lines.Text(), "#") {
			at := strings.LastIndexByte(lines.Text(), ' ')
			values[lines.Text()[:at]] = lines.Text()[at+1:]
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return values, helped
}

// Who operates a node sees what it does and what waits in it.
func TestMetrics(t *testing.T) {
	c := newCluster(t, 1)
	url := "http://" + c.members["n1"].API
	key := c.keyOf("n1")
	for range 3 {
		c.must("n1", "", key, "add", `{"n":1}`)
	}
	want := map[string]string{
		`statequake_commands_total{status="200",type="tally"}`: "3",
		"statequake_flush_seconds_count":                       "3",
		"statequake_flush_records_sum":                         "3",
		"statequake_entities":                                  "1",
		"statequake_in_flight_commands":                        "0",
		"statequake_mailbox_commands":                          "0",
		"statequake_passivations_total":                        "0",
		`statequake_lag_records{shard="0"}`:                    "0",
		`statequake_lag_seconds{shard="7"}`:                    "0",
	}
	var values map[string]string
	var helped map[string]bool
	c.await("the metrics tell of three commands", func() (string, bool) {
		values, helped = scrape(t, url)
		for name, value := range want {
			if values[name] != value {
				return name + " is " + values[name] + ", want " + value, false
			}
		}
		return "", true
	})
	for _, name := range []string{"statequake_takeovers_total", `statequake_shard_epoch{shard="3"}`} {
		if values[name] == "" || values[name] == "0" {
			t.Errorf("%s is %q", name, values[name])
		}
	}
	for name := range values {
		if !strings.HasPrefix(name, "statequake_") {
			continue
		}
		family, _, _ := strings.Cut(name, "{")
		families := []string{family}
		for _, suffix := range []string{"_count", "_sum", "_bucket"} {
			families = append(families, strings.TrimSuffix(family, suffix))
		}
		if !slices.ContainsFunc(families, func(f string) bool { return helped[f] }) {
			t.Errorf("%s has no help text", name)
		}
	}
}
