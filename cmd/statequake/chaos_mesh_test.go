package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"statequake/runtime/node"
)

// Owners and roles are asked for when objects are rendered.
func TestRenderFromCluster(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := node.Cluster{Node: "n1", StoreLeader: "n2", Members: []node.MemberStatus{{Node: "n1"}, {Node: "n2"}, {Node: "n3"}}}
		if r.URL.Path == "/v1/cluster" && r.FormValue("type") == "cart" && r.FormValue("key") == "cart-1.1" {
			c.Owner = "n3"
		}
		if err := json.NewEncoder(w).Encode(c); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	for _, tt := range []struct {
		args string
		want string // part of the output, or of the error
	}{
		{"kill-owner --pod n3=shop-2", "pods:\n      shop:\n        - shop-2\n"},
		{"kill-owner", "pods:\n      shop:\n        - n3\n"},
		{"kill-owner --pod n4=shop-3", `--pod: the cluster has no node "n4"; have n1, n2, n3`},
		{"slow-disk --pod n2=shop-1", "pods:\n      shop:\n        - shop-1\n"},
		{"partition-owner --pod n1=a --pod n2=b --pod n3=c", "target:\n    mode: all\n    selector:\n      pods:\n        shop:\n          - a\n          - b\n          - c\n"},
		{"kill-owner --set faults.kill-owner.chaos.spec.selector.labelSelectors={statequake.dev/owner-of:\\ cart/cart-9.1}", "nobody owns cart/cart-9.1 at present"},
		{"kill-owner --set faults.kill-owner.chaos.spec.selector.labelSelectors={statequake.dev/role:\\ store-follower}", "- n1\n        - n3\n"},
	} {
		var out bytes.Buffer
		root := rootCmd()
		root.SetOut(&out)
		args := strings.Fields(strings.ReplaceAll(tt.args, "\\ ", "\x00"))
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\x00", " ")
		}
		root.SetArgs(append(append([]string{"chaos"}, args...), "--render", "--namespace", "shop", "--cluster", server.URL))
		err := root.Execute()
		got := out.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: no %q in\n%s", tt.args, tt.want, got)
		}
	}
}
