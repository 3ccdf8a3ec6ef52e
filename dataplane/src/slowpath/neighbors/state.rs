//! The state machine of one neighbor: RFC 4861 section 7.3 and appendix C, used for ARP too.
//!
//! Pure: it is told what was heard and sent and what time it is, and says what to ask.
//!
//! # Choices
//! - The director keeps every configured next hop warm. RFC 4861 leaves a stale neighbor alone
//!   until there is traffic for it; a real server is in use by definition, so it is probed at
//!   once, and a dead one shows as failed within five seconds of its reachable time's end.
//! - RFC 4861 waits 5 s (DELAY_FIRST_PROBE_TIME) before the first probe, for an upper layer to
//!   confirm reachability. A director sees requests only and never gets such a hint, so it waits
//!   one second, in which the neighbor may still speak for itself.
//! - What a neighbor says unasked (its requests, gratuitous ARP) shows that it reaches us, not
//!   that we reach it: it gives or changes the address to send to, but does not confirm it
//!   (RFC 4861 7.2.3, 7.2.5). It does not bring a failed neighbor back either; it makes us ask it
//!   at once. So a neighbor that sends but does not answer stays failed instead of flapping.
//! - An advertisement whose solicited flag is set confirms only what was asked: one that comes
//!   unasked counts as unsolicited. RFC 4861 7.2.5 believes the flag alone.

use crate::hash::Random;
use crate::snapshot::neighbors::NextHop;
use crate::types::{Mac, Millis};
use crate::vocabulary::NeighborState;

/// RFC 4861 10, REACHABLE_TIME: 30 s times a random factor between MIN_RANDOM_FACTOR 0.5 and
/// MAX_RANDOM_FACTOR 1.5, in milliseconds.
pub(super) const REACHABLE_TIME: (u64, u64) = (15_000, 45_000);
/// RFC 4861 10, RETRANS_TIMER, in milliseconds.
pub(crate) const RETRANS_TIMER: u64 = 1_000;
/// RFC 4861 10, MAX_MULTICAST_SOLICIT (ARP: broadcast).
pub(super) const MAX_MULTICAST_SOLICIT: u8 = 3;
/// RFC 4861 10, MAX_UNICAST_SOLICIT.
pub(super) const MAX_UNICAST_SOLICIT: u8 = 3;
/// From stale to the first probe, in milliseconds; see the module's choices.
pub(super) const DELAY_FIRST_PROBE: u64 = 1_000;
/// Longest time between two requests to a failed neighbor, in milliseconds.
pub(super) const MAX_BACKOFF: u64 = 30_000;
/// For so many milliseconds the first of several different answers stands: proxies answer
/// together, and the first is the fastest. Gratuitous ARP is obeyed at any time.
pub(super) const LOCK_TIME: u64 = 1_000;

/// A request the neighbor is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// To everyone (ARP), or to the group of those who may have the address (IPv6).
    Broadcast,
    /// To its last known address.
    Unicast(Mac),
}

/// How a neighbor's address was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// In a reply to us.
    Answer,
    /// In something else it sent.
    Aside,
    /// In a gratuitous ARP, or in a neighbor solicitation (RFC 4861 7.2.3): what is known is to be
    /// overwritten.
    Gratuitous,
}

/// What a neighbor advertisement says (RFC 4861 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advertised {
    /// Target link-layer address.
    pub(crate) mac: Option<Mac>,
    /// It answers a solicitation.
    pub(crate) solicited: bool,
    /// What was known is to be overwritten.
    pub(crate) overrides: bool,
}

/// One next hop.
#[derive(Debug)]
pub(super) struct Neighbor {
    state: NeighborState,
    mac: Option<Mac>,
    confirmed: Option<Millis>,
    /// When `mac` last changed or was confirmed.
    updated: Option<Millis>,
    asked: Option<Millis>,
    /// Asked since it last answered.
    outstanding: bool,
    tries: u8,
    backoff: u64,
    due: Option<Millis>,
}

impl Neighbor {
    /// A neighbor to be asked for at once.
    pub(super) fn new(now: Millis) -> Neighbor {
        Neighbor {
            state: NeighborState::Incomplete,
            mac: None,
            confirmed: None,
            updated: None,
            asked: None,
            outstanding: false,
            tries: 0,
            backoff: RETRANS_TIMER,
            due: Some(now),
        }
    }

    /// A configured neighbor; never asked, never changed by what is heard.
    pub(super) fn fixed(mac: Mac) -> Neighbor {
        Neighbor {
            state: NeighborState::Static,
            mac: Some(mac),
            due: None,
            ..Neighbor::new(Millis(0))
        }
    }

    pub(super) fn state(&self) -> NeighborState {
        self.state
    }

    /// When it last answered.
    pub(super) fn confirmed(&self) -> Option<Millis> {
        self.confirmed
    }

    /// When [`Neighbor::fire`] is to be called.
    pub(super) fn due(&self) -> Option<Millis> {
        self.due
    }

    /// The address frames are sent to now.
    pub(super) fn mac(&self) -> Option<Mac> {
        match self.next_hop() {
            NextHop::Known(mac) => Some(mac),
            NextHop::Unknown | NextHop::Failed => None,
        }
    }

    /// What workers do with packets for it.
    pub(super) fn next_hop(&self) -> NextHop {
        match (self.state, self.mac) {
            (NeighborState::Failed, _) => NextHop::Failed,
            (NeighborState::Incomplete, _) | (_, None) => NextHop::Unknown,
            (_, Some(mac)) => NextHop::Known(mac),
        }
    }

    /// Takes the step that is due, and says what to ask. The caller sends it and calls
    /// [`Neighbor::asked`], or cannot and calls [`Neighbor::postpone`] or [`Neighbor::give_up`].
    pub(super) fn fire(&mut self, now: Millis) -> Option<Ask> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        match self.state {
            NeighborState::Static => {
                self.due = None;
                None
            }
            NeighborState::Reachable => {
                self.stale(now);
                None
            }
            NeighborState::Incomplete if self.tries < MAX_MULTICAST_SOLICIT => Some(Ask::Broadcast),
            NeighborState::Incomplete => {
                self.fail();
                // The last broadcast is RETRANS_TIMER ago; the next comes after the first backoff.
                self.due = Some(now.after(self.step_back()));
                None
            }
            NeighborState::Stale | NeighborState::Probe => self.probe(),
            NeighborState::Failed => Some(Ask::Broadcast),
        }
    }

    fn probe(&mut self) -> Option<Ask> {
        if self.state == NeighborState::Stale {
            self.state = NeighborState::Probe;
            self.tries = 0;
        }
        match self.mac {
            Some(mac) if self.tries < MAX_UNICAST_SOLICIT => Some(Ask::Unicast(mac)),
            _ => {
                // It may have another address by now, so ask everyone right away.
                self.fail();
                Some(Ask::Broadcast)
            }
        }
    }

    /// What [`Neighbor::fire`] wanted was sent.
    pub(super) fn asked(&mut self, now: Millis) {
        self.asked = Some(now);
        self.outstanding = true;
        let wait = if self.state == NeighborState::Failed {
            self.step_back()
        } else {
            self.tries += 1;
            RETRANS_TIMER
        };
        self.due = Some(now.after(wait));
    }

    /// It was not sent for want of a buffer: no fault of the neighbor, so the try does not count.
    pub(super) fn postpone(&mut self, until: Millis) {
        self.due = Some(until);
    }

    /// It cannot be asked at all: failed until it is configured anew.
    pub(super) fn give_up(&mut self) {
        self.fail();
        self.due = None;
    }

    /// The configuration or the link changed: all that was concluded is in doubt.
    pub(super) fn doubt(&mut self, now: Millis) {
        match self.state {
            NeighborState::Static | NeighborState::Incomplete | NeighborState::Probe => {}
            NeighborState::Reachable | NeighborState::Stale => self.stale(now),
            NeighborState::Failed => {
                self.backoff = RETRANS_TIMER;
                // One that could not be asked has no timer; perhaps it can be now.
                self.due = self.due.or(Some(now));
                self.nudge(now);
            }
        }
    }

    /// Asks a failed neighbor soon, but at most once a second. Whether that is earlier than it
    /// would have been.
    pub(super) fn nudge(&mut self, now: Millis) -> bool {
        let Some(due) = self.due.filter(|_| self.state == NeighborState::Failed) else {
            return false;
        };
        let earliest = self.asked.map_or(now, |asked| now.max(asked.after(RETRANS_TIMER)));
        let earlier = earliest < due;
        if earlier {
            self.due = Some(earliest);
        }
        earlier
    }

    /// The neighbor was heard to have `mac`. Whether that taught or confirmed anything.
    pub(super) fn hear(&mut self, mac: Mac, how: Heard, now: Millis, random: &mut Random) -> bool {
        match self.state {
            NeighborState::Static => false,
            _ if how == Heard::Answer && self.outstanding => {
                self.confirm(mac, now, random);
                true
            }
            NeighborState::Failed => self.nudge(now),
            NeighborState::Incomplete => {
                self.learn(mac, now);
                true
            }
            NeighborState::Reachable | NeighborState::Stale | NeighborState::Probe => {
                let locked = self.updated.is_some_and(|at| now.since(at) < LOCK_TIME);
                let changes = self.mac != Some(mac) && (how == Heard::Gratuitous || !locked);
                if changes {
                    // A late answer from the old address must not undo this.
                    self.outstanding = false;
                    self.learn(mac, now);
                }
                changes
            }
        }
    }

    /// The neighbor advertises itself (RFC 4861 7.2.5). Whether that taught or confirmed anything.
    pub(super) fn advertised(
        &mut self,
        what: Advertised,
        now: Millis,
        random: &mut Random,
    ) -> bool {
        let answers = what.solicited && self.outstanding;
        match (self.state, self.mac, what.mac) {
            (NeighborState::Static, ..) => false,
            // "In any of these cases [no entry] ... no action"; one that failed is asked again.
            (NeighborState::Incomplete | NeighborState::Failed, _, Some(mac)) if answers => {
                self.confirm(mac, now, random);
                true
            }
            (NeighborState::Incomplete, _, Some(mac)) => {
                self.learn(mac, now);
                true
            }
            (NeighborState::Failed, _, Some(_)) => self.nudge(now),
            // "If ... no Target Link-Layer Address option is included, the receiving node SHOULD
            // silently discard the received advertisement."
            (NeighborState::Incomplete | NeighborState::Failed, _, None) | (_, None, _) => false,
            // I. "If the Override flag is clear and the supplied link-layer address differs": the
            // address in the cache stays, but is no longer taken for confirmed.
            (state, Some(known), Some(mac)) if mac != known && !what.overrides => {
                let shaken = state == NeighborState::Reachable;
                if shaken {
                    self.stale(now);
                }
                shaken
            }
            // II. It overrides, or says nothing new.
            (_, Some(known), mac) => {
                let mac = mac.unwrap_or(known);
                if answers {
                    self.confirm(mac, now, random);
                } else if mac != known {
                    // A late answer from the old address must not undo this.
                    self.outstanding = false;
                    self.learn(mac, now);
                }
                answers || mac != known
            }
        }
    }

    fn confirm(&mut self, mac: Mac, now: Millis, random: &mut Random) {
        self.state = NeighborState::Reachable;
        self.mac = Some(mac);
        self.confirmed = Some(now);
        self.updated = Some(now);
        self.outstanding = false;
        self.tries = 0;
        self.backoff = RETRANS_TIMER;
        self.due = Some(now.after(random.between(REACHABLE_TIME.0, REACHABLE_TIME.1)));
    }

    /// RFC 4861 7.2.3: an address heard but not confirmed is used, and the entry is stale.
    fn learn(&mut self, mac: Mac, now: Millis) {
        self.mac = Some(mac);
        self.updated = Some(now);
        self.stale(now);
    }

    fn stale(&mut self, now: Millis) {
        self.state = NeighborState::Stale;
        self.tries = 0;
        self.due = Some(now.after(DELAY_FIRST_PROBE));
    }

    fn fail(&mut self) {
        self.state = NeighborState::Failed;
        self.tries = 0;
        self.backoff = RETRANS_TIMER;
    }

    fn step_back(&mut self) -> u64 {
        let wait = self.backoff;
        self.backoff = (wait * 2).min(MAX_BACKOFF);
        wait
    }
}

#[cfg(test)]
mod tests;
