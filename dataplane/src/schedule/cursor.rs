//! Where a worker stands in a service's rotation.

use super::locality::Locality;
use crate::hash::Random;
use crate::types::WorkerId;

/// What one worker remembers of one virtual service between two picks.
///
/// The numbers are positions in the built object, not members, and every pair of values is valid:
/// a scheduler brings what it finds into its own range. So a cursor simply stays when the
/// scheduler under it is rebuilt for other members or is of another kind; a rotation goes on
/// about where it was. It is not reset on purpose: with a reset at every change, a service that
/// changes often would serve the head of its list only. What is kept together is known by address,
/// so it survives a rebuild too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Where to look next among the members that take new flows.
    pub place: u32,
    /// Passes done of the cycle (`wrr`).
    pub pass: u32,
    /// What the next random numbers follow from (`twos`).
    pub random: Random,
    /// Where the virtual service's flows are kept together (`lblc`, `lblcr`).
    pub(super) locality: Locality,
}

impl Cursor {
    /// At this place, in this pass, with random numbers that are always the same, and with nothing kept together.
    pub const fn at(place: u32, pass: u32) -> Cursor {
        Cursor { place, pass, random: Random::new(0), locality: Locality::NONE }
    }

    /// A start of its own for each worker, lest all of them begin with the same real server: the
    /// first worker's rotation begins as the default one. `random` is to differ between virtual
    /// services, workers and starts, lest all of them draw the same real servers.
    pub const fn for_worker(worker: WorkerId, random: Random) -> Cursor {
        Cursor { random, ..Cursor::at(worker.0 as u32, 0) }
    }

    /// `place`, brought into `0..len`; 0 when `len` is 0.
    #[inline(always)]
    pub(super) const fn within(self, len: usize) -> usize {
        let place = self.place as usize;
        if place < len {
            place
        } else if len == 0 {
            0
        } else {
            place % len
        }
    }

    /// Remembers that the member at `place` was picked.
    #[inline(always)]
    pub(super) const fn picked(&mut self, place: usize) {
        self.place = place as u32 + 1;
    }
}
