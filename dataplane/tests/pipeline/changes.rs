//! The configuration changes under live flows.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dataplane::stats::{DropReason, Event};
use dataplane::types::PuntReason;

use crate::director::{Director, Verdict};
use crate::packets::*;

const SCHEDULERS: [&str; 6] = ["rr", "wrr", "lc", "wlc", "sh", "mh"];

fn established(director: &mut Director, flows: u16) -> Vec<Ipv4Addr> {
    (0..flows)
        .map(|n| {
            let real = director.real_of(&syn(n));
            director.receive(&[ack(n)]);
            real
        })
        .collect()
}

#[test]
fn the_same_again_changes_nothing() {
    for scheduler in SCHEDULERS {
        let services = [format!("tcp 80 {scheduler}: 10.0.0.1 dr, 10.0.0.2 ipip, 10.0.0.3 gre")];
        let services = [services[0].as_str()];
        let mut director = Director::new(&services);
        let mut undisturbed = Director::new(&services);
        let reals = established(&mut director, 30);
        established(&mut undisturbed, 30);
        let before = director.counts();
        for _ in 0..3 {
            director.services(&services);
        }
        assert_eq!(director.counts(), before);
        for (n, real) in (0..).zip(&reals) {
            assert_eq!(director.real_of(&ack(n)), *real, "{scheduler}");
        }
        for n in 100..130 {
            assert_eq!(director.real_of(&syn(n)), undisturbed.real_of(&syn(n)), "{scheduler}");
        }
    }
}

#[test]
fn weights_schedulers_and_new_real_servers_move_no_flow() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr"]);
    let reals = established(&mut director, 30);
    for change in [
        "tcp 80 wlc: 10.0.0.1 dr w=9, 10.0.0.2 dr w=0, 10.0.0.3 dr",
        "tcp 80 mh: 10.0.0.4 dr, 10.0.0.3 dr, 10.0.0.2 dr, 10.0.0.1 dr",
        "tcp 80 sh: 10.0.0.1 dr w=0, 10.0.0.2 dr w=0, 10.0.0.3 dr w=0",
        "tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr",
    ] {
        director.services(&["tcp 79 rr: 10.0.0.9 dr", change]);
        director.wait(20_000);
        for (n, real) in (0..).zip(&reals) {
            assert_eq!(director.real_of(&ack(n)), *real, "{change}");
        }
    }
    assert_eq!(director.counts().event(Event::FlowsCreated), 30);
}

#[test]
fn another_method_or_way_keeps_the_flow_on_its_real_server() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr"]);
    let reals = established(&mut director, 4);
    for method in ["ipip", "gre", "gre key=5", "dr"] {
        director.services(&[&format!("tcp 80 rr: 10.0.0.1 {method}, 10.0.0.2 {method}")]);
        for (n, real) in (0..).zip(&reals) {
            let outcome = director.receive(&[ack(n)]);
            assert_eq!(outcome.reals(), [*real]);
            assert_eq!(outcome.sent[0].outer.is_some(), method != "dr");
        }
    }
    // Behind a gateway instead of on-link: another port, another next hop.
    let mut spec = director.spec.clone();
    spec.ports[1].addresses = vec!["10.9.0.1/24".parse().unwrap()];
    Arc::make_mut(&mut spec.services[0])
        .reals
        .iter_mut()
        .for_each(|r| r.method = dataplane::vocabulary::ForwardMethod::Ipip);
    director.configure(spec).unwrap();
    let outcome = director.receive(&[ack(0)]);
    assert_eq!(outcome.reals(), [reals[0]]);
    assert_eq!((outcome.sent[0].port, outcome.sent[0].dst_mac), (WAN, mac_of(GATEWAY)));
    assert_eq!(director.counts().event(Event::FlowsCreated), 4);
}

#[test]
fn weight_zero_drains() {
    for scheduler in SCHEDULERS {
        let services = |w| format!("tcp 80 {scheduler}: 10.0.0.1 dr w={w}, 10.0.0.2 dr");
        let mut director = Director::new(&[&services(1)]);
        let reals = established(&mut director, 40);
        assert!(reals.iter().any(|r| r.octets()[3] == 1), "{scheduler}");
        director.services(&[&services(0)]);
        for (n, real) in (0..).zip(&reals) {
            assert_eq!(director.real_of(&ack(n)), *real, "{scheduler}: old flows go on");
        }
        for n in 100..140 {
            assert_eq!(director.real_of(&syn(n)).octets()[3], 2, "{scheduler}: no new ones");
        }
        // A client that comes back after its connection is over goes to another.
        let n = (0..).zip(&reals).find(|(_, r)| r.octets()[3] == 1).unwrap().0;
        director.receive(&[fin(n)]);
        assert_eq!(director.real_of(&syn(n)).octets()[3], 2);
    }
}

#[test]
fn only_the_flows_of_a_lost_real_server_move() {
    for scheduler in SCHEDULERS {
        let is_hash = matches!(scheduler, "sh" | "mh");
        let three = format!("tcp 80 {scheduler}: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr");
        let two = format!("tcp 80 {scheduler}: 10.0.0.1 dr, 10.0.0.3 dr");
        for readded in [false, true] {
            let mut director = Director::new(&[&three]);
            let reals = established(&mut director, 60);
            director.services(&[&two]);
            if readded {
                // A slot of its own: it is a new real server.
                director.services(&[&three]);
            }
            let mut lost = 0;
            for (n, real) in (0..).zip(&reals) {
                if real.octets()[3] != 2 {
                    assert_eq!(director.real_of(&ack(n)), *real, "{scheduler}");
                    continue;
                }
                lost += 1;
                let outcome = director.receive(&[ack(n)]);
                assert_eq!(outcome.event(Event::FlowsOrphaned), 1);
                assert_eq!(outcome.event(Event::MissNotSyn), 1);
                match outcome.verdict() {
                    Verdict::Forwarded(other) if is_hash => {
                        assert!(readded || other != *real);
                        assert_eq!(director.real_of(&ack(n)), other, "a flow again");
                    }
                    verdict => {
                        assert!(!is_hash, "{scheduler}");
                        assert_eq!(verdict, Verdict::Punted(PuntReason::TcpReset));
                        assert!(matches!(director.verdict(&syn(n)), Verdict::Forwarded(_)));
                    }
                }
            }
            assert!(lost > 0, "{scheduler}");
        }
    }
}

#[test]
fn orphans_are_swept() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr"]);
    established(&mut director, 50);
    director.services(&["tcp 80 rr: 10.0.0.2 dr"]);
    let outcome = director.wait(10_000);
    assert_eq!(outcome.event(Event::FlowsOrphaned), 25);
    assert_eq!(director.workers[0].shard().len(), 25);
    assert_eq!(director.connections("10.0.0.2"), (25, 0));
    director.services(&[]);
    director.wait(10_000);
    assert!(director.workers[0].shard().is_empty());
}

#[test]
fn a_slot_is_not_given_away_while_a_flow_names_it() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr"]);
    established(&mut director, 1);
    let slot = director.real_id("10.0.0.1");
    for n in 11..20 {
        director.services(&[&format!("tcp 80 rr: 10.0.0.{n} dr")]);
        assert_ne!(director.real_id(&format!("10.0.0.{n}")), slot);
    }
    director.wait(10_000);
    let many: Vec<_> = (20..40).map(|n| format!("10.0.0.{n} dr")).collect();
    for _ in 0..2 {
        director.services(&[&format!("tcp 80 rr: {}", many.join(", "))]);
    }
    assert!((20..40).any(|n| director.real_id(&format!("10.0.0.{n}")) == slot));
    assert_eq!(director.verdict(&ack(0)), Verdict::Punted(PuntReason::TcpReset));
}

#[test]
fn a_service_that_goes_takes_its_flows_along() {
    let both = ["tcp 80 rr: 10.0.0.1 dr", "udp 53 rr: 10.0.0.1 dr"];
    let mut director = Director::new(&both);
    established(&mut director, 3);
    let real = director.real_of(&udp(1));
    director.services(&both[1..]);
    assert_eq!(director.verdict(&ack(1)), Verdict::Dropped(DropReason::NoService));
    assert_eq!(director.real_of(&udp(1)), real, "the same RIP in another service is another");
    director.services(&[]);
    assert_eq!(director.verdict(&syn(1)), Verdict::Dropped(DropReason::NotLocal));
}
