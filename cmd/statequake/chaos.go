package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func chaosCmd() *cobra.Command {
	var (
		render bool
		mesh   meshOptions
		pods   []string
	)
	cmd := &cobra.Command{
		Use:   "chaos FILE",
		Short: "Inject the faults of a file by hand, here or on Kubernetes",
		Long: `Inject the faults of FILE into a local cluster that runs (--cluster), or into a
Kubernetes cluster that runs Chaos Mesh (--kubeconfig); or print the objects for
kubectl (--render).

FILE is a scenario, bundled or not, whose load and triggers are passed over, or a
file of one or more objects of faults. Faults are injected one after the other:
each is applied, watched until it has recovered, and removed. Ctrl-C heals at
once; a second Ctrl-C does not wait to see it.

--cluster is the directory of a cluster that "statequake cluster up" started, or
of a run in progress, whose record and verdict then tell of the fault, too; or it
is the address of a node of the reference runtime that runs by itself on this
machine.

Labels that are looked up when a fault is injected (statequake.dev/owner-of,
statequake.dev/role) are on no pod. With --render and --kubeconfig, --cluster is
the address of a node that is asked, and selectors become the names of pods; --pod
says which pod a node is, if they are not called the same.

Exit codes: 0 every fault was proven by its evidence, 2 one was not, 3 usage or
harness error.`,
		Example: `  statequake cluster up --dir /tmp/sq &
  statequake chaos pause.yaml --cluster /tmp/sq
  statequake chaos quickstart --fault kill-owner --cluster runs/today
  statequake chaos pause.yaml --cluster http://127.0.0.1:7001

  statequake chaos kill-owner --render --namespace shop > faults.yaml
  statequake chaos kill-owner --render --namespace shop --cluster 127.0.0.1:20001 --pod n1=shop-0 --pod n2=shop-1 --pod n3=shop-2
  statequake chaos faults.yaml --kubeconfig ~/.kube/config --namespace shop --fault kill-owner`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			mesh.file = args[0]
			var err error
			if mesh.pods, err = parsePods(pods); err != nil {
				return err
			}
			switch {
			case render && mesh.kubeconfig != "":
				return errors.New("--render: contradicts --kubeconfig; give one of them")
			case render:
				return renderChaos(cmd.Context(), cmd.OutOrStdout(), mesh)
			case mesh.kubeconfig != "":
				ctx, cancel := untilSignal(cmd.Context())
				defer cancel()
				return applyChaos(ctx, cmd.OutOrStdout(), mesh)
			}
			if mesh.cluster == "" {
				return errors.New("where to: is missing\nhint: --cluster names a local cluster, --kubeconfig FILE a Kubernetes cluster; --render prints objects for kubectl")
			}
			return chaosByHand(cmd.Context(), cmd.OutOrStdout(), handOptions{file: mesh.file, set: mesh.set, cluster: mesh.cluster, fault: mesh.fault})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&render, "render", false, "print the objects for kubectl")
	f.StringVar(&mesh.kubeconfig, "kubeconfig", "", "file that says how to reach the Kubernetes cluster; there is no default, so that no fault gets to the wrong one")
	f.StringVar(&mesh.context, "context", "", "context in it (default: its current one)")
	f.StringVarP(&mesh.namespace, "namespace", "n", "", "namespace of the objects and of the pods that they select")
	f.StringArrayVar(&pods, "pod", nil, "the pod of a node, NODE=POD; for all nodes, or with --cluster for those that are not called as their pod")
	f.StringVar(&mesh.cluster, "cluster", "", "directory of a local cluster or of a run in progress, or address of a node; with --render and --kubeconfig address of a node, which is asked for owners and roles")
	f.StringVar(&mesh.fault, "fault", "", "this fault only")
	f.StringArrayVar(&mesh.set, "set", nil, "override a field of the scenario, PATH=VALUE; may be given several times")
	f.StringVarP(&mesh.out, "out", "o", "", "with --kubeconfig: directory for the evidence, new or empty")
	return cmd
}

// parsePods reads arguments NODE=POD.
func parsePods(args []string) (map[string]string, error) {
	pods := map[string]string{}
	for _, arg := range args {
		node, pod, ok := strings.Cut(arg, "=")
		if !ok || node == "" || pod == "" {
			return nil, fmt.Errorf("--pod %q: is not NODE=POD\nhint: --pod n1=shop-0", arg)
		}
		if pods[node] != "" {
			return nil, fmt.Errorf("--pod %q: %s has a pod already, %s", arg, node, pods[node])
		}
		pods[node] = pod
	}
	return pods, nil
}
