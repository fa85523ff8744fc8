package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onOwnThread runs f in a goroutine whose OS thread ends with it, so that f may
// change the thread's namespace. It is never the main thread: that one cannot
// end, and /proc/PID shows its namespaces as the process's.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// While this goroutine holds the main thread, another one cannot.
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// namespace is a network namespace with a thread in it that lives until close.
type namespace struct {
	fd   int
	work chan func()
}

// newNamespace makes a namespace with loopback up.
func newNamespace() (*namespace, error) {
	n := &namespace{fd: -1, work: make(chan func())}
	ready := make(chan error)
	onOwnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err != nil {
			ready <- fmt.Errorf("unshare: %w", err)
			return
		}
		if n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			ready <- fmt.Errorf("open its own network namespace: %w", err)
			return
		}
		if err := up("lo", netip.Prefix{}); err != nil {
			unix.Close(n.fd)
			ready <- err
			return
		}
		healFast()
		ready <- nil
		for f := range n.work {
			f()
		}
	})
	return n, <-ready
}

// do runs f on the namespace's own thread. Calls wait for each other.
func (n *namespace) do(f func() error) error {
	done := make(chan error)
	n.work <- func() { done <- f() }
	return <-done
}

// visit runs f on a thread that is in the namespace for that time. Calls do not
// wait for each other.
func (n *namespace) visit(f func() error) error {
	done := make(chan error)
	onOwnThread(func() {
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		done <- f()
	})
	return <-done
}

func (n *namespace) close() {
	close(n.work)
	unix.Close(n.fd)
}

// healFast bounds TCP's wait between retransmissions in this thread's
// namespace, as the back-off of a long partition would outlast it by as much.
// Older kernels (before 6.15) cannot; they only heal more slowly.
func healFast() {
	os.WriteFile("/proc/sys/net/ipv4/tcp_rto_max_ms", []byte("1000"), 0)
}

// up sets the address of an interface of this thread's namespace, if there is
// one, and brings it up. An interface with an address gets no ARP and sends
// packets as they are to be on the wire.
func up(name string, addr netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	set := func(request uint) {
		if err == nil {
			err = unix.IoctlIfreq(fd, request, ifreq)
		}
	}
	set(unix.SIOCGIFFLAGS)
	flags := ifreq.Uint16() | unix.IFF_UP
	if addr.IsValid() {
		flags |= unix.IFF_NOARP
		for _, feature := range []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO, unix.ETHTOOL_STXCSUM} {
			if err == nil {
				err = ethtoolOff(fd, name, feature)
			}
		}
		set(unix.SIOCGIFINDEX)
		if err == nil {
			err = addAddress(ifreq.Uint32(), addr)
		}
	}
	ifreq.SetUint16(flags)
	set(unix.SIOCSIFFLAGS)
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// ethtoolOff switches a feature off by its SIOCETHTOOL command.
func ethtoolOff(fd int, name string, command uint32) error {
	value := struct{ command, on uint32 }{command: command}
	// struct ifreq with its union as a pointer; the union has 24 bytes.
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return fmt.Errorf("ethtool command %#x: %w", command, errno)
	}
	return nil
}

// mac is the address of every host's end of a link. The switch's ends have
// other ones, so that the kernel takes nothing that it sees there for its own.
var mac = []byte{0x02, 's', 'q', 0, 0, 1}

// newLink makes a veth pair: name in this thread's namespace, and peer in
// another one. The error is EEXIST if one of the names is taken.
func newLink(name, peer string, peerNamespace int) error {
	far := attribute(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, append([]byte(peer), 0))
	far = attribute(far, unix.IFLA_ADDRESS, mac)
	far = attribute(far, unix.IFLA_NET_NS_FD, binary.NativeEndian.AppendUint32(nil, uint32(peerNamespace)))
	const vethInfoPeer = 1 // VETH_INFO_PEER of linux/veth.h
	info := attribute(nil, unix.IFLA_INFO_KIND, []byte("veth"))
	info = attribute(info, unix.IFLA_INFO_DATA, attribute(nil, vethInfoPeer, far))
	body := attribute(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, append([]byte(name), 0))
	body = attribute(body, unix.IFLA_LINKINFO, info)
	return rtnetlink(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
}

// addAddress gives an interface of this thread's namespace an address. (The
// ioctl would route all of 10.0.0.0/8 there until the mask is set, too.)
func addAddress(index uint32, addr netip.Prefix) error {
	body := []byte{unix.AF_INET, byte(addr.Bits()), 0, unix.RT_SCOPE_UNIVERSE}
	body = binary.NativeEndian.AppendUint32(body, index)
	body = attribute(body, unix.IFA_LOCAL, addr.Addr().AsSlice())
	body = attribute(body, unix.IFA_ADDRESS, addr.Addr().AsSlice())
	return rtnetlink(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
}

// removeLink removes an interface of this thread's namespace and its peer.
func removeLink(name string) error {
	return rtnetlink(unix.RTM_DELLINK, 0,
		attribute(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, append([]byte(name), 0)))
}

func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// rtnetlink sends one request in this thread's namespace and waits for its
// acknowledgement.
func rtnetlink(kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	message = append(message, make([]byte, 8)...) // sequence number and port
	message = append(message, body...)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("rtnetlink answered %x", answer[:n])
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
