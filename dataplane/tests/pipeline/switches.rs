//! What LVS has sysctls for: `expire_nodest_conn`, `conn_reuse_mode`, `sloppy_tcp`.
//! `pktgen-tests/tests/ipvsadm.rs` compares the same with a real LVS.

use std::net::Ipv4Addr;

use dataplane::snapshot::spec::{Reuse, Switches};
use dataplane::stats::{DropReason, Event};
use dataplane::types::{PuntReason, RealId};
use dataplane::vocabulary::NoServer;

use crate::director::{Director, Verdict, spec};
use crate::packets::*;
use crate::packets6::*;

const ONE: &str = "tcp 80 rr: 10.0.0.1 dr";
const TWO: &str = "tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr";
const DRAINED: &str = "tcp 80 rr: 10.0.0.1 dr w=0, 10.0.0.2 dr";
const OTHER: &str = "tcp 80 rr: 10.0.0.2 dr";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const GONE: Verdict = Verdict::Dropped(DropReason::RealServerGone);

const WAITING: Switches = Switches {
    expire_quiescent_template: false,
    expire_nodest_conn: false,
    reuse: Reuse::AfterClose,
    sloppy_tcp: false,
    no_server: NoServer::Reject,
};

impl Director {
    fn switched(&mut self, switches: Switches, services: &[&str]) {
        let mut spec = spec(services);
        spec.switches = switches;
        self.configure(spec).unwrap();
    }

    fn with_switches(switches: Switches, services: &[&str]) -> Director {
        let mut director = Director::new(services);
        director.switched(switches, services);
        director
    }

    fn connections_of(&self, slot: RealId) -> (u64, u64) {
        let real = self.stats[0].real(slot).unwrap();
        (real.active.get(), real.inactive.get())
    }

    /// Flows in each state at the only real server: 0 half-open, 1 established, 2 closing, 3 reset.
    fn all_states(&mut self) {
        self.receive(&[syn(0), syn(1), ack(1), syn(2), ack(2), fin(2), syn(3), ack(3), rst(3)]);
    }
}

#[test]
fn flows_wait_for_a_removed_real_server() {
    let mut director = Director::with_switches(WAITING, &[ONE]);
    director.all_states();
    let slot = director.real_id("10.0.0.1");
    director.switched(WAITING, &[OTHER]);
    for n in 0..4 {
        assert_eq!(director.verdict(&ack(n)), GONE);
    }
    assert_eq!(director.real_of(&syn(9)), SECOND, "others do not wait");
    assert_eq!(director.verdict(&syn(1)), GONE, "not a new connection either");
    assert_eq!(director.connections_of(slot), (2, 2), "and nothing has changed");
    director.wait(9_000);
    assert_eq!(director.counts().event(Event::FlowsOrphaned), 0);
    director.switched(WAITING, &[TWO]);
    for n in 0..4 {
        assert_eq!(director.real_of(&ack(n)), FIRST, "it is back");
    }
    assert_eq!(director.counts().event(Event::FlowsOrphaned), 0);
    director.switched(WAITING, &[OTHER]);
    assert_eq!(director.real_of(&syn(3)), SECOND, "the port of a flow that is over");
}

#[test]
fn a_whole_service_may_go_and_come_back() {
    let mut director = Director::with_switches(WAITING, &[ONE]);
    director.all_states();
    let slot = director.real_id("10.0.0.1");
    director.switched(WAITING, &[]);
    assert_eq!(director.verdict(&ack(1)), Verdict::Dropped(DropReason::NotLocal));
    for _ in 0..3 {
        director.switched(WAITING, &["udp 53 rr: 10.0.0.1 dr"]);
    }
    assert_eq!(director.verdict(&ack(1)), Verdict::Dropped(DropReason::NoService));
    director.switched(WAITING, &[ONE]);
    assert_eq!(director.real_id("10.0.0.1"), slot);
    assert_eq!(director.real_of(&ack(1)), FIRST);
}

#[test]
fn they_wait_no_longer_than_their_timer() {
    let mut director = Director::with_switches(WAITING, &[ONE]);
    director.all_states();
    director.wait(5_000);
    director.receive(&[ack(1)]);
    director.switched(WAITING, &[OTHER]);
    // Their packets go on coming, a minute apart, and keep nothing alive.
    for _ in 0..15 {
        assert_eq!(director.verdict(&ack(1)), GONE);
        director.wait(60_000);
    }
    let outcome = director.receive(&[ack(1)]);
    assert_eq!(outcome.event(Event::FlowsOrphaned), 1);
    assert_eq!(outcome.verdict(), Verdict::Punted(PuntReason::TcpReset));
    assert_eq!(director.real_of(&syn(1)), SECOND);
    // Without packets they expire as any.
    assert_eq!(director.workers[0].shard().len(), 1);
}

#[test]
fn they_wait_no_longer_than_their_timer_over_ipv6() {
    // The VIP has another virtual service, so packets to the one that is gone are still for it.
    for (service, first, other) in [
        ("tcp 80 rr: 10.0.0.1 dr", [syn(1), ack(1)], "tcp 443 rr: 10.0.0.2 dr"),
        ("tcp6 80 rr: 2001:db8:a::1 dr", [syn6(1), ack6(1)], "tcp6 443 rr: 2001:db8:a::2 dr"),
    ] {
        let mut director = Director::with_switches(WAITING, &[service]);
        director.receive(&first);
        director.wait(1_000);
        director.receive(&first[1..]);
        director.switched(WAITING, &[other]);
        for _ in 0..15 {
            let verdict = director.verdict(&first[1]);
            assert_eq!(verdict, Verdict::Dropped(DropReason::NoService));
            director.wait(60_000);
        }
        assert_eq!(director.receive(&[first[1].clone()]).event(Event::FlowsOrphaned), 1);
        assert!(director.workers[0].shard().is_empty() && director.workers[0].shard6().is_empty());
    }
}

#[test]
fn several_that_are_away_are_told_apart() {
    let mut director = Director::with_switches(WAITING, &[ONE]);
    director.receive(&[syn(0), ack(0)]);
    director.switched(WAITING, &[OTHER]);
    director.receive(&[syn(1), ack(1)]);
    director.switched(WAITING, &[]);
    for n in [1, 2] {
        director.switched(WAITING, &[&format!("tcp 80 rr: 10.0.0.{n} dr")]);
        assert_eq!(director.real_of(&ack(n - 1)).octets()[3], n as u8);
        assert_eq!(director.verdict(&ack(2 - n)), GONE);
    }
}

#[test]
fn switched_on_they_end_at_once() {
    let mut director = Director::with_switches(WAITING, &[ONE]);
    director.all_states();
    director.switched(WAITING, &[OTHER]);
    assert_eq!(director.verdict(&ack(1)), GONE);
    director.switched(Switches::default(), &[OTHER]);
    assert_eq!(director.verdict(&ack(1)), Verdict::Punted(PuntReason::TcpReset));
    assert_eq!(director.wait(10_000).event(Event::FlowsOrphaned), 2);
    // It comes back as another then.
    director.switched(Switches::default(), &[TWO]);
    assert_eq!(director.verdict(&ack(0)), Verdict::Punted(PuntReason::TcpReset));
}

#[test]
fn a_reused_flow_goes_where_the_mode_says() {
    for (reuse, moved) in [
        (Reuse::Never, [false; 4]),
        (Reuse::AfterReset, [false, false, false, true]),
        (Reuse::AfterClose, [false, false, true, true]),
    ] {
        let switches = Switches { reuse, ..Switches::default() };
        let mut director = Director::with_switches(switches, &[ONE]);
        director.all_states();
        director.switched(switches, &[TWO]);
        // A rotation begins anywhere: two picks are one of each.
        for (n, moved) in (0..).zip(moved) {
            let picks: Vec<_> = (0..2)
                .map(|_| {
                    let real = director.real_of(&syn(n));
                    if moved {
                        director.receive(&[if n == 2 { fin(n) } else { rst(n) }]);
                    }
                    real
                })
                .collect();
            assert_eq!(picks.contains(&SECOND), moved, "{reuse:?} {n}");
        }
    }
}

#[test]
fn a_reused_flow_that_stays_is_a_connection_more() {
    let switches = Switches { reuse: Reuse::Never, ..Switches::default() };
    let mut director = Director::with_switches(switches, &[ONE]);
    director.all_states();
    assert_eq!(director.connections("10.0.0.1"), (2, 2));
    director.receive(&[syn(2), syn(3)]);
    assert_eq!(director.connections("10.0.0.1"), (4, 0));
    assert_eq!(director.counts().event(Event::FlowsReplaced), 2);
    // They are half-open again, and live a minute.
    director.wait(61_000);
    assert_eq!(director.connections("10.0.0.1"), (1, 0));
}

#[test]
fn only_a_connection_that_is_over_leaves_a_drained_real_server() {
    for expire_nodest_conn in [true, false] {
        for (reuse, moved) in [
            (Reuse::AfterClose, [false, false, true, true]),
            (Reuse::AfterReset, [false, false, false, true]),
            (Reuse::Never, [false; 4]),
        ] {
            let switches = Switches { expire_nodest_conn, reuse, ..Switches::default() };
            let mut director = Director::with_switches(switches, &[ONE]);
            director.all_states();
            director.switched(switches, &[DRAINED]);
            assert_eq!(director.real_of(&ack(1)), FIRST, "flows go on");
            for (n, moved) in (0..).zip(moved) {
                let expected = if moved { SECOND } else { FIRST };
                assert_eq!(director.real_of(&syn(n)), expected, "{switches:?} {n}");
                assert_eq!(director.real_of(&ack(n)), expected);
            }
        }
    }
}

#[test]
fn a_repeated_syn_stays_with_a_real_server_that_drains() {
    let services = ["tcp 80 rr: 10.0.0.1 dr", "tcp6 80 rr: 2001:db8:a::1 dr"];
    let drained = [
        "tcp 80 rr: 10.0.0.1 dr w=0, 10.0.0.2 dr",
        "tcp6 80 rr: 2001:db8:a::1 dr w=0, 2001:db8:a::2 dr",
    ];
    // A handshake of which the SYN is lost, and a connection somebody forges a SYN of.
    for packets in [vec![syn(1)], vec![syn(1), ack(1)], vec![syn6(1)], vec![syn6(1), ack6(1)]] {
        let mut director = Director::new(&services);
        let real = director.receive(&packets[..1]).reals_of_either();
        director.receive(&packets[1..]);
        director.services(&drained);
        let again = director.receive(&[packets[0].clone(), packets[packets.len() - 1].clone()]);
        assert_eq!(again.reals_of_either(), [real[0], real[0]], "{packets:?}");
        assert_eq!(again.event(Event::FlowsCreated), 0);
    }
    // So it is where no other real server takes flows.
    let mut director = Director::new(&[ONE]);
    director.all_states();
    director.services(&["tcp 80 rr: 10.0.0.1 dr w=0"]);
    assert_eq!(director.receive(&[syn(0), syn(1), ack(0), ack(1)]).reals(), [FIRST; 4]);
}

#[test]
fn persistent_clients_stay_whatever_the_mode() {
    for reuse in [Reuse::Never, Reuse::AfterReset, Reuse::AfterClose] {
        let switches = Switches { reuse, ..Switches::default() };
        let persistent = "tcp 80 rr p=300: 10.0.0.1 dr";
        let mut director = Director::with_switches(switches, &[persistent]);
        director.all_states();
        director.switched(switches, &["tcp 80 rr p=300: 10.0.0.1 dr w=0, 10.0.0.2 dr"]);
        for n in 0..4 {
            assert_eq!(director.real_of(&syn(n)), FIRST, "{reuse:?} {n}");
        }
    }
}

#[test]
fn sloppy_takes_up_connections_in_the_middle() {
    use dataplane::packet::tcp::Flags;
    let sloppy = Switches { sloppy_tcp: true, ..Switches::default() };
    let bare = |n, flags| tcp(n, Flags(flags)).finish();
    let bare6 = |n, flags| tcp6(n, Flags(flags)).finish();
    let others =
        ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr", "mh", "twos"];
    for scheduler in others {
        let services = [
            format!("tcp 80 {scheduler}: 10.0.0.1 dr w=9"),
            format!("tcp6 80 {scheduler}: 2001:db8:a::1 dr w=9"),
        ];
        let services = services.each_ref().map(String::as_str);
        let mut director = Director::with_switches(sloppy, &services);
        // All but RST, as `tcp_conn_schedule` of LVS: SYN-ACK is what a client of active FTP answers
        // the real server with, whose connection for data the director does not see begin.
        let all = [ack(0), fin(1), syn_ack(2), bare(3, 0x28), bare(4, 0), bare(5, 0x29)];
        let outcome = director.receive(&all);
        assert_eq!(outcome.reals(), [FIRST; 6], "{scheduler}");
        assert_eq!(outcome.event(Event::MissNotSyn), 6);
        assert_eq!(outcome.event(Event::FlowsCreated), 6, "they are flows");
        assert_eq!(director.connections("10.0.0.1"), (4, 2), "FIN closes, all others open");
        let outcome = director.receive(&[bare6(0, 0x12), bare6(1, 0x28), bare6(2, 0), ack6(3)]);
        assert_eq!(outcome.event(Event::FlowsCreated), 4);
        // The next ACK of each that is half-open establishes it.
        let outcome = director.receive(&[ack(2), ack(3), ack(4)]);
        assert_eq!((outcome.reals(), outcome.event(Event::FlowsCreated)), (vec![FIRST; 3], 0));
        director.wait(61_000);
        assert_eq!(director.connections("10.0.0.1").0, 4);
        if scheduler != "mh" {
            // What ends a connection makes none.
            let suppressed = Verdict::Dropped(DropReason::ErrorSuppressed);
            assert_eq!(director.verdict(&rst(7)), suppressed);
            director.switched(Switches::default(), &services);
            for packet in [ack(8), syn_ack(8), bare(8, 0)] {
                assert_eq!(director.verdict(&packet), Verdict::Punted(PuntReason::TcpReset));
            }
        }
        assert_eq!(director.real_of(&ack(0)), FIRST);
    }
}

#[test]
fn a_first_fragment_in_the_middle_is_taken_up_by_all_workers() {
    use dataplane::packet::tcp::Flags;
    let sloppy = Switches { sloppy_tcp: true, ..Switches::default() };
    let mut director = Director::with_workers(2, &[TWO]);
    director.switched(sloppy, &[TWO]);
    let whole = tcp(1, Flags(0x12)).payload(&[7; 200]).finish();
    let first = director.receive_at(0, &cut(&whole, 9, 104)[..1]);
    assert_eq!(first.event(Event::FlowsCreated), 2, "a flow and its replica");
    assert_eq!(director.receive_at(1, &[ack(1)]).reals(), first.reals());
}

#[test]
fn one_that_comes_back_counts_anew_and_its_service_counts_each_packet_once() {
    let mut director = Director::with_switches(WAITING, &[ONE]);
    director.receive(&[syn(0), ack(0), ack(0)]);
    let before = director.service_traffic();
    assert_eq!((before.packets, before.connections), (3, 1));
    for _ in 0..2 {
        director.switched(WAITING, &["tcp 80 rr:"]);
        assert_eq!(director.service_traffic().packets, before.packets);
        director.switched(WAITING, &[ONE]);
        assert_eq!(director.service_traffic().packets, before.packets);
    }
    director.receive(&[ack(0)]);
    assert_eq!(director.service_traffic().packets, before.packets + 1);
    let real = director.real_id("10.0.0.1");
    assert_eq!(director.real_traffic(real).packets, 1);
}
