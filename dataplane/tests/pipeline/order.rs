//! Packets of a flow leave in the order in which they came, whatever else they are.

use std::collections::HashMap;

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::types::Protocol;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::director::{Director, Outcome};
use crate::packets::*;
use crate::packets6::*;
use crate::seen::Seen;

const SERVICES: &[&str] = &[
    "tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 ipip, 10.8.0.9 gre, 2001:db8:a::2 ipip",
    "udp 53 rr: 10.0.0.1 dr, 10.0.0.2 ipip, 10.8.0.9 gre, 2001:db8:a::2 ipip",
    "tcp6 80 rr: 2001:db8:a::1 dr, 2001:db8:a::2 ipip, 10.0.0.1 gre",
    "udp6 53 rr: 2001:db8:a::1 dr, 2001:db8:a::2 ipip, 10.0.0.1 gre",
];

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// With IP options, or extension headers.
    Options,
    /// All fragments of one packet.
    Fragments,
    /// An ICMP error about the flow.
    Error,
    /// As long as the link takes, so that a tunnel has to cut it.
    Long,
}

/// A flow: client, protocol, and whether it is IPv6.
type Who = (u16, Protocol, bool);

/// What tells packets apart on both sides of the director: TOS, or traffic class.
fn tag(frame: Vec<u8>, tag: u8) -> Vec<u8> {
    if frame[12..14] == [8, 0] {
        return with_ip(frame, |ip| ip[1] = tag);
    }
    with_ip6(frame, |ip| {
        ip[0] = 0x60 | tag >> 4;
        ip[1] = tag << 4 | ip[1] & 15;
    })
}

fn tag_of(seen: &Seen) -> u8 {
    match seen.inner[0] >> 4 {
        4 => seen.inner[1],
        _ => seen.inner[0] << 4 | seen.inner[1] >> 4,
    }
}

fn l4(head: Build, (n, protocol, _): Who, opens: bool) -> Build {
    match protocol {
        Protocol::Tcp => head.tcp(port_of(n), 80, if opens { Flags::SYN } else { Flags::ACK }, 1),
        Protocol::Udp => head.udp(port_of(n), 53),
    }
}

/// The packets that are of a kind, each with a tag of its own from `first` on.
fn packets(who: Who, kind: Kind, opens: bool, first: u8) -> Vec<Vec<u8>> {
    let (n, protocol, six) = who;
    let head = || if six { from6(n) } else { from(n) };
    let whole = |len: usize| l4(head(), who, opens).payload(&vec![7; len]).finish();
    let port = if protocol == Protocol::Tcp { 80 } else { 53 };
    let all = match (kind, six) {
        (Kind::Plain, _) => vec![whole(10)],
        (Kind::Options, false) => {
            let head = head().tos(first).options(&[1, 1, 1, 0]);
            return vec![l4(head, who, opens).finish()];
        }
        (Kind::Options, true) => {
            vec![l4(head().ext(60, &[0, 1, 4, 0, 0, 0, 0]), who, opens).finish()]
        }
        (Kind::Fragments, false) => cut(&whole(140), first.into(), 64),
        (Kind::Fragments, true) => cut6(&whole(140), first.into(), 64),
        (Kind::Error, false) => vec![icmp_error(n, protocol, port)],
        (Kind::Error, true) => vec![icmp_error6(n, protocol, port)],
        (Kind::Long, false) => vec![whole(1450)],
        // Nobody cuts IPv6 on its way.
        (Kind::Long, true) => vec![whole(1300)],
    };
    all.into_iter().zip(first..).map(|(packet, n)| tag(packet, n)).collect()
}

/// Packets of a burst, and the flow of each.
fn burst(plan: &[(Who, Kind)], opened: &mut Vec<Who>) -> (Vec<Vec<u8>>, Vec<Who>) {
    let (mut all, mut flows) = (vec![], vec![]);
    for &(who, kind) in plan {
        let opens = !opened.contains(&who);
        // An error about nothing would be dropped.
        let kind = if opens && kind == Kind::Error { Kind::Plain } else { kind };
        let some = packets(who, kind, opens, all.len() as u8);
        if all.len() + some.len() > 32 {
            break;
        }
        opened.push(who);
        flows.resize(flows.len() + some.len(), who);
        all.extend(some);
    }
    (all, flows)
}

/// The tags of what was sent, by flow, in order.
fn sent(outcome: &Outcome, flows: &[Who]) -> HashMap<Who, Vec<u8>> {
    let mut by_flow: HashMap<Who, Vec<u8>> = HashMap::new();
    for seen in &outcome.sent {
        // Of one that was cut by the director the first piece, which has the header.
        if seen.outer.as_ref().is_none_or(|outer| outer.fragment.0 == 0) {
            let tag = tag_of(seen);
            let tags = by_flow.entry(flows[usize::from(tag)]).or_default();
            if tags.last() != Some(&tag) {
                tags.push(tag);
            }
        }
    }
    by_flow
}

fn in_order(director: &mut Director, worker: usize, packets: &[Vec<u8>], flows: &[Who]) {
    let outcome = director.receive_at(worker, packets);
    let mut came: HashMap<Who, Vec<u8>> = HashMap::new();
    for (who, tag) in flows.iter().zip(0..) {
        came.entry(*who).or_default().push(tag);
    }
    assert_eq!(sent(&outcome, flows), came);
}

/// The order in which it was found out: 1, 2 with options, 3, 4 in two fragments, 5.
#[test]
fn fragments_and_options_keep_their_place() {
    for six in [false, true] {
        for odd in [Kind::Options, Kind::Fragments, Kind::Error, Kind::Long] {
            let mut director = Director::new(SERVICES);
            let who = (1, Protocol::Tcp, six);
            let kinds = [Kind::Plain, Kind::Options, Kind::Plain, odd, Kind::Plain, odd];
            let (packets, flows) = burst(&kinds.map(|kind| (who, kind)), &mut vec![]);
            in_order(&mut director, 0, &packets, &flows);
        }
    }
}

/// The SYN in front of it, in the same burst, made the flow.
#[test]
fn a_fragment_finds_the_flow_of_a_packet_before_it() {
    for workers in [1, 3] {
        for six in [false, true] {
            let mut director = Director::with_workers(workers, SERVICES);
            let who = (1, Protocol::Tcp, six);
            let kinds = [Kind::Plain, Kind::Fragments, Kind::Options, Kind::Error];
            let (packets, flows) = burst(&kinds.map(|kind| (who, kind)), &mut vec![]);
            in_order(&mut director, 0, &packets, &flows);
            assert_eq!(director.counts().event(dataplane::stats::Event::HandedOver), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn packets_of_a_flow_leave_in_the_order_they_came(
        bursts in vec(vec((
            (0..3u16, select(vec![Protocol::Tcp, Protocol::Udp]), any::<bool>()),
            select(vec![
                Kind::Plain, Kind::Plain, Kind::Options, Kind::Fragments, Kind::Error, Kind::Long,
            ]),
        ), 1..24), 1..4),
    ) {
        let mut director = Director::new(SERVICES);
        let mut opened = vec![];
        for plan in bursts {
            let (packets, flows) = burst(&plan, &mut opened);
            in_order(&mut director, 0, &packets, &flows);
        }
    }

    /// With several workers it holds for flows that are where their packets come in.
    #[test]
    fn packets_of_a_flow_at_home_leave_in_the_order_they_came(
        workers in 2..4u16,
        plan in vec((
            (0..3u16, select(vec![Protocol::Tcp, Protocol::Udp]), any::<bool>()),
            select(vec![Kind::Plain, Kind::Options, Kind::Fragments, Kind::Error, Kind::Long]),
        ), 1..24),
    ) {
        let mut director = Director::with_workers(workers, SERVICES);
        let mut opened = vec![];
        for (who, _) in &plan {
            let (packets, flows) = burst(&[(*who, Kind::Plain)], &mut opened);
            in_order(&mut director, 0, &packets, &flows);
        }
        let (packets, flows) = burst(&plan, &mut opened);
        in_order(&mut director, 0, &packets, &flows);
    }
}
