//! What the slow path tells of the groups it listens to, RFC 3810.

mod slowpath_common;

use std::net::Ipv6Addr;

use dataplane::packet::build::Build;
use dataplane::packet::ipv6::{self, ALL_NODES, solicited_node};
use dataplane::snapshot::neighbors::Links;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, PortId, PuntReason};
use slowpath_common::six::*;
use slowpath_common::*;

const LISTENING: u8 = 2;
const LEAVE: u8 = 3;
const JOIN: u8 = 4;

/// The groups a port is in: those of its DIP, its link-local address and all VIPs.
fn groups(port: PortId) -> Vec<Ipv6Addr> {
    let own = if port == LAN { [DIP6, LAN_LOCAL] } else { [WAN_DIP6, WAN_LOCAL] };
    let mut all = [own[0], own[1], VIP6, FAR_VIP6].map(solicited_node).to_vec();
    all.sort();
    all.dedup();
    all
}

fn query(group: Ipv6Addr, max_response_ms: u16) -> Build {
    let dst = if group.is_unspecified() { ALL_NODES } else { group };
    Build::eth(ROUTER, ipv6::group_mac(dst))
        .ipv6(ipv6::link_local(ROUTER), dst)
        .ttl(1)
        .ext(0, &[0, 5, 2, 0, 0, 1, 0])
        .icmp6(130, 0, u32::from(max_response_ms) << 16)
        .payload(&group.octets())
        .payload(&[2, 125, 0, 0])
}

#[test]
fn groups_are_joined_before_the_first_probe_and_told_again() {
    let mut bench = Bench::empty();
    bench.configure(&links6(0));
    let first_probe = bench.sent.iter().position(|(_, f)| f[20] == 58 && f[54] == 135).unwrap();
    let joins = bench.sent[..first_probe].iter().filter(|(_, f)| f[20] == 0).count();
    assert_eq!(joins, 2);
    let none = Ipv6Addr::UNSPECIFIED;
    let all = [LAN, WAN].map(|port| (port, none, JOIN, groups(port)));
    assert_eq!(bench.reports(), all);
    bench.run(999);
    // Once more within a second, and, RFC 3590, twice with an address.
    let again = bench.reports();
    assert!(again.len() <= 2 && again.iter().all(|r| all.contains(r)), "{again:?}");
    bench.run(10_000);
    let with_address = bench.reports();
    for (port, src) in [(LAN, LAN_LOCAL), (WAN, WAN_LOCAL)] {
        let of_port = with_address.iter().filter(|r| r.0 == port && r.1 == src);
        assert_eq!(of_port.clone().count(), 2);
        assert!(of_port.clone().all(|r| *r == (port, src, JOIN, groups(port))));
    }
    assert_eq!(bench.event(Event::MldReports), 2 + again.len() as u64 + with_address.len() as u64);
    assert_eq!(bench.slow.next_deadline(), None);
}

#[test]
fn a_change_is_told_twice_and_alone() {
    let mut bench = Bench::with6(0);
    bench.run(10_000);
    bench.sent.clear();
    let new: Ipv6Addr = "2001:db8::aa:bbcc".parse().unwrap();
    bench.configure(&Links { vips: vec![VIP6.into(), new.into()], ..links6(0) });
    let changes = |bench: &mut Bench| {
        let mut all = bench.reports();
        all.sort();
        all
    };
    // The far VIP shares no group with others.
    let expected: Vec<_> = [(LAN, LAN_LOCAL), (WAN, WAN_LOCAL)]
        .into_iter()
        .flat_map(|(port, src)| {
            [
                (port, src, LEAVE, vec![solicited_node(FAR_VIP6)]),
                (port, src, JOIN, vec![solicited_node(new)]),
            ]
        })
        .collect();
    assert_eq!(changes(&mut bench), expected);
    bench.run(1_000);
    assert_eq!(changes(&mut bench), expected);
    bench.run(10_000);
    assert_eq!(bench.reports(), []);
    // And back, before the leave was told twice.
    bench.configure(&links6(0));
    bench.configure(&Links { vips: vec![VIP6.into(), new.into()], ..links6(0) });
    bench.run(10_000);
    let last = bench.reports().into_iter().rfind(|r| r.3.contains(&solicited_node(new))).unwrap();
    assert_eq!(last.2, JOIN);
}

#[test]
fn a_general_query_is_answered_within_its_time() {
    let mut bench = Bench::with6(0);
    bench.run(10_000);
    bench.sent.clear();
    for _ in 0..3 {
        bench.punt(LAN, PuntReason::Mld, &query(Ipv6Addr::UNSPECIFIED, 5_000).finish());
    }
    assert_eq!(bench.event(Event::MldQueries), 3);
    bench.run(5_000);
    assert_eq!(bench.reports(), [(LAN, LAN_LOCAL, LISTENING, groups(LAN))], "once, on that port");
    bench.run(100_000);
    assert_eq!(bench.reports(), []);
    // Without time: at once. And a version 1 query.
    let mut v1 = query(Ipv6Addr::UNSPECIFIED, 0).finish();
    v1.truncate(v1.len() - 4);
    let v1 = Build::eth(ROUTER, ipv6::group_mac(ALL_NODES))
        .ipv6(ipv6::link_local(ROUTER), ALL_NODES)
        .ttl(1)
        .icmp6(130, 0, 0)
        .payload(&[0; 16])
        .finish();
    bench.punt(WAN, PuntReason::Mld, &v1);
    bench.poll();
    assert_eq!(bench.reports(), [(WAN, WAN_LOCAL, LISTENING, groups(WAN))]);
}

#[test]
fn a_query_about_one_group_is_answered_for_that_one() {
    let mut bench = Bench::with6(0);
    bench.run(10_000);
    bench.sent.clear();
    let group = solicited_node(DIP6);
    bench.punt(LAN, PuntReason::Mld, &query(group, 1_000).finish());
    bench.run(1_000);
    assert_eq!(bench.reports(), [(LAN, LAN_LOCAL, LISTENING, vec![group])]);
    let other = solicited_node(rip6(7));
    bench.punt(LAN, PuntReason::Mld, &query(other, 1_000).finish());
    assert_eq!(bench.dropped(DropReason::MldIgnored), 1);
    bench.run(10_000);
    assert_eq!(bench.reports(), []);
}

#[test]
fn queries_that_come_faster_than_answers_leave_are_answered_together() {
    let mut bench = Bench::with6(0);
    bench.run(10_000);
    bench.sent.clear();
    let group = solicited_node(DIP6);
    for _ in 0..10_000 {
        bench.punt(LAN, PuntReason::Mld, &query(group, 0).finish());
        bench.poll();
    }
    let at_once = bench.reports().len();
    bench.sent.clear();
    bench.run(10_000);
    let later = bench.reports().len();
    assert!(at_once > 0 && at_once <= 64, "{at_once}");
    assert!(later <= 64, "{later}: they waited in a queue");
}

#[test]
fn queries_nobody_may_send() {
    let any = Ipv6Addr::UNSPECIFIED;
    let mut damaged = query(any, 1_000).finish();
    damaged[70] ^= 1;
    let from = |src: Ipv6Addr, ttl| {
        Build::eth(ROUTER, ipv6::group_mac(ALL_NODES))
            .ipv6(src, ALL_NODES)
            .ttl(ttl)
            .icmp6(130, 0, 0)
            .payload(&[0; 20])
            .finish()
    };
    let local = ipv6::link_local(ROUTER);
    for (what, frame) in [
        ("checksum", damaged),
        ("hop limit", from(local, 2)),
        ("source", from(CIP6, 1)),
        ("unspecified", from(any, 1)),
        ("cut", query(any, 1_000).finish()[..80].to_vec()),
        ("fragment", query(any, 1_000).fragment6(0, true, 1).finish()),
        ("no group", query(CIP6, 1_000).finish()),
        (
            "a report",
            Build::eth(ROUTER, LAN_MAC).ipv6(local, ALL_NODES).ttl(1).icmp6(143, 0, 0).finish(),
        ),
        (
            "udp",
            Build::eth(ROUTER, LAN_MAC).ipv6(local, ALL_NODES).udp(1, 2).payload(&[0; 30]).finish(),
        ),
        ("nothing", vec![]),
    ] {
        let mut bench = Bench::with6(0);
        bench.run(10_000);
        bench.punt(LAN, PuntReason::Mld, &frame);
        assert_eq!(
            bench.dropped(DropReason::MldInvalid),
            1,
            "{what}: {:?}",
            bench.counts().dropped
        );
        assert_eq!(bench.slow.next_deadline(), None, "{what}");
    }
    // Our own, a port that is not there, a director without IPv6.
    let mut bench = Bench::with6(0);
    let mut own = query(any, 0).finish();
    own[6..12].copy_from_slice(&WAN_MAC.0);
    bench.punt(LAN, PuntReason::Mld, &own);
    bench.punt(PortId(9), PuntReason::Mld, &query(any, 0).finish());
    assert_eq!(bench.dropped(DropReason::MldIgnored), 2);
    let mut bench = Bench::with(0);
    bench.punt(LAN, PuntReason::Mld, &query(any, 0).finish());
    assert_eq!(bench.dropped(DropReason::MldIgnored), 1);
}

#[test]
fn a_link_that_comes_up_and_a_new_station_address_are_told() {
    let mut bench = Bench::with6(0);
    bench.run(10_000);
    bench.sent.clear();
    bench.link_up(WAN);
    let none = Ipv6Addr::UNSPECIFIED;
    assert_eq!(bench.reports(), [(WAN, none, JOIN, groups(WAN))]);
    bench.run(10_000);
    assert!(bench.reports().iter().all(|r| r.0 == WAN && r.2 == JOIN));
    let mut links = links6(0);
    links.ports[0].mac = Mac([2, 0, 0, 0, 1, 9]);
    bench.sent.clear();
    bench.configure(&links);
    let joins = bench.sent.iter().filter(|(port, f)| *port == LAN && f[20] == 0 && f[70] == JOIN);
    assert_eq!(joins.count(), 1);
    // Nothing left to listen to.
    bench.configure(&Links { ports: vec![lan(), wan()], ..Links::default() });
    bench.run(10_000);
    assert_eq!(bench.slow.next_deadline(), None);
}

#[test]
fn ten_thousand_vips_are_told_in_small_batches() {
    let mut bench = Bench::empty();
    let mut many = links6(0);
    let vip = |n: u32| Ipv6Addr::from_bits(FAR_VIP6.to_bits() + u128::from(n)).into();
    many.vips = (0..10_000).map(vip).collect();
    many.ports.truncate(1);
    bench.configure(&many);
    let mut told = Vec::new();
    while let Some(due) = bench.slow.next_deadline() {
        let sent = std::mem::take(&mut bench.sent);
        assert!(sent.len() <= 3 * 64, "{}", sent.len());
        bench.sent = sent;
        told.extend(bench.reports());
        bench.sent.clear();
        bench.now = bench.now.max(due.0);
        bench.poll();
    }
    let joins = told.iter().filter(|r| r.1 == LAN_LOCAL).map(|r| r.3.len()).sum::<usize>();
    // One VIP shares the group of the link-local address.
    assert_eq!(joins, 2 * 10_001);
    assert!(told.iter().all(|r| r.3.len() <= 61));
    // And asked.
    bench.sent.clear();
    bench.punt(LAN, PuntReason::Mld, &query(Ipv6Addr::UNSPECIFIED, 0).finish());
    for _ in 0..100 {
        bench.punt(LAN, PuntReason::Mld, &query(Ipv6Addr::UNSPECIFIED, 0).finish());
        bench.poll();
    }
    bench.run(10_000);
    let answered = bench.reports().iter().map(|r| r.3.len()).sum::<usize>();
    assert_eq!(answered, 10_001, "one answer for all that ask meanwhile");
}
