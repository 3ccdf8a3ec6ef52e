//! Too long, too full, too little room.

use dataplane::packet::tcp::Flags;
use dataplane::snapshot::neighbors::NextHop;
use dataplane::snapshot::spec::Spec;
use dataplane::stats::{DropReason, Event};
use dataplane::types::PuntReason;

use crate::director::{Director, Verdict, spec};
use crate::packets::*;

/// A segment whose IP packet is `len` bytes long.
fn segment(n: u16, len: usize, df: bool) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 40).map(|i| i as u8).collect();
    tcp(n, Flags::SYN).df(df).id(9).payload(&payload).finish()
}

const METHODS: [(&str, usize); 5] =
    [("dr", 0), ("ipip", 20), ("gre", 24), ("gre key=1", 28), ("gre key=1 sum", 32)];

#[test]
fn what_just_fits_is_sent_whole() {
    for (method, overhead) in METHODS {
        for df in [false, true] {
            let mut director = Director::new(&[&format!("tcp 80 rr: 10.0.0.1 {method}")]);
            let outcome = director.receive(&[segment(1, MTU - overhead, df)]);
            assert_eq!(outcome.sent.len(), 1, "{method}");
            assert_eq!(outcome.sent[0].ip_len(), MTU, "{method}");
        }
    }
}

#[test]
fn what_is_too_long_with_df_is_told_the_mtu() {
    for (method, overhead) in METHODS {
        let mut director = Director::new(&[&format!("tcp 80 rr: 10.0.0.1 {method}")]);
        let packet = segment(1, MTU - overhead + 1, true);
        let outcome = director.receive_one(&packet);
        let mtu = (MTU - overhead) as u16;
        assert_eq!(outcome.verdict(), Verdict::Punted(PuntReason::FragmentationNeeded { mtu }));
        assert_eq!(outcome.punted[0].bytes, packet, "as received");
        // TTL comes first.
        let dying = with_ip(packet, |ip| ip[8] = 1);
        assert_eq!(director.verdict(&dying), Verdict::Punted(PuntReason::TtlExceeded));
    }
}

#[test]
fn what_is_too_long_without_df_is_fragmented_outside() {
    for (method, overhead) in METHODS {
        let mut director = Director::new(&[&format!("tcp 80 rr: 10.0.0.1 {method}")]);
        let packet = segment(1, MTU - overhead + 1, false);
        let outcome = director.receive_one(&packet);
        assert!(matches!(outcome.verdict(), Verdict::Forwarded(_)));
        assert_eq!(outcome.event(Event::FragmentsSent), 2, "{method}");
        assert!(outcome.sent.iter().all(|s| s.ip_len() <= MTU));
        let [first, second] = &outcome.sent[..] else { panic!() };
        // Put together again, it is the packet with one hop less.
        let whole = match (&first.outer, &second.outer) {
            (None, None) => {
                assert_eq!(first.ip().identification(), 9);
                assert_eq!(second.ip().identification(), 9);
                assert!(first.ip().more_fragments() && !second.ip().more_fragments());
                [&first.inner[20..], &second.inner[20..]].concat()
            }
            (Some(a), Some(b)) => {
                assert_eq!((a.id, a.src, a.dst), (b.id, b.src, b.dst));
                assert_eq!(a.fragment, (0, true));
                let gre = first.ip_len() - 20 - first.inner.len();
                assert_eq!(b.fragment, (first.inner.len() + gre, false));
                let inner = [&first.inner[..], &second.inner[..]].concat();
                assert_eq!(inner[..20], with_ip(packet.clone(), |ip| ip[8] -= 1)[14..34]);
                inner[20..].to_vec()
            }
            _ => panic!("one in a tunnel, one not"),
        };
        assert_eq!(whole, packet[34..], "{method}");
        let real = director.stats[0].real(director.real_id("10.0.0.1")).unwrap();
        assert_eq!((real.packets.get(), real.bytes.get()), (1, (MTU - overhead + 1) as u64));
    }
}

#[test]
fn a_learned_path_mtu_is_gone_by_until_it_is_forgotten() {
    for (method, overhead) in [("ipip", 20), ("gre", 24)] {
        let service = format!("tcp 80 rr: 10.0.0.1 {method}");
        let mut director = Director::new(&[&service]);
        let fits = |path: usize| segment(1, path - overhead, true);
        assert!(matches!(director.verdict(&fits(1500)), Verdict::Forwarded(_)));
        director.learn(&[("10.0.0.1", 1400)]);
        assert!(matches!(director.verdict(&fits(1400)), Verdict::Forwarded(_)));
        let told = PuntReason::FragmentationNeeded { mtu: 1400 - overhead as u16 };
        assert_eq!(director.verdict(&fits(1401)), Verdict::Punted(told));
        let cut = director.receive_one(&segment(1, 1500 - overhead, false));
        assert_eq!(cut.event(Event::FragmentsSent), 2);
        assert!(cut.sent.iter().all(|s| s.ip_len() <= 1400));
        assert_eq!(director.counts().event(Event::FlowsCreated), 1, "the flow stays");
        director.learn(&[]);
        assert!(matches!(director.verdict(&fits(1500)), Verdict::Forwarded(_)));
    }
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr"]);
    director.learn(&[("10.0.0.1", 1400)]);
    let verdict = director.verdict(&segment(1, 1500, true));
    assert!(matches!(verdict, Verdict::Forwarded(_)), "on-link, no router can say so");
}

fn with_mtu(mtu: u16, services: &[&str]) -> Director {
    let mut spec = spec(services);
    spec.ports[1].mtu = mtu;
    Director::of(1, 100, spec)
}

#[test]
fn a_giant_goes_in_more_than_one_burst_of_fragments() {
    let mut director = with_mtu(1500, &["tcp 80 rr: 10.0.0.1 ipip"]);
    let outcome = director.receive(&[syn(2), segment(1, 60_000, false), syn(3)]);
    let count = (60_000usize).div_ceil(1480);
    assert_eq!(outcome.event(Event::FragmentsSent), count as u64);
    assert_eq!(outcome.event(Event::Forwarded), 3);
    assert_eq!(outcome.sent.len(), 2 + count);
    let ports: Vec<_> = [0, count + 1].map(|i| outcome.sent[i].ip().total_len()).to_vec();
    assert_eq!(ports, [40, 40], "order is kept around the fragments");
}

#[test]
fn what_cannot_be_fragmented_is_dropped_by_name() {
    use DropReason::*;
    for (mtu, len, buffers, reason) in [
        (1500u16, 2000, 0, NoBuffer),
        (1500, 2000, 1, NoBuffer),
        (9000, 9100, 9, NoBuffer),
        (1000, 65_000, usize::MAX, TooManyFragments),
        (1500, 65_530, usize::MAX, TooLong),
    ] {
        let mut director = with_mtu(mtu, &["tcp 80 rr: 10.0.0.1 ipip"]);
        director.pool.left.set(buffers);
        let outcome = director.receive(&[segment(1, len, false)]);
        assert_eq!(outcome.verdict(), Verdict::Dropped(reason), "{mtu} {len}");
        assert_eq!(outcome.event(Event::FragmentsSent), 0);
        let traffic = director.real_traffic(director.real_id("10.0.0.1"));
        assert_eq!((traffic.packets, traffic.bytes), (0, 0), "{mtu} {len}: dropped");
    }
}

#[test]
fn too_long_for_an_unresolved_next_hop() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 ipip"]);
    director.hop([10, 0, 0, 1], NextHop::Unknown);
    let verdict = director.verdict(&segment(1, 1490, false));
    assert_eq!(verdict, Verdict::Dropped(DropReason::NeighborUnresolved));
}

#[test]
fn without_headroom_a_tunnel_cannot_be_entered_and_the_rest_goes_on() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 ipip", "udp 53 rr: 10.0.0.1 dr"]);
    let outcome = director.outcome(|d| {
        let mut tight = d.census.buffer(&syn(1));
        tight.headroom = 19;
        let mut enough = d.census.buffer(&syn(2));
        enough.headroom = 20;
        let mut dr = d.census.buffer(&udp(3));
        dr.headroom = 0;
        d.burst(0, WAN, vec![tight, enough, dr]);
    });
    assert_eq!(outcome.drops(DropReason::NoHeadroom), 1);
    assert_eq!(outcome.event(Event::Forwarded), 2);
}

#[test]
fn a_port_the_worker_does_not_serve() {
    let lone = spec(&["tcp 80 rr: 10.0.0.1 dr"]);
    let mut director = Director::of(1, 100, Spec { services: vec![], ..lone.clone() });
    let mut more = lone;
    let mut third = more.ports[1].clone();
    third.addresses = vec!["10.7.0.1/24".parse().unwrap()];
    third.name = "third".into();
    more.ports.push(third);
    std::sync::Arc::make_mut(&mut more.services[0]).reals[0].address = [10, 7, 0, 2].into();
    director.configure(more).unwrap();
    for len in [40, 1600] {
        let verdict = director.verdict(&segment(1, len, false));
        assert_eq!(verdict, Verdict::Dropped(DropReason::PortDown), "{len}");
    }
}

#[test]
fn a_full_transmit_queue_takes_from_the_front() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr"]);
    director.wire.tx_room = 3;
    let burst: Vec<_> = (0..5).map(syn).collect();
    let outcome = director.receive(&burst);
    assert_eq!((outcome.event(Event::Forwarded), outcome.drops(DropReason::TxFull)), (3, 2));
    assert_eq!(outcome.sent[2].ip().source_addr(), client(2));
    let lan = director.stats[0].port(LAN).unwrap();
    assert_eq!((lan.tx_packets.get(), lan.tx_full.get()), (3, 2));
    assert_eq!(lan.tx_bytes.get(), 3 * 54);

    // Of a fragmented packet, what is not taken is counted apart.
    director.wire.tx_room = 1;
    let outcome = director.receive(&[segment(1, 1600, false)]);
    assert_eq!(outcome.event(Event::Forwarded), 1);
    assert_eq!((outcome.event(Event::FragmentsSent), outcome.event(Event::ExtraTxFull)), (1, 1));
}

#[test]
fn a_full_queue_to_the_slow_path() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr"]);
    director.wire.punt_room = 1;
    let outcome = director.receive(&[ack(1), ack(2), ack(3)]);
    assert_eq!((outcome.event(Event::Punted), outcome.drops(DropReason::PuntFull)), (1, 2));
    director.hop([10, 0, 0, 1], NextHop::Unknown);
    assert_eq!(director.verdict(&syn(1)), Verdict::Dropped(DropReason::PuntFull));
}

#[test]
fn a_full_queue_to_another_worker() {
    let mut director = Director::with_workers(2, &["udp 53 rr: 10.0.0.1 dr"]);
    director.wire.mail_room = 0;
    let parts = udp_fragments(1, 5, 100, 64);
    let outcome = director.receive(&parts);
    assert_eq!(outcome.drops(DropReason::HandoffFull), 1);
    assert_eq!(outcome.event(Event::Held), 1, "the later one waits in vain");
    assert_eq!(director.wait(500).drops(DropReason::FragmentUnknown), 1);
    let error = icmp_error(1, dataplane::types::Protocol::Udp, 53);
    assert_eq!(director.verdict(&error), Verdict::Dropped(DropReason::HandoffFull));
}

#[test]
fn frames_of_the_slow_path_are_sent_and_counted_apart() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr"]);
    director.wire.tx_room = 1;
    let outcome = director.outcome(|d| {
        for _ in 0..2 {
            let frame = d.census.buffer(&syn(1));
            d.with(0, |p, env| p.send_for_slow_path(env, WAN, frame));
        }
    });
    assert_eq!((outcome.event(Event::SlowPathSent), outcome.event(Event::ExtraTxFull)), (1, 1));
    assert_eq!(outcome.event(Event::Forwarded), 0);
}
