//! Walking the whole table in bounded steps: to find the expired, to list, to flush.

use super::Key;
use super::kept::{Cause, Flow, Removed};
use super::table::Table;
use crate::types::Tick;

/// Entries looked at before their flows are removed: the removals' cache misses overlap.
const STEP: usize = 16;

/// What a step of the sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Entries looked at, in use or not. When these have added up to the capacity, every flow
    /// that was in the table at the start has been looked at or is gone.
    pub examined: usize,
    /// Flows removed.
    pub removed: usize,
    /// Whether the end of the table was reached; the next step starts from the beginning.
    pub wrapped: bool,
}

impl<K: Key> Table<K> {
    /// Looks at the next `budget` entries, and removes the flows that have expired or that `keep`
    /// refuses, giving each to `removed`.
    ///
    /// Between bursts, with a budget such that the whole table is seen about once a minute (so
    /// 1 000 000 flows at 1000 sweeps a second: 17 entries each), and in any case in less than
    /// 24 days, after which a deadline would lie ahead again. `keep` is for flows whose real server is
    /// gone, and for a flush; it sees each flow that has not expired.
    pub fn sweep(
        &mut self,
        now: Tick,
        budget: usize,
        mut keep: impl FnMut(&Flow<K>) -> bool,
        mut removed: impl FnMut(Removed<K>),
    ) -> Swept {
        let capacity = self.entries.len();
        let mut swept = Swept::default();
        while swept.examined < budget.min(capacity) {
            let left = budget.min(capacity) - swept.examined;
            let start = self.cursor;
            let step = left.min(STEP).min(capacity - start);
            let (mut expired, mut refused) = (0u16, 0u16);
            for (i, entry) in self.entries.iter().skip(start).take(step).enumerate() {
                if !entry.live() {
                    continue;
                }
                if entry.flow.expired(now) {
                    expired |= 1 << i;
                } else if !keep(&entry.flow) {
                    refused |= 1 << i;
                } else {
                    continue;
                }
                self.prefetch_bucket(self.hash(&entry.flow.key));
            }
            for i in (0..step).filter(|i| (expired | refused) >> i & 1 != 0) {
                let cause = if expired >> i & 1 != 0 { Cause::Expired } else { Cause::Removed };
                if let Some(flow) = self.take((start + i) as u32, cause) {
                    swept.removed += 1;
                    removed(flow);
                }
            }
            swept.examined += step;
            self.cursor = start + step;
            if self.cursor >= capacity {
                self.cursor = 0;
                swept.wrapped = true;
            }
        }
        swept
    }

    /// Shows the flows among `budget` entries from `cursor` (0 to begin), expired ones too.
    /// Where to go on, or none at the end of the table.
    ///
    /// A flow that lives through the whole walk is shown exactly once, whatever comes and goes
    /// in between.
    pub fn scan(&self, cursor: u32, budget: usize, mut each: impl FnMut(&Flow<K>)) -> Option<u32> {
        let start = cursor as usize;
        let end = start.saturating_add(budget).min(self.entries.len());
        for entry in self.entries.get(start..end).unwrap_or_default() {
            if entry.live() {
                each(&entry.flow);
            }
        }
        if end < self.entries.len() { Some(end as u32) } else { None }
    }
}
