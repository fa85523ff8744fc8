// Package network joins hosts, each in a network namespace of its own, by a
// packet switch in user space that can hold, lose and damage what it forwards.
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
// A partition that answers with resets: Chaos Mesh has none. tbf's peakrate:
// it matters only for bursts shorter than a millisecond.
package network
