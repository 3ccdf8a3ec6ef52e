//! What is told to a client whose packet no real server takes (`no_server`).

use dataplane::packet::tcp::Flags;
use dataplane::snapshot::spec::Switches;
use dataplane::stats::{DropReason, Event};
use dataplane::types::PuntReason;
use dataplane::vocabulary::NoServer;

use crate::director::{Director, Verdict, spec};
use crate::packets::*;
use crate::packets6::*;

const REJECTED: Verdict = Verdict::Punted(PuntReason::NoRealServer);
const DROPPED: Verdict = Verdict::Dropped(DropReason::NoRealServer);

/// Without any real server, with none that takes flows, and with none that has room.
fn without(scheduler: &str, why: &str) -> [String; 4] {
    [
        ("tcp 80", "10.0.0.1"),
        ("udp 53", "10.0.0.1"),
        ("tcp6 80", "2001:db8:a::1"),
        ("udp6 53", "2001:db8:a::1"),
    ]
    .map(|(service, real)| match why {
        "none" => format!("{service} {scheduler}:"),
        "drained" => format!("{service} {scheduler}: {real} dr w=0"),
        _ => format!("{service} {scheduler}: {real} dr x=1"),
    })
}

fn director(workers: u16, no_server: NoServer, services: &[String]) -> Director {
    let services: Vec<_> = services.iter().map(String::as_str).collect();
    let mut spec = spec(&services);
    spec.switches = Switches { no_server, ..Switches::default() };
    Director::of(workers, 1000, spec)
}

fn opening(n: u16) -> [Vec<u8>; 5] {
    let options = tcp(n, Flags::SYN).options(&[1; 4]).finish();
    [syn(n), udp(n), syn6(n), udp6(n), options]
}

#[test]
fn it_is_rejected_or_dropped_as_configured() {
    for (no_server, verdict) in [(NoServer::Reject, REJECTED), (NoServer::Drop, DROPPED)] {
        for scheduler in
            ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "sh", "dh", "mh"]
        {
            for why in ["none", "drained"] {
                let mut director = director(1, no_server, &without(scheduler, why));
                for packet in opening(1) {
                    let outcome = director.receive_one(&packet);
                    assert_eq!(outcome.verdict(), verdict, "{scheduler} {why} {packet:02x?}");
                    if verdict == REJECTED {
                        assert_eq!(outcome.punted[0].bytes, packet, "as received");
                    }
                    assert_eq!(outcome.event(Event::FlowsCreated), 0);
                }
                let id = director.compiler.service_id(&director.spec.services[0].key).unwrap();
                assert_eq!(director.stats[0].service(id).unwrap().no_real_server.get(), 2);
            }
        }
    }
}

#[test]
fn so_it_is_when_all_are_full() {
    for (no_server, verdict) in [(NoServer::Reject, REJECTED), (NoServer::Drop, DROPPED)] {
        for scheduler in ["rr", "wlc", "mh", "rr p=60"] {
            let mut director = director(1, no_server, &without(scheduler, "full"));
            for packet in &opening(1)[..4] {
                assert_eq!(director.receive_one(packet).event(Event::Forwarded), 1);
            }
            for packet in opening(2) {
                assert_eq!(director.verdict(&packet), verdict, "{scheduler}");
            }
            // What has a flow goes on.
            assert_eq!(
                director.receive(&[ack(1), udp(1), ack6(1), udp6(1)]).event(Event::Forwarded),
                4
            );
        }
    }
}

#[test]
fn a_connection_in_the_middle_is_reset_and_a_reset_never_answered() {
    for scheduler in ["rr", "mh", "sh"] {
        for why in ["none", "drained"] {
            let mut director = director(1, NoServer::Reject, &without(scheduler, why));
            let reset = Verdict::Punted(PuntReason::TcpReset);
            for packet in [ack(1), fin(1), syn_ack(1), ack6(1)] {
                assert_eq!(director.verdict(&packet), reset, "{scheduler} {why}");
            }
            for packet in [rst(1), tcp6(1, Flags::RST).finish()] {
                let verdict = director.verdict(&packet);
                assert!(matches!(verdict, Verdict::Dropped(_)), "{scheduler} {why} {verdict:?}");
            }
        }
    }
}

#[test]
fn fragments_and_groups() {
    for workers in [1, 2] {
        let mut director = director(workers, NoServer::Reject, &without("rr", "none"));
        let first = udp_fragments(1, 7, 100, 64);
        let outcome = director.receive(&first[..1]);
        assert_eq!(outcome.punted[0].reason, PuntReason::NoRealServer);
        assert_eq!(director.verdict(&first[1]), Verdict::Held);
        assert_eq!(director.wait(500).drops(DropReason::FragmentUnknown), 1);
        let first = udp_fragments6(1, 7, 100, 64);
        assert_eq!(director.receive(&first[..1]).punted[0].reason, PuntReason::NoRealServer);
        let mut broadcast = syn(1);
        broadcast[..6].fill(0xff);
        assert_eq!(director.verdict(&broadcast), Verdict::Dropped(DropReason::L2Group));
    }
}

#[test]
fn a_whole_burst_and_a_change_of_mind() {
    let mut director = director(1, NoServer::Reject, &without("wlc", "none"));
    let burst: Vec<_> = (0..32).map(syn).collect();
    let outcome = director.receive(&burst);
    assert_eq!(outcome.event(Event::Punted), 32);
    let mut other = director.spec.clone();
    other.switches.no_server = NoServer::Drop;
    director.configure(other).unwrap();
    assert_eq!(director.receive(&burst).drops(DropReason::NoRealServer), 32);
}
