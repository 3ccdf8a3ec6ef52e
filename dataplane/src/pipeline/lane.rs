//! Which punts may crowd out which: those of one lane, and no others.
//!
//! Whoever floods the director with pings, or with packets that need an answer of any other kind,
//! fills one lane. A neighbor's answer, a packet that waits for its next hop, and what a router
//! tells of a path take others.

use crate::packet::buf::PacketBuf;
use crate::types::{Mac, Punt, PuntReason};

/// A way from a worker to the slow path, with a bounded queue of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// ARP and neighbor discovery to the port's own Ethernet address: answers to what the director
    /// has asked, and neighbors that check whether it is still there.
    Neighbors,
    /// ARP and neighbor discovery to a group: what any host of the segment asks for, often others.
    Segment,
    /// Packets that wait for a next hop.
    Resolve,
    /// Packets too long for their way, whose senders have to hear of it.
    TooLong,
    /// ICMP to the director, among it what routers tell of paths to real servers.
    Told,
    /// Queries of multicast listener discovery.
    Groups,
    /// What somebody awaits at an L4 port of the director's own.
    Awaited,
    /// Pings.
    Echo,
    /// Packets whose TTL or hop limit is used up.
    Expired,
    /// Segments without a flow, to be reset.
    Strays,
    /// What no real server takes, to be told so.
    Unserved,
}

impl Lane {
    /// All, in the order the slow path looks at them.
    pub const ALL: [Lane; 11] = [
        Lane::Neighbors,
        Lane::Segment,
        Lane::Resolve,
        Lane::TooLong,
        Lane::Told,
        Lane::Groups,
        Lane::Awaited,
        Lane::Echo,
        Lane::Expired,
        Lane::Strays,
        Lane::Unserved,
    ];

    /// The lane of a punt.
    pub fn of<B: PacketBuf>(punt: &Punt<B>) -> Lane {
        match punt.reason {
            PuntReason::Arp | PuntReason::Ndp => {
                let to = punt.buf.data().first_chunk::<6>();
                if to.is_some_and(|to| Mac(*to).is_group()) {
                    Lane::Segment
                } else {
                    Lane::Neighbors
                }
            }
            PuntReason::Resolve { .. } => Lane::Resolve,
            PuntReason::FragmentationNeeded { .. } => Lane::TooLong,
            PuntReason::IcmpToDirector => Lane::Told,
            PuntReason::Mld => Lane::Groups,
            PuntReason::Awaited => Lane::Awaited,
            PuntReason::Echo => Lane::Echo,
            PuntReason::TtlExceeded => Lane::Expired,
            PuntReason::TcpReset => Lane::Strays,
            PuntReason::NoRealServer => Lane::Unserved,
        }
    }

    /// Whether these are ARP or neighbor discovery, without which nothing is forwarded.
    pub fn is_vital(self) -> bool {
        matches!(self, Lane::Neighbors | Lane::Segment)
    }

    /// Its place in [`Lane::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buf::TestBuf;
    use crate::types::{NeighborId, PortId};

    #[test]
    fn a_lane_s_index_is_its_place() {
        for (place, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane.index(), place);
        }
    }

    #[test]
    fn what_all_are_asked_does_not_crowd_out_what_the_director_alone_is_told() {
        let lane = |reason, to: Mac| {
            let buf = TestBuf::new(&[&to.0[..], &[0; 54]].concat());
            Lane::of(&Punt { ingress: PortId(0), reason, buf })
        };
        let own = Mac([2, 0, 0, 0, 0, 1]);
        assert_eq!(lane(PuntReason::Arp, own), Lane::Neighbors);
        assert_eq!(lane(PuntReason::Arp, Mac::BROADCAST), Lane::Segment);
        assert_eq!(lane(PuntReason::Ndp, own), Lane::Neighbors);
        let group = Mac([0x33, 0x33, 0xff, 0, 0, 1]);
        assert_eq!(lane(PuntReason::Ndp, group), Lane::Segment);
        // Whatever a stranger can cause as much of as he likes has a lane of its own.
        let resolve = PuntReason::Resolve { neighbor: NeighborId(0), port: PortId(0) };
        let others = [
            resolve,
            PuntReason::FragmentationNeeded { mtu: 1280 },
            PuntReason::IcmpToDirector,
            PuntReason::Mld,
            PuntReason::Awaited,
            PuntReason::Echo,
            PuntReason::TtlExceeded,
            PuntReason::TcpReset,
            PuntReason::NoRealServer,
        ];
        let mut lanes: Vec<_> = others.iter().map(|reason| lane(*reason, own).index()).collect();
        assert!(others.iter().all(|reason| !lane(*reason, own).is_vital()));
        lanes.sort_unstable();
        lanes.dedup();
        assert_eq!(lanes.len(), others.len());
    }
}
