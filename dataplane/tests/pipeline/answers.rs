//! Floods of what the slow path answers: workers ask for so many answers and no more, and a source
//! that asks for too many keeps no other from its own.

use std::net::Ipv4Addr;

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::stats::DropReason;
use dataplane::types::PuntReason;

use crate::director::Director;
use crate::packets::*;
use crate::packets6::*;

/// Places in the queue to the slow path, which takes all in it each millisecond.
const QUEUE: usize = 64;

const SERVICES: &[&str] =
    &["tcp 80 rr: 10.0.0.1 dr", "udp 53 rr:", "tcp6 80 rr: 2001:db8:a::1 dr", "udp6 53 rr:"];

fn from_network(n: u8, host: u8) -> Build {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv4(Ipv4Addr::new(198, 18, n, host), VIP)
}

/// Each host of a site is on a link of its own: it takes no more by that.
fn from_network6(n: u16, host: u16) -> Build {
    let src = [0x2001, 0xdb8, 0xee00 | n, host, 0, 0, 0, 1].into();
    Build::eth(ROUTER_MAC, WAN_MAC).ipv6(src, VIP6)
}

type Make = fn(u8, u8) -> Vec<u8>;

/// Each kind of question, over both families, with what the slow path is asked for.
const KINDS: [(PuntReason, Make, Make); 4] = [
    (
        PuntReason::Echo,
        |n, host| from_network(n, host).icmp(8, 0, 1).finish(),
        |n, host| from_network6(n.into(), host.into()).icmp6(128, 0, 1).finish(),
    ),
    (
        PuntReason::TcpReset,
        |n, host| from_network(n, host).tcp(9, 80, Flags::ACK, 1).finish(),
        |n, host| from_network6(n.into(), host.into()).tcp(9, 80, Flags::ACK, 1).finish(),
    ),
    (
        PuntReason::NoRealServer,
        |n, host| from_network(n, host).udp(9, 53).finish(),
        |n, host| from_network6(n.into(), host.into()).udp(9, 53).finish(),
    ),
    (
        PuntReason::TtlExceeded,
        |n, host| from_network(n, host).ttl(1).tcp(9, 80, Flags::SYN, 1).finish(),
        |n, host| from_network6(n.into(), host.into()).ttl(1).tcp(9, 80, Flags::SYN, 1).finish(),
    ),
];

/// A second of a flood from one network, and a packet of each of a hundred others: how many of theirs
/// the slow path was given.
fn others_answered(
    workers: u16,
    flood: impl Fn(u8) -> Vec<u8>,
    honest: impl Fn(u8) -> Vec<u8>,
) -> usize {
    let mut director = Director::with_workers(workers, SERVICES);
    let mut given = 0;
    for ms in 0..1000u32 {
        director.now = director.now.after(1);
        director.wire.punt_room = QUEUE;
        // 32,000 a second.
        let burst: Vec<_> = (0..32).map(|n| flood((ms % 7) as u8 * 32 + n)).collect();
        director.receive(&burst);
        if ms % 10 == 5 {
            let packet = honest(100 + (ms / 10) as u8);
            let outcome = director.receive_one(&packet);
            given += outcome.punted.iter().filter(|punt| punt.bytes == packet).count();
        }
    }
    given
}

#[test]
fn a_flood_of_one_kind_takes_no_other_kinds_place() {
    for workers in [1, 2] {
        for (at, (_, flood, _)) in KINDS.iter().enumerate() {
            for (_, honest, _) in KINDS.iter().cycle().skip(at + 1).take(3) {
                let answered = others_answered(workers, |host| flood(1, host), |n| honest(n, 7));
                // At first the flood may have so many at once that it fills the queue, which is one for
                // all lanes in this test.
                assert!(answered >= 98, "{answered} of 100");
            }
        }
    }
}

#[test]
fn a_flood_of_one_network_leaves_the_others_their_share() {
    for workers in [1, 2] {
        for (reason, flood, flood6) in KINDS {
            for flood in [flood, flood6] {
                let answered = others_answered(workers, |host| flood(1, host), |n| flood(n, 7));
                // One in 256 shares its group with the flood.
                assert!(answered >= 95, "{reason:?}: {answered} of 100");
            }
        }
    }
}

#[test]
fn what_is_held_back_is_counted_and_neighbors_are_not_limited() {
    let mut director = Director::new(SERVICES);
    for (reason, flood, _) in KINDS {
        let packets: Vec<_> = (0..32).map(|host| flood(1, host)).collect();
        let (mut punted, mut limited) = (0, 0);
        for _ in 0..100 {
            let outcome = director.receive(&packets);
            punted += outcome.punted.len() as u64;
            limited += outcome.drops(DropReason::RateLimited);
        }
        let expected = if reason == PuntReason::Echo { 1_016 } else { 54 };
        assert_eq!((punted, limited), (expected, 3_200 - expected), "{reason:?}");
    }
    let arp =
        Build::eth(ROUTER_MAC, WAN_MAC).ethertype(dataplane::packet::ethernet::EtherType::ARP);
    let arp = vec![arp.payload(&[0; 46]).finish(); 32];
    for _ in 0..100 {
        assert_eq!(director.receive(&arp).punted.len(), 32);
    }
}
