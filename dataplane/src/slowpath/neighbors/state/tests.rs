use proptest::prelude::*;

use super::*;

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

/// Lets time pass until the next timer, takes its step, and sends what it asks.
fn step(n: &mut Neighbor) -> (u64, NeighborState, Option<Ask>) {
    let now = n.due().expect("a timer");
    let ask = n.fire(now);
    if ask.is_some() {
        n.asked(now);
    }
    (now.0, n.state(), ask)
}

fn random() -> Random {
    Random::new(3)
}

/// A neighbor that answered at `now`.
fn reachable(now: u64) -> Neighbor {
    let mut n = Neighbor::new(Millis(now));
    step(&mut n);
    assert!(n.hear(A, Heard::Answer, Millis(now), &mut random()));
    n
}

/// A neighbor in `state`, and when it came to it.
fn in_state(state: NeighborState) -> (Neighbor, u64) {
    let mut n = match state {
        NeighborState::Static => return (Neighbor::fixed(A), 0),
        NeighborState::Incomplete => Neighbor::new(Millis(0)),
        _ => reachable(0),
    };
    let mut now = 0;
    while n.state() != state {
        now = step(&mut n).0;
    }
    (n, now)
}

#[test]
fn one_that_never_answers_is_asked_ever_less() {
    use NeighborState::{Failed, Incomplete};
    let mut n = Neighbor::new(Millis(0));
    let seen: Vec<_> = (0..12).map(|_| step(&mut n)).collect();
    let all = Some(Ask::Broadcast);
    assert_eq!(
        seen,
        [
            (0, Incomplete, all),
            (1_000, Incomplete, all),
            (2_000, Incomplete, all),
            (3_000, Failed, None),
            (4_000, Failed, all),
            (6_000, Failed, all),
            (10_000, Failed, all),
            (18_000, Failed, all),
            (34_000, Failed, all),
            (64_000, Failed, all),
            (94_000, Failed, all),
            (124_000, Failed, all),
        ]
    );
    assert_eq!(n.next_hop(), NextHop::Failed);
}

#[test]
fn one_that_falls_silent_is_probed_and_shows_as_failed_within_five_seconds() {
    use NeighborState::{Failed, Probe, Stale};
    let mut n = reachable(0);
    let (end, state, ask) = step(&mut n);
    assert!((REACHABLE_TIME.0..=REACHABLE_TIME.1).contains(&end));
    assert_eq!((state, ask, n.next_hop()), (Stale, None, NextHop::Known(A)));
    for at in [1_000, 2_000, 3_000] {
        assert_eq!(step(&mut n), (end + at, Probe, Some(Ask::Unicast(A))));
        assert_eq!(n.next_hop(), NextHop::Known(A), "the old address stays in use");
    }
    assert_eq!(step(&mut n), (end + 4_000, Failed, Some(Ask::Broadcast)));
    assert_eq!(step(&mut n), (end + 5_000, Failed, Some(Ask::Broadcast)));
    assert_eq!((n.mac(), n.confirmed()), (None, Some(Millis(0))));
}

#[test]
fn an_answer_confirms_from_every_state_that_asks() {
    use NeighborState::{Failed, Incomplete, Probe};
    for state in [Incomplete, Probe, Failed] {
        let (mut n, _) = in_state(state);
        let (now, ..) = step(&mut n);
        let soon = Millis(now + 5);
        assert!(n.hear(B, Heard::Answer, soon, &mut random()), "{state}");
        assert_eq!(n.state(), NeighborState::Reachable, "{state}");
        assert_eq!((n.next_hop(), n.confirmed()), (NextHop::Known(B), Some(soon)), "{state}");
        // The next failure starts over with short waits.
        assert_eq!((n.tries, n.backoff), (0, RETRANS_TIMER), "{state}");
    }
}

#[test]
fn what_is_heard_unasked() {
    use Heard::{Answer, Aside, Gratuitous};
    use NeighborState::{Failed, Incomplete, Probe, Reachable, Stale, Static};
    let later = LOCK_TIME;
    for (state, mac, how, after, taught, then, used) in [
        (Static, B, Gratuitous, later, false, Static, Some(A)),
        (Static, B, Answer, later, false, Static, Some(A)),
        (Incomplete, B, Aside, 0, true, Stale, Some(B)),
        (Incomplete, B, Gratuitous, 0, true, Stale, Some(B)),
        (Incomplete, B, Answer, 0, true, Stale, Some(B)),
        (Reachable, A, Aside, later, false, Reachable, Some(A)),
        (Reachable, A, Answer, later, false, Reachable, Some(A)),
        (Reachable, A, Gratuitous, later, false, Reachable, Some(A)),
        (Reachable, B, Aside, later - 1, false, Reachable, Some(A)),
        (Reachable, B, Answer, later - 1, false, Reachable, Some(A)),
        (Reachable, B, Gratuitous, 0, true, Stale, Some(B)),
        (Reachable, B, Aside, later, true, Stale, Some(B)),
        (Reachable, B, Answer, later, true, Stale, Some(B)),
        (Stale, A, Aside, 0, false, Stale, Some(A)),
        (Stale, B, Aside, 0, true, Stale, Some(B)),
        (Probe, A, Aside, 0, false, Probe, Some(A)),
        (Probe, B, Gratuitous, 0, true, Stale, Some(B)),
        // A failed one is asked, not believed.
        (Failed, A, Aside, later, false, Failed, None),
    ] {
        let (mut n, now) = in_state(state);
        let got = n.hear(mac, how, Millis(now + after), &mut random());
        let context = format!("{state} {mac} {how:?} after {after}");
        assert_eq!((got, n.state(), n.mac()), (taught, then, used), "{context}");
        if then == Stale && taught {
            assert_eq!(n.due(), Some(Millis(now + after + DELAY_FIRST_PROBE)), "{context}");
        }
    }
}

#[test]
fn an_answer_still_on_its_way_confirms_what_was_learned_meanwhile() {
    let mut n = Neighbor::new(Millis(0));
    step(&mut n);
    assert!(n.hear(A, Heard::Aside, Millis(1), &mut random()));
    assert_eq!((n.state(), n.confirmed()), (NeighborState::Stale, None));
    assert!(n.hear(A, Heard::Answer, Millis(2), &mut random()));
    assert_eq!((n.state(), n.confirmed()), (NeighborState::Reachable, Some(Millis(2))));
}

#[test]
fn a_late_answer_from_the_old_address_does_not_undo_a_move() {
    let (mut n, now) = in_state(NeighborState::Probe);
    assert!(n.hear(B, Heard::Gratuitous, Millis(now + 1), &mut random()));
    assert!(!n.hear(A, Heard::Answer, Millis(now + 2), &mut random()));
    assert_eq!((n.state(), n.mac()), (NeighborState::Stale, Some(B)));
}

#[test]
fn the_first_of_two_answers_stands() {
    let mut n = reachable(0);
    assert!(!n.hear(B, Heard::Answer, Millis(1), &mut random()));
    assert_eq!(n.mac(), Some(A));
}

#[test]
fn a_failed_one_is_nudged_at_most_once_a_second() {
    let mut n = Neighbor::new(Millis(0));
    while n.due() < Some(Millis(50_000)) {
        step(&mut n);
    }
    // Last asked at 34 s, next at 64 s.
    assert!(n.nudge(Millis(34_400)));
    assert_eq!(n.due(), Some(Millis(35_000)));
    assert!(!n.nudge(Millis(34_500)));
    assert_eq!(step(&mut n), (35_000, NeighborState::Failed, Some(Ask::Broadcast)));
    assert!(n.hear(A, Heard::Aside, Millis(37_000), &mut random()), "one that speaks is asked");
    assert_eq!(n.due(), Some(Millis(37_000)));
    assert!(!reachable(0).nudge(Millis(5)), "others have their own timers");
}

#[test]
fn doubt_probes_what_worked_and_asks_what_failed() {
    let mut n = reachable(0);
    n.doubt(Millis(5_000));
    assert_eq!((n.state(), n.due()), (NeighborState::Stale, Some(Millis(6_000))));
    let (mut n, now) = in_state(NeighborState::Failed);
    while n.due() < Some(Millis(now + 20_000)) {
        step(&mut n);
    }
    n.doubt(Millis(now + 16_000));
    assert_eq!(step(&mut n), (now + 16_000, NeighborState::Failed, Some(Ask::Broadcast)));
    assert_eq!(n.due(), Some(Millis(now + 17_000)), "and soon again");
    n.doubt(Millis(now + 16_001));
    assert_eq!(n.due(), Some(Millis(now + 17_000)), "but not for each configuration");
    let mut n = Neighbor::fixed(A);
    n.doubt(Millis(9));
    assert_eq!((n.state(), n.due()), (NeighborState::Static, None));
}

#[test]
fn a_request_that_was_not_sent_is_no_try() {
    let mut n = Neighbor::new(Millis(0));
    for at in 0..100 {
        assert_eq!(n.fire(Millis(at * 100)), Some(Ask::Broadcast));
        n.postpone(Millis(at * 100 + 100));
    }
    assert_eq!(n.state(), NeighborState::Incomplete);
}

#[test]
fn one_that_cannot_be_asked_fails_for_good() {
    let mut n = Neighbor::new(Millis(0));
    assert!(n.fire(Millis(0)).is_some());
    n.give_up();
    assert_eq!((n.next_hop(), n.due()), (NextHop::Failed, None));
    assert!(!n.nudge(Millis(1)) && !n.hear(A, Heard::Aside, Millis(2), &mut random()));
    n.doubt(Millis(3));
    assert_eq!(n.due(), Some(Millis(3)), "until something changes");
}

#[derive(Debug, Clone)]
enum Op {
    Wait(u64),
    Fire { sent: bool },
    Hear(bool, u8),
    Advertised(Option<bool>, bool, bool),
    Nudge,
    Doubt,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0u64..40_000).prop_map(Op::Wait),
        6 => prop::bool::weighted(0.9).prop_map(|sent| Op::Fire { sent }),
        3 => (any::<bool>(), 0u8..3).prop_map(|(a, how)| Op::Hear(a, how)),
        3 => any::<(Option<bool>, bool, bool)>().prop_map(|(a, s, o)| Op::Advertised(a, s, o)),
        1 => Just(Op::Nudge),
        1 => Just(Op::Doubt),
    ];
    proptest::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn any_course_of_events(ops in ops(), seed: u64) {
        let mut random = Random::new(seed);
        let mut n = Neighbor::new(Millis(0));
        let mut now = Millis(0);
        for op in ops {
            match op {
                Op::Wait(ms) => now = now.after(ms),
                Op::Fire { sent } => {
                    if n.fire(now).is_some() {
                        if sent {
                            n.asked(now);
                        } else {
                            n.postpone(now.after(100));
                        }
                    }
                    prop_assert!(n.due().is_some_and(|due| due > now), "a step moves on");
                }
                Op::Hear(a, how) => {
                    let how = [Heard::Answer, Heard::Aside, Heard::Gratuitous][usize::from(how)];
                    let before = (n.state(), n.mac(), n.confirmed(), n.due());
                    let taught = n.hear(if a { A } else { B }, how, now, &mut random);
                    let after = (n.state(), n.mac(), n.confirmed(), n.due());
                    prop_assert!(taught || before == after);
                }
                Op::Advertised(a, solicited, overrides) => {
                    let mac = a.map(|a| if a { A } else { B });
                    let before = (n.state(), n.mac(), n.confirmed(), n.due());
                    let taught = n.advertised(says(mac, solicited, overrides), now, &mut random);
                    let after = (n.state(), n.mac(), n.confirmed(), n.due());
                    prop_assert!(taught || before == after);
                }
                Op::Nudge => {
                    n.nudge(now);
                }
                Op::Doubt => n.doubt(now),
            }
            let known = matches!(n.next_hop(), NextHop::Known(_));
            prop_assert_eq!(known, !matches!(n.state(), NeighborState::Incomplete | NeighborState::Failed));
            prop_assert!(n.due().is_some(), "a neighbor is never forgotten");
            prop_assert!(n.due() <= Some(now.after(REACHABLE_TIME.1)));
        }
    }
}

fn says(mac: Option<Mac>, solicited: bool, overrides: bool) -> Advertised {
    Advertised { mac, solicited, overrides }
}

/// RFC 4861 7.2.5, case by case; `asked` tells whether an answer is due.
#[test]
fn what_an_advertisement_does() {
    use NeighborState::{Failed, Incomplete, Probe, Reachable, Stale, Static};
    let (s, o) = (true, true);
    let (b, a, none) = (Some(B), Some(A), None);
    for (state, what, asked, taught, then, used) in [
        (Static, says(b, s, o), true, false, Static, a),
        // Incomplete: nothing without an address; the override flag does not matter.
        (Incomplete, says(none, s, o), true, false, Incomplete, none),
        (Incomplete, says(b, s, !o), true, true, Reachable, b),
        (Incomplete, says(b, s, o), true, true, Reachable, b),
        (Incomplete, says(b, !s, !o), true, true, Stale, b),
        (Incomplete, says(b, s, o), false, true, Stale, b),
        // I: another address, and it does not override.
        (Reachable, says(b, s, !o), true, true, Stale, a),
        (Reachable, says(b, !s, !o), false, true, Stale, a),
        (Stale, says(b, s, !o), true, false, Stale, a),
        (Probe, says(b, !s, !o), true, false, Probe, a),
        // II: it overrides, or it is the same address, or there is none.
        (Reachable, says(b, s, o), true, true, Reachable, b),
        (Reachable, says(b, !s, o), false, true, Stale, b),
        (Reachable, says(a, !s, o), false, false, Reachable, a),
        (Reachable, says(none, !s, o), false, false, Reachable, a),
        (Stale, says(a, s, !o), true, true, Reachable, a),
        (Stale, says(a, !s, o), true, false, Stale, a),
        (Probe, says(none, s, !o), true, true, Reachable, a),
        (Probe, says(none, !s, !o), true, false, Probe, a),
        (Probe, says(b, !s, o), true, true, Stale, b),
        // Nobody asked: as if the flag were not set.
        (Stale, says(b, s, o), false, true, Stale, b),
        (Probe, says(a, s, o), false, false, Probe, a),
        // A failed one is believed only when it answers.
        (Failed, says(b, s, !o), true, true, Reachable, b),
        (Failed, says(none, s, o), true, false, Failed, none),
        (Failed, says(a, !s, o), true, false, Failed, none),
    ] {
        let (mut n, now) = in_state(state);
        n.outstanding = asked;
        n.asked = n.asked.or(Some(Millis(now)));
        let got = n.advertised(what, Millis(now), &mut random());
        let context = format!("{state} {what:?} asked {asked}");
        assert_eq!((got, n.state(), n.mac()), (taught, then, used), "{context}");
        if then == Reachable && taught {
            assert_eq!(n.confirmed(), Some(Millis(now)), "{context}");
        }
        if then == Stale && taught {
            assert_eq!(n.due(), Some(Millis(now + DELAY_FIRST_PROBE)), "{context}");
        }
    }
}

#[test]
fn a_failed_one_that_advertises_itself_is_asked_at_once() {
    let (mut n, now) = in_state(NeighborState::Failed);
    while n.due() < Some(Millis(now + 20_000)) {
        step(&mut n);
    }
    assert!(n.advertised(says(Some(B), false, true), Millis(now + 17_000), &mut random()));
    assert_eq!((n.state(), n.due()), (NeighborState::Failed, Some(Millis(now + 17_000))));
}
