//! The state of one real server by one check: results in a row make it, and one that keeps going up
//! and down is kept down for longer each time.

use std::fmt;

use crate::snapshot::check::{CheckSpec, Start};
use crate::types::Millis;

/// Time that a real server which has gone down soon after it came up is kept down the first time,
/// in milliseconds. It doubles each time.
const FIRST_HOLD: u64 = 10_000;
/// A real server that stays up for so long, in milliseconds, is forgiven one time. One that goes
/// down within it is flapping.
const CALM: u64 = 120_000;
/// Times that are kept account of; a hold of more than a week has none to double.
const MAX_TIMES: u32 = 16;

/// What is known of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing yet.
    Unchecked,
    /// It serves.
    Up,
    /// It does not.
    Down,
}

impl State {
    /// The word in listings.
    pub const fn name(self) -> &'static str {
        match self {
            State::Unchecked => "unchecked",
            State::Up => "up",
            State::Down => "down",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a real server is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No probe was decided yet.
    NotYet,
    /// The director has no address of the VIP's family that probes could come from.
    NoSource,
    /// It answered.
    Answered,
    /// It reset the connection.
    Refused,
    /// It did not answer in time.
    NoAnswer,
    /// Its next hop does not answer.
    Unreachable,
}

impl Reason {
    /// What listings and the log say.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::NotYet => "not checked yet",
            Reason::NoSource => "no port has an address of the VIP's family to probe from",
            Reason::Answered => "answered",
            Reason::Refused => "connection refused",
            Reason::NoAnswer => "no answer",
            Reason::Unreachable => "next hop unreachable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// How probes follow one another and what they decide; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between two probes, at least 1.
    pub interval: u64,
    /// Time an answer is waited for, 1 to `interval`.
    pub timeout: u64,
    /// Passed probes in a row that bring a real server up, at least 1.
    pub rise: u32,
    /// Failed probes in a row that bring it down, at least 1.
    pub fall: u32,
    /// Longest time one that goes up and down is kept down.
    pub dampening: u64,
}

impl Pace {
    /// The pace of a check.
    pub fn of(check: &CheckSpec) -> Pace {
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let interval = millis(check.interval).max(1);
        Pace {
            interval,
            timeout: millis(check.timeout).clamp(1, interval),
            rise: check.rise.max(1),
            fall: check.fall.max(1),
            dampening: millis(check.dampening),
        }
    }
}

/// One real server as one check sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    state: State,
    reason: Reason,
    since: Millis,
    /// Results in a row that speak against the state.
    against: u32,
    /// Whether it was down before it was up.
    has_risen: bool,
    /// How often it has flapped, less what was forgiven.
    times: u32,
    held_until: Millis,
}

impl Machine {
    /// One of which nothing is known.
    pub const fn new(now: Millis) -> Machine {
        Machine {
            state: State::Unchecked,
            reason: Reason::NotYet,
            since: now,
            against: 0,
            has_risen: false,
            times: 0,
            held_until: Millis(0),
        }
    }

    /// What it is.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// When its state changed last.
    pub const fn since(&self) -> Millis {
        self.since
    }

    /// Until when it is kept down although it may answer; in the past when it is not.
    pub const fn held_until(&self) -> Millis {
        self.held_until
    }

    /// Whether it is to get new flows, by a check that has not decided anything else.
    pub fn serves(&self, start: Start) -> bool {
        match self.state {
            State::Unchecked => start == Start::Up,
            state => state == State::Up,
        }
    }

    /// A probe was answered. Whether there is anything new to tell.
    ///
    /// One of which nothing is known is up at once: an answer is proof, and clients wait.
    pub fn passed(&mut self, pace: &Pace, now: Millis) -> bool {
        match self.state {
            State::Up => {
                self.against = 0;
                false
            }
            State::Unchecked => self.turn(State::Up, Reason::Answered, now),
            State::Down => {
                self.against = self.against.saturating_add(1);
                let is_up = self.against >= pace.rise && now >= self.held_until;
                is_up && self.turn(State::Up, Reason::Answered, now)
            }
        }
    }

    /// A probe failed. Whether there is anything new to tell.
    pub fn failed(&mut self, reason: Reason, pace: &Pace, now: Millis) -> bool {
        if self.state == State::Down {
            self.against = 0;
            return std::mem::replace(&mut self.reason, reason) != reason;
        }
        self.against = self.against.saturating_add(1);
        self.against >= pace.fall && self.fall(reason, pace, now)
    }

    /// It cannot be reached, which needs no second probe. Whether there is anything new to tell.
    pub fn lost(&mut self, reason: Reason, pace: &Pace, now: Millis) -> bool {
        if self.state == State::Down {
            return self.failed(reason, pace, now);
        }
        self.fall(reason, pace, now)
    }

    /// It cannot be checked. Whether there is anything new to tell. What was found out stays.
    pub fn unknowable(&mut self, reason: Reason) -> bool {
        self.state == State::Unchecked && std::mem::replace(&mut self.reason, reason) != reason
    }

    fn fall(&mut self, reason: Reason, pace: &Pace, now: Millis) -> bool {
        // One that has not been down before has not flapped.
        if self.state == State::Up && self.has_risen {
            let up_for = now.since(self.since);
            let forgiven = u32::try_from(up_for / CALM).unwrap_or(u32::MAX);
            self.times = self.times.saturating_sub(forgiven);
            if up_for < CALM {
                let hold = FIRST_HOLD << self.times;
                self.held_until = now.after(hold.min(pace.dampening));
                self.times = (self.times + 1).min(MAX_TIMES);
            }
        }
        self.turn(State::Down, reason, now)
    }

    fn turn(&mut self, state: State, reason: Reason, now: Millis) -> bool {
        self.has_risen = self.state == State::Down;
        self.state = state;
        self.reason = reason;
        self.since = now;
        self.against = 0;
        true
    }
}

#[cfg(test)]
mod tests;
