//! Real servers that may have so many connections and no more.

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::types::PuntReason;
use dataplane::vocabulary::SchedulerKind;

use crate::director::{Director, Verdict};
use crate::packets::*;

const FULL: Verdict = Verdict::Punted(PuntReason::NoRealServer);

fn total(director: &Director, real: &str) -> u64 {
    let (active, inactive) = director.connections(real);
    active + inactive
}

#[test]
fn nobody_gets_more_connections_than_it_may() {
    for scheduler in SchedulerKind::ALL {
        // The weights are such that `ovf` has room for as many.
        let service = format!("tcp 80 {scheduler}: 10.0.0.1 dr w=9 x=3, 10.0.0.2 dr w=8 x=5 y=2");
        let mut director = Director::new(&[&service]);
        for n in 0..40 {
            director.verdict(&syn(n));
            director.verdict(&ack(n));
        }
        let totals = [total(&director, "10.0.0.1"), total(&director, "10.0.0.2")];
        match scheduler {
            // Who has one real server has no other.
            SchedulerKind::Dh => assert!(totals == [3, 0] || totals == [0, 5], "{totals:?}"),
            _ => assert_eq!(totals, [3, 5], "{scheduler}"),
        }
        assert_eq!(director.verdict(&syn(99)), FULL, "{scheduler}");
    }
}

#[test]
fn it_gets_new_flows_again_below_the_lower_threshold() {
    // An ended connection counts until it has timed out.
    for (thresholds, again_at) in [("x=8", 5), ("x=8 y=3", 2), ("x=8 y=8", 7)] {
        let mut director = Director::new(&[&format!("tcp 80 rr: 10.0.0.1 dr {thresholds}")]);
        for n in 0..8 {
            director.real_of(&syn(n));
            director.receive(&[ack(n)]);
        }
        let mut left = 8;
        assert_eq!(director.verdict(&syn(20)), FULL);
        while left > again_at {
            assert_eq!(director.verdict(&syn(20)), FULL, "{thresholds} with {left} connections");
            director.receive(&[rst(left - 1)]);
            assert_eq!(director.verdict(&syn(20)), FULL, "{thresholds}: it is closing");
            director.wait(11_000);
            director.sweep(0);
            left -= 1;
            assert_eq!(total(&director, "10.0.0.1"), u64::from(left));
        }
        director.real_of(&syn(20));
    }
}

#[test]
fn a_full_real_server_keeps_its_flows() {
    let mut director = Director::new(&["tcp 80 wlc: 10.0.0.1 dr x=1, 10.0.0.2 dr w=0"]);
    let real = director.real_of(&syn(1));
    assert_eq!(director.verdict(&syn(2)), FULL);
    assert_eq!(director.real_of(&ack(1)), real);
    // Raised, it has room at once; and dropped.
    director.services(&["tcp 80 wlc: 10.0.0.1 dr x=2"]);
    director.real_of(&syn(3));
    assert_eq!(director.verdict(&syn(4)), FULL);
    director.services(&["tcp 80 wlc: 10.0.0.1 dr"]);
    director.real_of(&syn(4));
    director.services(&["tcp 80 wlc: 10.0.0.1 dr x=2"]);
    assert_eq!(director.verdict(&syn(5)), FULL);
}

#[test]
fn hash_schedulers_fall_back_if_told_to() {
    for scheduler in ["sh", "mh"] {
        let of = |flags: &str| {
            format!("tcp 80 {scheduler}{flags}: 10.0.0.1 dr x=1, 10.0.0.2 dr, 10.0.0.3 dr")
        };
        let mut director = Director::new(&[&of("")]);
        // Clients of the one that fills up.
        let mut fresh = Director::new(&[&of("").replace(" x=1", "")]);
        let its: Vec<_> =
            (0..60).filter(|n| fresh.real_of(&syn(*n)).to_string() == "10.0.0.1").collect();
        assert!(its.len() > 5);
        director.real_of(&syn(its[0]));
        for n in &its[1..] {
            assert_eq!(director.verdict(&syn(*n)), FULL, "{scheduler}");
        }
        // The others' clients are not moved, and the stranded are spread.
        director.services(&[&of(&format!(" {scheduler}-fallback"))]);
        let others: std::collections::BTreeSet<_> =
            its[1..].iter().map(|n| director.real_of(&syn(*n)).to_string()).collect();
        assert_eq!(others.into_iter().collect::<Vec<_>>(), ["10.0.0.2", "10.0.0.3"]);
        for n in (0..60).filter(|n| !its.contains(n)) {
            assert_eq!(director.real_of(&syn(n)), fresh.real_of(&syn(n)));
        }
    }
}

#[test]
fn workers_know_of_one_another() {
    let mut director = Director::with_workers(2, &["tcp 80 rr: 10.0.0.1 dr x=4"]);
    for n in 0..2 {
        director.receive_at(0, &[syn(n)]);
    }
    director.loads.refresh(&director.stats, &director.snapshot.counted);
    for n in 2..4 {
        director.receive_at(1, &[syn(n)]);
    }
    // Worker 1 has filled it up; worker 0 knows before connections are summed again.
    assert_eq!(director.receive_at(0, &[syn(4)]).verdict(), FULL);
    assert_eq!(director.receive_at(1, &[syn(5)]).verdict(), FULL);
    assert_eq!(total(&director, "10.0.0.1"), 4);
}

#[test]
fn whoever_fills_up_by_persistence_is_full_at_once() {
    // All clients of the test are one; their template takes them on, and nobody looks who is full.
    let service = "tcp 80 rr p=300/255.0.0.0: 10.0.0.2 dr w=0, 10.0.0.1 dr x=3";
    let mut director = Director::with_workers(2, &[service]);
    let stranger = Build::eth(ROUTER_MAC, WAN_MAC)
        .ipv4([10, 1, 2, 3].into(), VIP)
        .tcp(1000, 80, Flags::SYN, 1)
        .finish();
    for n in 0..3 {
        director.receive_at(0, &[syn(n)]);
    }
    assert_eq!(total(&director, "10.0.0.1"), 3);
    assert_eq!(director.receive_at(1, &[stranger]).verdict(), FULL);
}

#[test]
fn a_slot_that_is_used_again_brings_no_connections_with_it() {
    let wlc = "tcp 80 wlc: 10.0.0.3 dr x=9";
    let mut director = Director::with_workers(2, &[&format!("{wlc}, 10.0.0.1 dr x=2 w=65535")]);
    let old = director.real_id("10.0.0.1");
    for n in 0..3 {
        director.receive_at(0, &[syn(n)]);
    }
    director.loads.refresh(&director.stats, &director.snapshot.counted);
    assert_eq!(total(&director, "10.0.0.1"), 2);
    // It is removed, its flows end, and another takes its place before connections are summed.
    director.services(&[wlc]);
    director.wait(10_000);
    director.services(&[wlc]);
    director.services(&[&format!("{wlc}, 10.0.0.2 dr x=2 w=65535")]);
    assert_eq!(director.real_id("10.0.0.2"), old, "the test wants the same slot");
    for worker in [1, 0] {
        let outcome = director.receive_at(worker, &[syn(20 + worker as u16)]);
        assert_eq!(outcome.sent.len(), 1);
    }
    assert_eq!(director.connections("10.0.0.2"), (2, 0));
}
