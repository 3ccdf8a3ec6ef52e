//! Walking the whole table in bounded steps: to find the expired, to list, to flush.

use super::TableKey;
use super::record::{Cause, Flow, Removed};
use super::table::{Table, join, split};
use crate::types::Tick;

/// What a step of the sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Places looked at, in use or not. When these have added up to the capacity, every flow
    /// that was in the table at the start has been looked at or is gone.
    pub examined: usize,
    /// Flows removed.
    pub removed: usize,
    /// Whether the end of the table was reached; the next step starts from the beginning.
    pub wrapped: bool,
}

impl<K: TableKey, const N: usize> Table<K, N> {
    /// Looks at the next `budget` places, of which there are as many as the table can hold flows
    /// and which hold one on average, [`PLACE`](Table::PLACE) at most; removes the flows that have
    /// expired or that `keep` refuses, giving each to `removed`.
    ///
    /// Between bursts, with a budget such that the whole table is seen about once a minute (so
    /// 1 000 000 flows at 1000 sweeps a second: 17 places each), and in any case in less than
    /// 24 days, after which a deadline would lie ahead again. `keep` is for flows whose real server
    /// is gone, and for a flush; it sees each flow that has not expired.
    pub fn sweep(
        &mut self,
        now: Tick,
        budget: usize,
        mut keep: impl FnMut(&Flow<K>) -> bool,
        mut removed: impl FnMut(Removed<K>),
    ) -> Swept {
        let capacity = self.capacity();
        let mut swept = Swept::default();
        while swept.examined < budget.min(capacity) {
            for slot in 0..N {
                // Places at the end have no bucket.
                let Some(bucket) = self.buckets.get(self.cursor) else { break };
                let Some(flow) = bucket.flow(slot) else { continue };
                let cause = if flow.expired(now) {
                    Cause::Expired
                } else if !keep(&flow) {
                    Cause::Removed
                } else {
                    continue;
                };
                if let Some(flow) = self.take(join(self.cursor, slot), cause) {
                    swept.removed += 1;
                    removed(flow);
                }
            }
            swept.examined += 1;
            self.cursor += 1;
            if self.cursor >= capacity {
                self.cursor = 0;
                swept.wrapped = true;
            }
        }
        swept
    }

    /// Shows flows from `cursor` (0 to begin) on, expired ones too, `budget` at most from as many
    /// places. Where to go on, or none at the end of the table.
    ///
    /// A flow that lives through the whole walk is shown exactly once, whatever comes and goes
    /// in between.
    pub fn scan(&self, cursor: u32, budget: usize, mut each: impl FnMut(&Flow<K>)) -> Option<u32> {
        let (mut at, mut first) = split(cursor);
        let (mut places, mut flows) = (0, 0);
        while let Some(bucket) = self.buckets.get(at) {
            if places == budget {
                return Some(join(at, first));
            }
            for slot in first..N {
                let Some(flow) = bucket.flow(slot) else { continue };
                if flows == budget {
                    return Some(join(at, slot));
                }
                each(&flow);
                flows += 1;
            }
            places += 1;
            (at, first) = (at + 1, 0);
        }
        None
    }
}
