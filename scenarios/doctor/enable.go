package doctor

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"statequake/fixtures/postgres"
)

// enable says how to get what a probe did not find. It looks at the settings of
// this machine for the likely cause, and names all that are possible if it sees
// none.
func enable(probe string, r result) []string {
	if r.Namespaces && probe != "namespaces" {
		return []string{"it needs private namespaces, see there"}
	}
	switch probe {
	case "namespaces":
		return enableNamespaces(r)
	case "switch":
		return []string{"sudo modprobe veth", "in a container: the kernel modules veth and af_packet are those of the host"}
	case "rto":
		return []string{"a kernel from 6.15 on has it; with an older one nodes are slower to find each other again after a partition"}
	case "fuse":
		return enableFUSE(r)
	case "clock":
		return enableClocks(r)
	case "stress":
		return []string{"the machine was too busy, or its limits are tighter than they look; try again when it is idle"}
	case "postgres":
		if r.Step == "install" {
			return []string{hint(postgres.Installed())}
		}
		return []string{"try it as an ordinary user: as root it runs as the user postgres or nobody, which a container may not have; --no-sandbox and --keep-data show its log"}
	case "directory":
		return enableDirectory(r)
	case "files":
		return []string{fmt.Sprintf("ulimit -n %d; for good in /etc/security/limits.conf", 4*fewFiles), fmt.Sprintf("docker run --ulimit nofile=%d", 4*fewFiles)}
	case "pacing":
		if r.Step == "cpus" {
			return []string{"a second CPU: nodes and load generator share one, so that latencies are those of waiting for it"}
		}
		return []string{"end what else keeps the CPUs busy; a virtual machine should not be overcommitted"}
	}
	return []string{"nothing is known of a machine without it; a container may forbid it (docker run --security-opt seccomp=unconfined)"}
}

// hint is the hint of an error.
func hint(err error) string {
	if err == nil {
		return ""
	}
	_, text, _ := strings.Cut(err.Error(), "\nhint: ")
	return text
}

func enableNamespaces(r result) []string {
	var list []string
	if setting("kernel/apparmor_restrict_unprivileged_userns") == "1" && os.Geteuid() != 0 {
		list = append(list, "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
	}
	if setting("kernel/unprivileged_userns_clone") == "0" && os.Geteuid() != 0 {
		list = append(list, "sudo sysctl kernel.unprivileged_userns_clone=1")
	}
	for _, kind := range []string{"user", "pid", "mnt", "net", "ipc"} {
		if setting("user/max_"+kind+"_namespaces") == "0" {
			list = append(list, fmt.Sprintf("sudo sysctl user.max_%s_namespaces=15000", kind))
		}
	}
	if inContainer() || list == nil {
		list = append(list, "in a container: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined")
	}
	if len(list) == 1 { // no setting forbids it
		list = append(list, "elsewhere: a kernel with user namespaces (CONFIG_USER_NS), and none of the settings "+
			"kernel.apparmor_restrict_unprivileged_userns=1, kernel.unprivileged_userns_clone=0, user.max_user_namespaces=0")
	}
	return list
}

func enableFUSE(r result) []string {
	container := "in a container: docker run --device /dev/fuse"
	switch r.Errno {
	case syscall.ENOENT, syscall.ENODEV, syscall.ENXIO:
		return []string{"sudo modprobe fuse", container}
	case syscall.EACCES:
		return []string{"sudo chmod 666 /dev/fuse", container}
	case syscall.EPERM:
		return []string{container + " --security-opt apparmor=unconfined"}
	}
	return []string{"sudo modprobe fuse", "sudo chmod 666 /dev/fuse", container}
}

func enableClocks(r result) []string {
	var list []string
	switch setting("kernel/yama/ptrace_scope") {
	case "2":
		list = append(list, "sudo sysctl kernel.yama.ptrace_scope=1")
	case "3":
		list = append(list, "boot with kernel.yama.ptrace_scope at 1 or 0: 3 stays until then")
	}
	if inContainer() || list == nil {
		list = append(list, "in a container: docker run --cap-add SYS_PTRACE")
	}
	return append(list, "it works on amd64 only")
}

func enableDirectory(r result) []string {
	switch r.Step {
	case "free":
		return []string{"make room, or go to a file system that has some; abort.disk_free sets the limit of a run"}
	case "sync":
		return []string{"a faster disk, or one that others keep less busy; --out names a run directory elsewhere"}
	}
	return []string{"go to a directory that is yours; --out names a run directory elsewhere"}
}

// setting is a kernel setting, "" if there is none of that name.
func setting(name string) string {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// inContainer tells whether this looks like a container.
func inContainer() bool {
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(file); err == nil {
			return true
		}
	}
	return os.Getenv("container") != ""
}
