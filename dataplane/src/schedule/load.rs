//! Connection counts, and the choice of the least loaded member.

use super::Cursor;

/// Connections of one real server in one virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Flows that are established.
    pub active: u32,
    /// All others: half open, closing.
    pub inactive: u32,
}

impl Load {
    /// An active connection costs as much as 256 inactive ones, as in LVS
    /// (`ip_vs_dest_conn_overhead`). Less than 2^41.
    #[inline(always)]
    pub(super) const fn overhead(self) -> u64 {
        self.active as u64 * 256 + self.inactive as u64
    }
}

/// Where `lc` and `wlc` ask for connection counts. Called on the packet path.
pub trait Loads {
    /// The load of the member with this index in the `members` the scheduler was built for,
    /// summed over workers.
    fn load(&self, member: usize) -> Load;
}

/// By index; a member beyond the end has no load.
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
    #[inline(always)]
    const fn is_less_than(self, other: Cost) -> bool {
        self.overhead * other.weight < other.overhead * self.weight
    }
}

/// The taker of the least cost; of several, the first at or after the cursor.
///
/// LVS takes the first of the list. Here several workers pick at once, each knowing the others'
/// counts up to 10 ms late: were they all to prefer the same one of two equals, it would get a
/// burst from each of them. A single worker with counts that follow its picks sees no difference.
#[inline]
pub(super) fn least<'a, T>(
    takers: &'a [T],
    cursor: &mut Cursor,
    cost: impl Fn(&T) -> Cost,
) -> Option<&'a T> {
    let start = cursor.within(takers.len());
    let (before, after) = takers.split_at(start);
    let mut rotation = (start..).zip(after).chain((0..).zip(before));
    let (mut place, mut best) = rotation.next()?;
    let mut lowest = cost(best);
    for (at, taker) in rotation {
        let cost = cost(taker);
        if cost.is_less_than(lowest) {
            (place, best, lowest) = (at, taker, cost);
        }
    }
    cursor.picked(place);
    Some(best)
}
