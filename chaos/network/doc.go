// Package network joins hosts by paths that can be disturbed, in one of two
// ways.
//
// Links carry streams: a host is a program on the loopback interface that
// reaches the others by a forward proxy of its own. They need no privileges;
// what they can do is what happens to a TCP connection: it stalls, is slow, or
// is reset.
//
// A Switch carries packets: each host is in a network namespace of its own, and
// needs to know nothing; a packet switch in user space can hold, lose and
// damage what it forwards.
//
// # Links
//
//	n1 ── proxy of n1 ──[link n1->n2, n2->n1]── n2's listener on 127.0.0.1
//
// The port of the proxy says who is calling, the address that it is asked for
// says who is called: 233.252.0.3 is the third host, on the port where it
// listens on the loopback interface. A connection through a link is two, with
// the link between them; both stay established while nothing passes. What a
// path holds back arrives in its order when the path is open again, as TCP would
// send it again, and so does the end of a connection. A new connection takes
// its first packet and the answer to it: it waits while either path is cut.
//
// Latency and jitter are those of each piece that is read, up to 32 KiB, not of
// packets; since the order is kept, a late piece delays those behind it. Reject
// resets the connections of who sends into the path, and refuses new ones.
//
// # The switch
//
//	namespace of the harness    namespace of the switch     namespace of n1
//	 statequake0 10.200.0.1 ──── client  [switch]  n1 ────── eth0 10.200.0.2
//
// Every line is a veth pair; the switch reads and writes its ends through
// packet sockets. All hosts are links of one Ethernet with the same MAC address
// on every end and without ARP, so that a frame needs no rewriting. The harness
// is a host as well, Client: its paths to the nodes pass the switch too. A
// host's traffic to its own address does not, it stays on its loopback.
//
// The calling thread's network namespace is taken for the harness's. Open needs
// CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW in the user namespace that owns
// it: root has them, and so has the root of a user namespace of its own.
//
// Packets are what a wire would carry: at most 1500 bytes with complete
// checksums, since segmentation and checksum offload are off. IPv4 alone is
// forwarded.
//
// # What an effect means
//
// Effects are per direction and per packet, as the kernel's netem and tbf
// define them. In that order a packet is duplicated, each copy is lost or not,
// damaged or not, waits for the token bucket, and is delayed.
//
// Correlation is netem's: with correlation r each random number is
// (1-r) times a new one plus r times the previous one. These numbers gather
// around 1/2, so a correlated loss of 10 % loses less than 10 % of the packets.
//
// Several effects on one path add up: any Drop wins, delays are summed, random
// choices are independent, the lowest rate prevails.
//
// # What was left out
//
// A switch that rejects: links do. UDP through links: SOCKS has it, but no
// library honours it. tbf's peakrate: it matters only for bursts shorter than a
// millisecond.
package network
