//! The life of a flow: who is scheduled, who is not, and when it ends.

use dataplane::flow::State;
use dataplane::pipeline::Pipeline;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Protocol, PuntReason};
use dataplane::vocabulary::SchedulerKind;

use crate::director::{Director, Verdict};
use crate::packets::*;

const THREE: &str = "10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr";

fn with(scheduler: &str) -> Director {
    Director::new(&[&format!("tcp 80 {scheduler}: {THREE}")])
}

#[test]
fn a_flow_keeps_its_real_server() {
    for scheduler in SchedulerKind::ALL {
        let mut director = Director::new(&[&format!(
            "tcp 80 {scheduler}: 10.0.0.1 dr w=50, 10.0.0.2 dr w=9, 10.0.0.3 dr w=99"
        )]);
        let reals: Vec<_> = (0..50).map(|n| director.real_of(&syn(n))).collect();
        for packet in [syn, ack, ack, fin, ack, rst, ack] {
            for n in (0..50).rev() {
                assert_eq!(director.real_of(&packet(n)), reals[usize::from(n)], "{scheduler}");
            }
        }
        assert_eq!(director.counts().event(Event::FlowsCreated), 50);
    }
}

#[test]
fn a_segment_without_a_flow() {
    use Verdict::*;
    for scheduler in SchedulerKind::ALL {
        let (is_hash, scheduler) = (scheduler.is_hash(), scheduler.name());
        let mut fresh = with(scheduler);
        let real = fresh.real_of(&syn(1));
        let reset = Punted(PuntReason::TcpReset);
        for (packet, otherwise, state) in [
            (ack(1), reset, Some(State::Established)),
            (fin(1), reset, Some(State::Closing)),
            (rst(1), Dropped(DropReason::ErrorSuppressed), None),
            (syn_ack(1), reset, None),
            (tcp(1, dataplane::packet::tcp::Flags(0)).finish(), reset, None),
        ] {
            let mut director = with(scheduler);
            let outcome = director.receive(&[packet]);
            let want = if is_hash { Forwarded(real) } else { otherwise };
            assert_eq!(outcome.verdict(), want, "{scheduler}");
            assert_eq!(outcome.event(Event::MissNotSyn), 1);
            let shard = director.workers[0].shard();
            let found = key(1, Protocol::Tcp, 80);
            let found = shard.find(&found, shard.hash(&found), director.now).map(|f| f.state);
            assert_eq!(found, state.filter(|_| is_hash), "{scheduler}");
        }
    }
}

#[test]
fn a_syn_on_a_closing_flow_is_a_new_connection() {
    for end in [fin, rst] {
        let mut director = with("rr");
        let first = director.real_of(&syn(1));
        assert_eq!(director.real_of(&syn(1)), first, "a retransmission is not");
        director.receive(&[ack(1)]);
        assert_eq!(director.real_of(&syn(1)), first, "nor a SYN on a live flow");
        director.receive(&[end(1)]);
        let second = director.real_of(&syn(1));
        assert_ne!(second, first);
        assert_eq!(director.real_of(&ack(1)), second);
        let counts = director.counts();
        assert_eq!(counts.event(Event::FlowsReplaced), 1);
        assert_eq!(counts.event(Event::FlowsCreated), 2);
        assert_eq!(director.connections(&first.to_string()), (0, 0));
        assert_eq!(director.connections(&second.to_string()), (1, 0));
    }
}

#[test]
fn a_syn_on_a_closing_flow_while_nobody_takes_new_flows() {
    let mut director = with("rr");
    let real = director.real_of(&syn(1));
    director.receive(&[fin(1)]);
    director.services(&["tcp 80 rr: 10.0.0.1 dr w=0, 10.0.0.2 dr w=0"]);
    assert_eq!(director.verdict(&syn(1)), Verdict::Punted(PuntReason::NoRealServer));
    assert_eq!(director.real_of(&ack(1)), real, "the old connection goes on");
    let service = director.stats[0].service(dataplane::types::ServiceId(0)).unwrap();
    assert_eq!(service.no_real_server.get(), 1);
}

#[test]
fn each_state_has_its_timer() {
    type Packet = fn(u16) -> Vec<u8>;
    let cases: [(&[Packet], u32); 6] = [
        (&[syn], 60_000),
        (&[syn, ack], 900_000),
        (&[syn, ack, fin], 120_000),
        (&[syn, ack, fin, ack], 120_000),
        (&[syn, ack, rst], 10_000),
        (&[syn, rst, ack], 10_000),
    ];
    for (packets, span) in cases {
        for swept in [true, false] {
            let mut director = with("rr");
            packets.iter().for_each(|p| drop(director.receive(&[p(1)])));
            director.wait(span - 1);
            assert_eq!(director.workers[0].shard().len(), 1);
            if swept {
                // At most a sweep period later it is gone without a packet.
                director.wait(10_001);
                assert!(director.workers[0].shard().is_empty());
            } else {
                director.now = director.now.after(1);
                let verdict = director.verdict(&ack(1));
                assert_eq!(verdict, Verdict::Punted(PuntReason::TcpReset));
            }
            assert_eq!(director.counts().event(Event::FlowsExpired), 1);
        }
    }
}

#[test]
fn packets_put_the_end_off_and_udp_has_one_timer() {
    let mut director = Director::new(&["udp 53 rr: 10.0.0.1 dr, 10.0.0.2 dr"]);
    let real = director.real_of(&udp(1));
    for _ in 0..10 {
        director.wait(299_999);
        assert_eq!(director.real_of(&udp(1)), real);
    }
    director.wait(300_000);
    assert_ne!(director.real_of(&udp(1)), real);
}

#[test]
fn timers_are_taken_up_with_the_next_packet() {
    let mut director = with("rr");
    director.receive(&[syn(1), ack(1), syn(2), ack(2)]);
    let mut spec = director.spec.clone();
    spec.timeouts.tcp = std::time::Duration::from_secs(5);
    director.configure(spec).unwrap();
    director.receive(&[ack(1)]);
    director.wait(15_001);
    assert_eq!(director.workers[0].shard().len(), 1);
    assert!(matches!(director.verdict(&ack(2)), Verdict::Forwarded(_)));
}

#[test]
fn a_full_table_evicts_half_open_flows_first_and_goes_on() {
    let mut director =
        Director::of(1, 16, crate::director::spec(&[&format!("tcp 80 rr: {THREE}")]));
    let old: Vec<_> = (0..8)
        .map(|n| {
            let real = director.real_of(&syn(n));
            director.receive(&[ack(n)]);
            real
        })
        .collect();
    for n in 100..400 {
        assert!(matches!(director.verdict(&syn(n)), Verdict::Forwarded(_)));
    }
    for (n, real) in (0..8).zip(old) {
        assert_eq!(director.real_of(&ack(n)), real, "established flows stay");
    }
    let counts = director.counts();
    assert_eq!(counts.event(Event::FlowsEvicted), 300 + 8 - 16);
    assert_eq!(counts.event(Event::Flows), 16);
}

#[test]
fn the_sweep_is_bounded_and_sees_all_in_a_period() {
    let mut director = Director::of(1, 20_000, crate::director::spec(&["udp 53 rr: 10.0.0.1 dr"]));
    for n in 0..10_000 {
        director.receive(&[udp(n)]);
    }
    director.now = director.now.after(300_000);
    director.with(0, Pipeline::maintain);
    let mut rounds = 0;
    while !director.workers[0].shard().is_empty() {
        let before = director.workers[0].shard().len();
        director.with(0, |p, env| p.sweep(env));
        let removed = before - director.workers[0].shard().len();
        assert!(removed <= 256, "{removed} in one go");
        rounds += 1;
        assert!(rounds <= 20_000 / 256 + 1);
    }
}

#[test]
fn a_worker_that_was_held_up_owes_one_walk_over_the_table() {
    let mut director = with("rr");
    for _ in 0..100 {
        director.now = director.now.after(10_000);
        director.with(0, Pipeline::maintain);
    }
    director.sweep(0);
    director.receive(&[syn(1)]);
    director.now = director.now.after(60_000);
    director.sweep(0);
    assert_eq!(director.workers[0].shard().len(), 1, "nothing was due");
    director.wait(10_000);
    assert!(director.workers[0].shard().is_empty());
}

#[test]
fn ticks_wrap() {
    let mut director = with("rr");
    director.now = dataplane::types::Tick(u32::MAX - 1000);
    director.wait(0);
    let real = director.real_of(&syn(1));
    director.receive(&[ack(1)]);
    director.wait(890_000);
    assert_eq!(director.real_of(&ack(1)), real);
    director.wait(900_000);
    assert_eq!(director.counts().event(Event::FlowsExpired), 1);
}

#[test]
fn least_connections_counts_other_workers_lately() {
    for scheduler in ["lc", "wlc"] {
        let mut director =
            Director::with_workers(2, &[&format!("tcp 80 {scheduler}: 10.0.0.1 dr, 10.0.0.2 dr")]);
        for n in 0..6 {
            director.receive_at(1, &[syn(n)]);
        }
        director.services(&[&format!("tcp 80 {scheduler}: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr")]);
        director.loads.refresh(&director.stats, &director.snapshot.counted);
        for n in 10..13 {
            assert_eq!(director.real_of(&syn(n)).to_string(), "10.0.0.3", "{scheduler}");
        }
    }
}

#[test]
fn weighted_least_connections_follows_weights() {
    let mut director = Director::new(&["tcp 80 wlc: 10.0.0.1 dr w=3, 10.0.0.2 ipip w=1"]);
    for n in 0..400 {
        director.receive(&[syn(n)]);
    }
    assert_eq!(director.connections("10.0.0.1"), (300, 0));
    assert_eq!(director.connections("10.0.0.2"), (100, 0));
}

/// LVS counts UDP flows as inactive: by that `sed` and `ovf` would never leave the heaviest real
/// server, and `nq` never the first.
#[test]
fn schedulers_see_udp_flows_as_active() {
    for (scheduler, shares) in
        [("lc", (15, 15)), ("wlc", (20, 10)), ("sed", (20, 10)), ("nq", (20, 10)), ("ovf", (21, 9))]
    {
        let service = format!("udp 53 {scheduler}: 10.0.0.1 dr w=20, 10.0.0.2 dr w=10");
        let mut director = Director::new(&[&service]);
        for n in 0..30 {
            director.receive(&[udp(n)]);
        }
        let active = |real| director.connections(real).0;
        let (one, two) = (active("10.0.0.1"), active("10.0.0.2"));
        let (wanted, other) = shares;
        assert!(one.abs_diff(wanted) <= 1 && two.abs_diff(other) <= 1, "{scheduler}: {one} {two}");
    }
}
