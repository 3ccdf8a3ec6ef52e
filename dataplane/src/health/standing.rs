//! What becomes of the real servers of one virtual service by what their check says.

use super::machine::{Machine, State};
use crate::snapshot::check::{AllDown, CheckSpec, OnFail};
use crate::snapshot::learned::Standing;

/// The standing of each real server, in order; `reals` has its configured weight, and what is known
/// of it.
///
/// One that is configured to get no flows (weight 0) is none that others could fall back on, nor one
/// whose failure makes them all down. While anything is undecided, not all are down.
pub fn standings(check: &CheckSpec, reals: &[(u32, Machine)]) -> Vec<Standing> {
    let mut used = reals.iter().filter(|(weight, _)| *weight > 0);
    let all_down = used.all(|(_, machine)| machine.state() == State::Down);
    let failed = match check.on_fail {
        OnFail::Ignore => Standing::Up,
        _ if all_down && check.all_down == AllDown::Serve => Standing::Up,
        OnFail::Drain => Standing::Draining,
        OnFail::Remove => Standing::Removed,
    };
    let standing = |machine: &Machine| match machine.serves(check.start) {
        true => Standing::Up,
        // Nothing has failed yet: it is not let in, and what flows it has stay.
        false if machine.state() == State::Unchecked => failed.min(Standing::Draining),
        false => failed,
    };
    reals.iter().map(|(_, machine)| standing(machine)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::{Pace, Reason};
    use crate::snapshot::check::{CheckKind, Start};
    use crate::types::Millis;

    fn check(on_fail: OnFail, all_down: AllDown, start: Start) -> CheckSpec {
        CheckSpec {
            name: "web".to_owned(),
            kind: CheckKind::Tcp,
            port: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 1,
            start,
            dampening: Duration::ZERO,
            on_fail,
            all_down,
        }
    }

    /// Of `U` (up), `D` (down) and `?` (unchecked); in lower case, `u` and `d`, with weight 0.
    fn reals(states: &str) -> Vec<(u32, Machine)> {
        let pace = Pace { interval: 1, timeout: 1, rise: 1, fall: 1, dampening: 0 };
        let real = |state: char| {
            let mut machine = Machine::new(Millis(0));
            match state.to_ascii_uppercase() {
                'U' => assert!(machine.passed(&pace, Millis(1))),
                'D' => assert!(machine.failed(Reason::Refused, &pace, Millis(1))),
                other => assert_eq!(other, '?'),
            }
            (u32::from(!state.is_ascii_lowercase()), machine)
        };
        states.chars().map(real).collect()
    }

    #[test]
    fn what_follows_is_what_is_configured() {
        use AllDown::Serve;
        use OnFail::{Drain, Ignore, Remove};
        use Start::{Down, Up};
        let none = AllDown::Drain;
        for (on_fail, all_down, start, states, standings) in [
            (Drain, Serve, Up, "UUD?", "uuwu".into()),
            (Remove, Serve, Up, "UUD?", "uuru".into()),
            (Ignore, none, Up, "DD", "uu".into()),
            // All of them down: the check may be what is wrong.
            (Drain, Serve, Up, "DD", "uu".into()),
            (Remove, Serve, Up, "DD", "uu".into()),
            (Drain, none, Up, "DD", "ww".into()),
            (Remove, none, Up, "DD", "rr".into()),
            // What is not decided yet may serve: by configuration, or after its first answer.
            (Drain, Serve, Up, "D?", "wu".into()),
            (Drain, Serve, Down, "D?", "ww".into()),
            (Remove, Serve, Down, "D?U", "rwu".into()),
            (Drain, Serve, Down, "??", "ww".into()),
            (Ignore, Serve, Down, "??", "uu".into()),
            // Nobody can fall back on one that is drained by its weight.
            (Drain, Serve, Up, "Du", "uu".into()),
            (Drain, Serve, Up, "Ud", "uw".into()),
            (Drain, Serve, Up, "d", "u".into()),
            (Drain, Serve, Up, "", String::new()),
        ] {
            let found = super::standings(&check(on_fail, all_down, start), &reals(states));
            let letter = |standing: &Standing| match standing {
                Standing::Up => 'u',
                Standing::Draining => 'w',
                Standing::Removed => 'r',
            };
            let found: String = found.iter().map(letter).collect();
            assert_eq!(found, standings, "{on_fail} {all_down} {start} {states}");
        }
    }
}
