//! Packets that workers give to the slow path.

use super::{NeighborId, PortId};

/// Why a packet is given to the slow path: what to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PuntReason {
    /// An ARP message (ethertype checked, content not).
    Arp,
    /// A valid ICMP echo request to a VIP or DIP, in a frame addressed to the port: to be answered.
    Echo,
    /// Any other valid ICMP message to a DIP.
    IcmpToDirector,
    /// A finished frame for egress port `port`, but for the destination MAC address: to be sent
    /// once the neighbor is resolved.
    Resolve {
        /// The next hop.
        neighbor: NeighborId,
        /// Egress port.
        port: PortId,
    },
    /// The packet's TTL is used up: ICMP time exceeded (RFC 792) to its sender.
    TtlExceeded,
    /// Too long for the way to its real server, and DF is set: ICMP fragmentation needed
    /// (RFC 1191) to its sender.
    FragmentationNeeded {
        /// Next-hop MTU to announce, in bytes of the inner packet.
        mtu: u16,
    },
    /// A TCP segment to a virtual service without a flow that does not open one: TCP reset to its
    /// sender (RFC 9293 section 3.10.7.1), as the stack of an LVS director does.
    TcpReset,
}

/// One packet on its way to the slow path. But for [`PuntReason::Resolve`], it is as received.
#[derive(Debug)]
pub struct Punt<B> {
    /// Port it was received on.
    pub ingress: PortId,
    /// What to do.
    pub reason: PuntReason,
    /// The packet.
    pub buf: B,
}
