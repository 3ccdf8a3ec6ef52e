//! Connection counts, and the choice of the least loaded member.

use super::Cursor;
use crate::types::Tick;

/// Connections of one real server in one virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Flows that are established.
    pub active: u32,
    /// All others: half open, closing.
    pub inactive: u32,
}

impl Load {
    /// What is kept in one word, active ones in the upper half.
    #[inline(always)]
    pub const fn of_word(word: u64) -> Load {
        Load { active: (word >> 32) as u32, inactive: word as u32 }
    }

    /// All of them, as connection thresholds count.
    #[inline(always)]
    pub const fn total(self) -> u32 {
        self.active.saturating_add(self.inactive)
    }

    /// An active connection costs as much as 256 inactive ones, as in LVS
    /// (`ip_vs_dest_conn_overhead`). Less than 2^41.
    #[inline(always)]
    pub(super) const fn overhead(self) -> u64 {
        self.active as u64 * 256 + self.inactive as u64
    }
}

/// What a scheduler may ask of the worker it picks for. Called on the packet path.
pub trait Loads {
    /// The load of the member with this index in the `members` the scheduler was built for,
    /// summed over workers.
    fn load(&self, member: usize) -> Load;

    /// Whether that member has as many connections as it may, by its [`super::Thresholds`].
    #[inline(always)]
    fn is_full(&self, _member: usize) -> bool {
        false
    }

    /// The time, for schedulers that forget.
    #[inline(always)]
    fn now(&self) -> Tick {
        Tick(0)
    }
}

/// By index; a member beyond the end has no load. None is full, and no time goes by.
impl Loads for [Load] {
    #[inline]
    fn load(&self, member: usize) -> Load {
        self.get(member).copied().unwrap_or_default()
    }
}

/// What one more flow on a member would cost, as a fraction: `overhead / weight`.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    /// Less than 2^41.
    pub(super) overhead: u64,
    /// 1 to 65535.
    pub(super) weight: u64,
}

impl Cost {
    /// More than any other.
    const MOST: Cost = Cost { overhead: 1, weight: 0 };

    /// By cross multiplication, as LVS compares: exact, and no division.
    #[inline(always)]
    pub(super) const fn is_less_than(self, other: Cost) -> bool {
        self.overhead * other.weight < other.overhead * self.weight
    }
}

/// The taker of the least cost, of those that have one; of several, the first at or after the
/// cursor.
///
/// LVS takes the first of the list. Here several workers pick at once, each knowing the others'
/// counts up to 5 ms late: were they all to prefer the same one of two equals, it would get a
/// burst from each of them. A single worker with counts that follow its picks sees no difference.
#[inline]
pub(super) fn least<'a, T>(
    takers: &'a [T],
    cursor: &mut Cursor,
    cost: impl Fn(&T) -> Option<Cost>,
) -> Option<&'a T> {
    let start = cursor.within(takers.len());
    let (before, after) = takers.split_at(start);
    let (mut lowest, mut best) = (Cost::MOST, None);
    for (first, part) in [(start, after), (0, before)] {
        for (place, taker) in part.iter().enumerate() {
            let Some(cost) = cost(taker) else { continue };
            if cost.is_less_than(lowest) {
                (lowest, best) = (cost, Some((first + place, taker)));
                if cost.overhead == 0 {
                    cursor.picked(first + place);
                    return Some(taker);
                }
            }
        }
    }
    let (place, taker) = best?;
    cursor.picked(place);
    Some(taker)
}
