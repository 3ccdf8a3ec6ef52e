//! Packets that workers give to the slow path.

use super::{NeighborId, PortId};

/// Why a packet is given to the slow path: what to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PuntReason {
    /// An ARP message (ethertype checked, content not).
    Arp,
    /// A neighbor solicitation or advertisement (ICMPv6 types 135 and 136, RFC 4861) whose hop limit
    /// is 255, to one of the port's addresses (link-local too), a VIP or a multicast group. Nothing else of
    /// it need be checked. One that has crossed a router is not to be punted: its sender could be
    /// anyone, and this kind goes before others.
    Ndp,
    /// A query of multicast listener discovery (ICMPv6 type 130, RFC 3810), to one of the port's
    /// addresses or a multicast group. Nothing of it need be checked.
    Mld,
    /// A valid ICMP or ICMPv6 echo request to a VIP or DIP, or to the port's link-local address, in
    /// a frame addressed to the port: to be answered.
    Echo,
    /// Any other valid ICMP or ICMPv6 message to a DIP or the port's link-local address.
    IcmpToDirector,
    /// A well-formed TCP or UDP packet to a DIP or the port's link-local address, to an L4 port at which
    /// somebody awaits some (`snapshot::Awaited`). Its checksum is not checked, and its sender
    /// may be anyone.
    Awaited,
    /// A finished frame for egress port `port`, but for the destination MAC address: to be sent
    /// once the neighbor is resolved.
    Resolve {
        /// The next hop.
        neighbor: NeighborId,
        /// Egress port.
        port: PortId,
    },
    /// The packet's TTL or hop limit is used up: ICMP time exceeded (RFC 792, RFC 4443 3.3) to its
    /// sender.
    TtlExceeded,
    /// Too long for the way to its real server, and it may not be fragmented. IPv4 with DF: ICMP
    /// fragmentation needed (RFC 1191) to its sender; IPv6: ICMPv6 packet too big (RFC 4443 3.2).
    FragmentationNeeded {
        /// Next-hop MTU to announce, in bytes of the inner packet.
        mtu: u16,
    },
    /// A TCP segment to a virtual service without a flow that does not open one: TCP reset to its
    /// sender (RFC 9293 section 3.10.7.1), as the stack of an LVS director does.
    TcpReset,
    /// Opens a connection, or is a datagram, and the virtual service has no real server for it: ICMP
    /// or ICMPv6 port unreachable to its sender, as LVS does.
    NoRealServer,
}

/// One packet on its way to the slow path. But for [`PuntReason::Resolve`], it is as received,
/// without priority tags.
#[derive(Debug)]
pub struct Punt<B> {
    /// Port it was received on.
    pub ingress: PortId,
    /// What to do.
    pub reason: PuntReason,
    /// The packet.
    pub buf: B,
}
