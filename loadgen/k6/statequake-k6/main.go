// Statequake-k6 is k6 with the module k6/x/statequake and the output statequake.
package main

import (
	"os"

	"go.k6.io/k6/cmd"

	_ "statequake/loadgen/k6"
)

func main() {
	// This program has what its scripts import: k6 need not look for another one
	// on the network, nor report there.
	for name, value := range map[string]string{"K6_AUTO_EXTENSION_RESOLUTION": "false", "K6_NO_USAGE_REPORT": "true"} {
		if os.Getenv(name) == "" {
			os.Setenv(name, value)
		}
	}
	cmd.Execute()
}
