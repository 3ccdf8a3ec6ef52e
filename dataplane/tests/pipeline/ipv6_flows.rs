//! Flows over IPv6: schedulers, timers, fragments, ICMPv6 errors, several workers, persistence,
//! and listings.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane::flow::State;
use dataplane::packet::build::Build;
use dataplane::packet::icmpv6::kind;
use dataplane::packet::tcp::Flags;
use dataplane::pipeline::{FlowMatch, FlowRecord, Query, QueryKind, SCAN_BUDGET};
use dataplane::snapshot::spec::Spec;
use dataplane::stats::{DropReason, Event};
use dataplane::types::Protocol::{Tcp, Udp};
use dataplane::types::{AnyFlowKey, PuntReason, Tuple};

use crate::director::{Director, Verdict, service};
use crate::packets::*;
use crate::packets6::*;

const THREE: &str = "2001:db8:a::1 dr, 2001:db8:a::2 ipip, 10.0.0.3 gre";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The real server one packet goes to.
fn real_of(director: &mut Director, packet: &[u8]) -> IpAddr {
    match director.verdict(packet) {
        Verdict::Forwarded(real) => real.into(),
        Verdict::Forwarded6(real) => real.into(),
        other => panic!("not forwarded: {other:?}"),
    }
}

#[test]
fn a_flow_stays_with_its_real_server_whatever_its_family() {
    let mut director = Director::new(&[&format!("tcp6 80 rr: {THREE}")]);
    let burst = [syn6(1), syn6(2), ack6(1), syn6(3), ack6(3), ack6(2), syn6(4)];
    let outcome = director.receive(&burst);
    let [a, b, c] = ["2001:db8:a::1", "2001:db8:a::2", "10.0.0.3"].map(ip);
    // Each port sends its own in order; these all leave by one.
    assert_eq!(outcome.reals_of_either(), [a, b, a, c, c, b, a]);
    assert_eq!(outcome.event(Event::FlowsCreated), 4);
    assert_eq!(outcome.event(Event::Flows6), 4);
    assert_eq!(director.connections("2001:db8:a::1"), (2, 0));
    director.receive(&[tcp6(1, Flags(Flags::FIN.0 | Flags::ACK.0)).finish()]);
    assert_eq!(director.connections("2001:db8:a::1"), (1, 1));
    // Weight 0 drains; another scheduler moves nobody.
    director.services(&["tcp6 80 wlc: 2001:db8:a::1 dr w=0, 2001:db8:a::2 ipip, 10.0.0.3 gre"]);
    assert_eq!(real_of(&mut director, &ack6(4)), a);
    assert_ne!(real_of(&mut director, &syn6(5)), a);
    // Only the loss of its own real server moves a flow.
    director.services(&["tcp6 80 rr: 2001:db8:a::2 ipip, 10.0.0.3 gre"]);
    assert_eq!(real_of(&mut director, &ack6(2)), b);
    let gone = director.verdict(&ack6(4));
    assert_eq!(gone, Verdict::Punted(dataplane::types::PuntReason::TcpReset));
}

#[test]
fn flows_expire_and_a_full_table_evicts() {
    let spec = crate::director::spec(&["tcp6 80 rr: 2001:db8:a::1 dr"]);
    let mut director = Director::of(1, 20, spec);
    for n in 0..50 {
        director.receive(&[syn6(n)]);
    }
    let counts = director.counts();
    assert_eq!((counts.event(Event::Flows6), counts.event(Event::FlowsEvicted)), (20, 30));
    // Those of IPv4 have a table of their own.
    assert_eq!(counts.event(Event::Flows), 20);
    director.wait(1_000_000);
    director.wait(10_000);
    assert_eq!(director.counts().event(Event::Flows), 0);
    assert_eq!(director.counts().event(Event::FlowsExpired), 20);
}

#[test]
fn every_scheduler_serves_and_hashes_keep_a_client() {
    use dataplane::vocabulary::SchedulerKind;
    for scheduler in SchedulerKind::ALL {
        let weights = if *scheduler == SchedulerKind::Ovf { " w=1000" } else { "" };
        let reals = format!("2001:db8:a::1 dr{weights}, 2001:db8:a::2 ipip{weights}");
        let mut director = Director::new(&[&format!("tcp6 80 {scheduler}: {reals}")]);
        let taken: BTreeSet<_> = (0..40).map(|n| real_of(&mut director, &syn6(n))).collect();
        let alone = matches!(scheduler, SchedulerKind::Dh | SchedulerKind::Fo | SchedulerKind::Ovf)
            || matches!(scheduler, SchedulerKind::Lblc | SchedulerKind::Lblcr);
        assert!(taken.len() == 2 || alone, "{scheduler}");
        if scheduler.is_hash() {
            // Another director, with no flow.
            let mut other = Director::new(&[&format!("tcp6 80 {scheduler}: {reals}")]);
            for n in 0..40 {
                assert_eq!(real_of(&mut other, &ack6(n)), real_of(&mut director, &ack6(n)));
            }
        }
    }
}

#[test]
fn one_packet_scheduling_makes_no_flow_and_thresholds_hold() {
    let mut director = Director::new(&["udp6 53 rr ops: 2001:db8:a::1 dr, 2001:db8:a::2 dr"]);
    let reals: BTreeSet<_> = (0..4).map(|_| real_of(&mut director, &udp6(1))).collect();
    assert_eq!((reals.len(), director.counts().event(Event::Flows)), (2, 0));
    let mut director = Director::new(&["tcp6 80 rr: 2001:db8:a::1 dr x=2, 2001:db8:a::2 dr x=1"]);
    for n in 0..3 {
        real_of(&mut director, &syn6(n));
    }
    assert_eq!(director.verdict(&syn6(3)), Verdict::Punted(PuntReason::NoRealServer));
}

#[test]
fn all_fragments_go_where_the_flow_goes() {
    let services = ["udp6 53 rr: 2001:db8:a::1 dr, 2001:db8:a::2 ipip, 10.0.0.3 gre"];
    for order in [[0, 1, 2, 3], [3, 1, 0, 2], [1, 2, 3, 0]] {
        let mut director = Director::new(&services);
        real_of(&mut director, &udp6(7));
        let parts = udp_fragments6(1, 0xdead_beef, 250, 72);
        let sent: Vec<_> = order.map(|i| parts[i].clone()).into();
        let outcome = director.receive(&sent);
        assert_eq!(outcome.reals_of_either(), [ip("2001:db8:a::2"); 4], "{order:?}");
        assert_eq!(outcome.event(Event::FlowsCreated), 1);
        // Of another packet with the same id, and of this flow; of another client it is not.
        assert_eq!(real_of(&mut director, &udp6(1)), ip("2001:db8:a::2"));
        let other = udp_fragments6(2, 0xdead_beef, 250, 72);
        assert_eq!(director.verdict(&other[1]), Verdict::Held);
        assert_eq!(director.wait(500).drops(DropReason::FragmentUnknown), 1);
        let beside = udp_fragments6(1, 0xdead_beee, 250, 72);
        assert_eq!(director.verdict(&beside[1]), Verdict::Held);
    }
}

#[test]
fn fragments_find_the_flow_of_another_worker() {
    for (workers, home, at) in [(2, 1, 0), (3, 0, 1), (3, 2, 0)] {
        let mut director = Director::with_workers(workers, &[&format!("udp6 53 rr: {THREE}")]);
        director.receive_at(home, &[udp6(9)]);
        let real = director.receive_at(home, &[udp6(1)]).reals_of_either()[0];
        let outcome = director.receive_at(at, &udp_fragments6(1, 5, 300, 128));
        assert_eq!(outcome.reals_of_either(), [real; 3]);
        assert_eq!(outcome.event(Event::FlowsCreated), 0);
        assert!(outcome.event(Event::HandedOver) > 0);
    }
    // A flow that begins with a fragment is remembered by all.
    let mut director = Director::with_workers(3, &[&format!("udp6 53 rr: {THREE}")]);
    let real = director.receive_at(1, &udp_fragments6(1, 5, 300, 128)).reals_of_either()[0];
    for worker in 0..3 {
        assert_eq!(director.receive_at(worker, &[udp6(1)]).reals_of_either(), [real]);
    }
    assert_eq!(director.counts().event(Event::Flows6), 3);
    let connections = director.stats.iter().map(|s| s.event(Event::FlowsCreated).get());
    assert_eq!(connections.sum::<u64>(), 3);
}

/// TCP segments of client `n` as a NIC may take for a fragment, or not look into.
fn with_extensions(n: u16, flags: Flags) -> [Vec<u8>; 4] {
    let options = [0, 1, 4, 0, 0, 0, 0];
    let segment = |b: Build| b.tcp(port_of(n), 80, flags, 1).finish();
    [
        segment(from6(n).fragment6(0, false, 9)),
        segment(from6(n).ext(0, &options)),
        segment(from6(n).ext(60, &options)),
        segment(from6(n).ext(0, &options).fragment6(0, false, 9).ext(60, &options)),
    ]
}

#[test]
fn packets_with_extension_headers_find_the_flow_of_another_worker() {
    let fin = Flags(Flags::FIN.0 | Flags::ACK.0);
    for (workers, home, at) in [(2, 1, 0), (2, 0, 1), (3, 0, 1), (3, 2, 2)] {
        for kind in 0..4 {
            let mut director = Director::with_workers(workers, &[&format!("tcp6 80 rr: {THREE}")]);
            director.receive_at(home, &[syn6(9)]);
            let real = director.receive_at(home, &[syn6(1)]).reals_of_either();
            let packet = with_extensions(1, Flags::ACK)[kind].clone();
            let outcome = director.receive_at(at, &[packet]);
            assert_eq!(outcome.reals_of_either(), real, "{workers} {home} {at} {kind}");
            assert_eq!(outcome.event(Event::FlowsCreated), 0);
            assert_eq!(outcome.event(Event::HandedOver) > 0, home != at);
            // The flow goes by them as by any other packet.
            let rip = real[0].to_string();
            assert_eq!(director.connections(&rip), (1, 0));
            director.receive_at(at, &[with_extensions(1, fin)[kind].clone()]);
            assert_eq!(director.connections(&rip), (0, 1), "{workers} {home} {at} {kind}");
            // A flow that begins with one is known to all.
            let packet = with_extensions(2, Flags::SYN)[kind].clone();
            let real = director.receive_at(at, &[packet]).reals_of_either();
            for worker in 0..workers {
                let reals = director.receive_at(worker.into(), &[ack6(2)]).reals_of_either();
                assert_eq!(reals, real, "{workers} {home} {at} {kind}");
            }
        }
    }
}

#[test]
fn errors_go_to_the_flows_real_server() {
    let services = [format!("tcp6 80 rr: {THREE}"), "udp6 53 rr: 2001:db8:a::4 dr".to_owned()];
    let services: Vec<_> = services.iter().map(String::as_str).collect();
    let mut director = Director::new(&services);
    for n in 1..=3 {
        let real = real_of(&mut director, &syn6(n));
        let error = icmp_error6(n, Tcp, 80);
        let outcome = director.receive_one(&error);
        assert_eq!(outcome.reals_of_either(), [real]);
        assert_eq!(outcome.sent[0].inner, one_hop_less6(&error));
    }
    let real = real_of(&mut director, &udp6(1));
    assert_eq!(real_of(&mut director, &icmp_error6(1, Udp, 53)), real);
    assert_eq!(director.counts().event(Event::FlowsCreated), 4, "an error makes no flow");
    for (workers, home, at) in [(2, 1, 0), (4, 2, 3), (4, 0, 1)] {
        let mut director = Director::with_workers(workers, &services);
        let real = director.receive_at(home, &[syn6(1)]).reals_of_either();
        let outcome = director.receive_at(at, &[icmp_error6(1, Tcp, 80)]);
        assert_eq!(outcome.reals_of_either(), real);
    }
    // A hash still knows where it would be.
    let mut director = Director::with_workers(2, &["tcp6 80 mh: 2001:db8:a::1 dr, 10.0.0.3 gre"]);
    let picked = director.receive(&[icmp_error6(1, Tcp, 80)]).reals_of_either();
    assert_eq!(picked, [real_of(&mut director, &syn6(1))]);
}

#[test]
fn made_up_quotations() {
    let mut director = Director::new(&["tcp6 80 rr: 2001:db8:a::1 dr"]);
    director.receive(&[syn6(1)]);
    let edit = |at: usize, value: u8| {
        let mut error = icmp_error6(1, Tcp, 80);
        error[62 + at] = value;
        error
    };
    let quote = icmp_error6(1, Tcp, 80)[62..].to_vec();
    for (name, packet) in [
        ("another source", edit(23, 0x81)),
        ("another client", edit(39, 8)),
        ("udp", edit(6, 17)),
        ("icmp", edit(6, 58)),
        ("ipv4", edit(0, 0x45)),
        ("no ports", error6_quoting(&quote[..42])),
        ("nothing", error6_quoting(&[])),
    ] {
        let verdict = director.verdict(&packet);
        assert_eq!(verdict, Verdict::Dropped(DropReason::IcmpUnknownFlow), "{name}");
    }
    let whole = from6(2).icmp6(kind::PACKET_TOO_BIG, 0, 1280).payload(&quote).finish();
    assert!(matches!(director.verdict(&whole), Verdict::Forwarded6(_)));
    let parts = cut6(&whole, 3, 64);
    assert_eq!(director.verdict(&parts[0]), Verdict::Dropped(DropReason::IcmpUnknownFlow));
}

/// All flows of one kind of question, at one worker.
fn ask(d: &mut Director, worker: usize, kind: QueryKind, wanted: &FlowMatch) -> Vec<FlowRecord> {
    let mut all = Vec::new();
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        let rows = Vec::with_capacity(SCAN_BUDGET);
        let query = Query { cursor: at, budget: SCAN_BUDGET, kind, wanted: wanted.clone(), rows };
        let reply = d.query(worker, query);
        d.check();
        all.extend_from_slice(&reply.query.rows);
        cursor = reply.next;
    }
    all
}

#[test]
fn persistence_binds_client_networks() {
    let service6 = "tcp6 80 rr p=300/64: 2001:db8:a::1 dr, 2001:db8:a::2 dr";
    let mut director = Director::with_workers(2, &[service6, "tcp 80 rr p=300: 10.0.0.1 dr"]);
    let neighbor = |n: u16, port: u16| {
        let mut frame = tcp6(n, Flags::SYN).finish();
        frame[37] = port as u8;
        frame
    };
    let bound: Vec<_> = (1..=4).map(|n| real_of(&mut director, &syn6(n))).collect();
    assert_eq!(bound.iter().collect::<BTreeSet<_>>().len(), 2);
    for n in 1..=4u16 {
        for host in 10..14 {
            // Another address of the network, at another worker.
            let real = director.receive_at(1, &[neighbor(n, host)]).reals_of_either();
            assert_eq!(real, [bound[usize::from(n) - 1]]);
        }
    }
    director.receive(&[syn(1)]);
    assert_eq!((director.templates.v6.len(), director.templates.v4.len()), (4, 1));
    // Listed by the first worker, with the flows.
    let rows = ask(&mut director, 0, QueryKind::List, &FlowMatch::default());
    let templates: Vec<_> = rows.iter().filter(|row| row.template).collect();
    assert_eq!((rows.len(), templates.len()), (4 + 1 + 5, 5));
    let network = templates.iter().find(|row| row.key.client() == ip("2001:db8:ffff:3::"));
    let network = network.unwrap();
    assert_eq!((network.key.client_port(), network.key.vip()), (0, VIP6.into()));
    assert_eq!(ask(&mut director, 1, QueryKind::List, &FlowMatch::default()).len(), 16);
    // One of its addresses finds it.
    let wanted = FlowMatch { client: Some(ip("2001:db8:ffff:3::99")), ..FlowMatch::default() };
    let found = ask(&mut director, 0, QueryKind::List, &wanted);
    assert_eq!(
        found.iter().map(|row| (row.template, row.key)).collect::<Vec<_>>(),
        [(true, network.key)]
    );
    // Over when its time is, and its flows are.
    director.wait(2_000_000);
    for _ in 0..20 {
        director.wait(600_000);
    }
    assert!(director.templates.is_empty());
}

#[test]
fn listings_and_flushes_know_both_families() {
    let services = ["tcp6 80 rr: 2001:db8:a::1 dr", "tcp 80 rr: 10.0.0.1 dr"];
    let mut director = Director::of(1, 2000, crate::director::spec(&services));
    for n in 0..600 {
        director.receive(&[syn6(n), ack6(n), syn(n)]);
    }
    let all = ask(&mut director, 0, QueryKind::List, &FlowMatch::default());
    let keys: BTreeSet<_> = all.iter().map(|row| row.key).collect();
    assert_eq!((all.len(), keys.len()), (1200, 1200));
    let one = all.iter().find(|row| row.key == AnyFlowKey::V6(key6(7, Tcp, 80))).unwrap();
    assert_eq!((one.state, one.remaining_ms), (State::Established, 900_000));
    for (wanted, count) in [
        (FlowMatch { vip: Some(VIP6.into()), ..FlowMatch::default() }, 600),
        (FlowMatch { client: Some(client6(5).into()), ..FlowMatch::default() }, 1),
        (FlowMatch { client: Some(client(5).into()), ..FlowMatch::default() }, 1),
        (FlowMatch { client_port: Some(port_of(20)), ..FlowMatch::default() }, 2),
        (FlowMatch { protocol: Some(Udp), ..FlowMatch::default() }, 0),
    ] {
        let listed = ask(&mut director, 0, QueryKind::List, &wanted).len();
        assert_eq!(listed, count, "{wanted:?}");
        let flushed = ask(&mut director, 0, QueryKind::Flush, &wanted).len();
        assert_eq!(flushed, count, "{wanted:?}");
        assert_eq!(ask(&mut director, 0, QueryKind::List, &wanted).len(), 0);
        for n in 0..600 {
            director.receive(&[syn6(n), syn(n)]);
        }
    }
}

#[test]
fn a_service_that_goes_takes_its_flows_with_it() {
    let mut director = Director::new(&["tcp6 80 rr: 2001:db8:a::1 dr", "tcp 80 rr: 10.0.0.1 dr"]);
    director.receive(&[syn6(1), syn(1)]);
    director
        .configure(Spec {
            services: vec![service("tcp 80 rr: 10.0.0.1 dr").into()],
            ..director.spec.clone()
        })
        .unwrap();
    assert_eq!(director.verdict(&ack6(1)), Verdict::Dropped(DropReason::NotLocal));
    director.wait(10_000);
    let counts = director.counts();
    assert_eq!((counts.event(Event::Flows), counts.event(Event::FlowsOrphaned)), (1, 1));
}
