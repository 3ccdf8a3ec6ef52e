use proptest::prelude::*;

use super::*;

const PACE: Pace = Pace { interval: 2000, timeout: 1000, rise: 2, fall: 3, dampening: 300_000 };

/// Feeds results, `+` and `-`, two seconds apart; the state after each as `U`, `D` or `?`.
fn run(machine: &mut Machine, from: &mut u64, results: &str) -> String {
    let mut states = String::new();
    for result in results.chars() {
        *from += 2000;
        match result {
            '+' => machine.passed(&PACE, Millis(*from)),
            '-' => machine.failed(Reason::NoAnswer, &PACE, Millis(*from)),
            '!' => machine.lost(Reason::Unreachable, &PACE, Millis(*from)),
            _ => unreachable!("{result}"),
        };
        states.push(match machine.state() {
            State::Unchecked => '?',
            State::Up => 'U',
            State::Down => 'D',
        });
    }
    states
}

#[test]
fn results_in_a_row_make_the_state() {
    for (results, states) in [
        // The first answer is proof; failures are counted from the start.
        ("+", "U"),
        ("--+", "??U"),
        ("---", "??D"),
        // Three failures in a row bring it down, two answers in a row up.
        ("+--+--+---", "UUUUUUUUUD"),
        ("---+-++", "??DDDDU"),
        // What cannot be reached is down at once, whatever it was.
        ("!", "D"),
        ("+!", "UD"),
        ("+!+!++", "UDDDDU"),
    ] {
        assert_eq!(run(&mut Machine::new(Millis(0)), &mut 0, results), states, "{results}");
    }
}

#[test]
fn one_that_is_not_checked_yet_serves_if_so_configured() {
    let mut machine = Machine::new(Millis(5));
    assert!(machine.serves(Start::Up) && !machine.serves(Start::Down));
    assert_eq!((machine.reason(), machine.since()), (Reason::NotYet, Millis(5)));
    assert!(machine.unknowable(Reason::NoSource) && !machine.unknowable(Reason::NoSource));
    assert!(machine.passed(&PACE, Millis(9)));
    assert!(machine.serves(Start::Up) && machine.serves(Start::Down));
    assert_eq!((machine.reason(), machine.since()), (Reason::Answered, Millis(9)));
    assert!(!machine.unknowable(Reason::NoSource), "what was found out stays");
    machine.lost(Reason::Unreachable, &PACE, Millis(10));
    assert!(!machine.serves(Start::Up) && !machine.serves(Start::Down));
}

#[test]
fn a_new_reason_is_told_and_the_time_of_the_state_stays() {
    let mut machine = Machine::new(Millis(0));
    assert!(machine.lost(Reason::Unreachable, &PACE, Millis(1)));
    assert!(!machine.failed(Reason::Unreachable, &PACE, Millis(2)));
    assert!(machine.failed(Reason::Refused, &PACE, Millis(3)));
    assert_eq!((machine.reason(), machine.since()), (Reason::Refused, Millis(1)));
}

#[test]
fn one_that_flaps_is_kept_down_for_longer_each_time_up_to_the_bound() {
    let (mut machine, mut now) = (Machine::new(Millis(0)), 0);
    // Not having been down before, it has not flapped the first time.
    let mut waits = Vec::new();
    run(&mut machine, &mut now, "+");
    for _ in 0..9 {
        assert!(run(&mut machine, &mut now, "---").ends_with('D'));
        let down = now;
        while machine.state() == State::Down {
            run(&mut machine, &mut now, "+");
        }
        waits.push((now - down) / 1000);
    }
    assert_eq!(waits, [4, 10, 20, 40, 80, 160, 300, 300, 300]);
    // A day without trouble: the next failure is the first one.
    now += 86_400_000;
    run(&mut machine, &mut now, "---");
    assert_eq!(run(&mut machine, &mut now, "++"), "DU");
}

#[test]
fn without_dampening_none_is_held() {
    let pace = Pace { dampening: 0, ..PACE };
    let mut machine = Machine::new(Millis(0));
    for now in 0..50 {
        machine.lost(Reason::Unreachable, &pace, Millis(now * 3));
        machine.passed(&pace, Millis(now * 3 + 1));
        assert!(machine.passed(&pace, Millis(now * 3 + 2)));
        assert_eq!(machine.state(), State::Up);
    }
}

proptest! {
    #[test]
    fn nothing_turns_without_as_many_results_in_a_row(
        steps in proptest::collection::vec((0u64..20_000, 0u8..10), 1..200),
        rise in 1u32..6,
        fall in 1u32..6,
        dampening in 0u64..400_000,
    ) {
        let pace = Pace { interval: 2000, timeout: 1000, rise, fall, dampening };
        let (mut machine, mut now) = (Machine::new(Millis(0)), Millis(0));
        // Results in a row, the latest ones: passed, or failed.
        let (mut passed, mut failed) = (0, 0);
        let mut down_since = Millis(0);
        for (wait, kind) in steps {
            now = now.after(wait);
            let before = machine;
            let told = match kind {
                0 => machine.lost(Reason::Unreachable, &pace, now),
                1..5 => machine.failed(Reason::NoAnswer, &pace, now),
                _ => machine.passed(&pace, now),
            };
            (passed, failed) = if kind < 5 { (0, failed + 1) } else { (passed + 1, 0) };
            let turned = before.state() != machine.state();
            prop_assert_eq!(
                told, turned || before.reason() != machine.reason(),
                "what is new is told, and nothing else is"
            );
            if turned {
                prop_assert_eq!(machine.since(), now);
            } else {
                prop_assert_eq!(machine.since(), before.since());
            }
            match (before.state(), machine.state()) {
                (State::Down, State::Up) => {
                    prop_assert!(passed >= rise && now >= before.held_until());
                }
                (State::Down, State::Down) => {
                    let may_rise = passed >= rise && now.since(down_since) >= dampening;
                    prop_assert!(!may_rise, "the hold is bounded");
                }
                (_, State::Down) => {
                    prop_assert!(kind == 0 || failed >= fall);
                    prop_assert!(machine.held_until() <= now.after(dampening));
                    down_since = now;
                }
                (_, State::Up) => prop_assert!(kind == 0 || failed < fall),
                (_, State::Unchecked) => prop_assert!(passed == 0 && failed < fall),
            }
        }
    }
}
