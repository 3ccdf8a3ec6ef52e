//! What a worker does between bursts: timers, and the end.

use super::family::{FlowTable, Key};
use super::{Env, Output, Pipeline};
use crate::flow::{Shard, Shard6};
use crate::packet::buf::PacketBuf;
use crate::stats::{DropReason, Event};
use crate::types::{FlowKey, FlowKey6};

/// The whole flow table is looked through for expired flows at least this often, milliseconds.
/// Far below [`crate::types::Tick::MAX_SPAN`], so no deadline ever looks like a future one again.
pub const SWEEP_PERIOD_MS: u32 = 10_000;

/// Places looked at in one go: a bound on the gap between two bursts (about 1 µs per 64).
const SWEEP_BUDGET: u32 = 256;
/// Flows that a place holds at most, of either family.
const MOST_A_PLACE: usize = if Shard::PLACE > Shard6::PLACE { Shard::PLACE } else { Shard6::PLACE };

/// What is due of the sweep of a table of so many places: places due since the last time, rounded
/// up; never more than there are.
fn due(capacity: usize, debt: u32, elapsed: u64) -> u32 {
    let capacity = capacity as u64;
    let due = elapsed * capacity / u64::from(SWEEP_PERIOD_MS) + 1;
    (u64::from(debt) + due).min(capacity) as u32
}

impl<B: PacketBuf> Pipeline<B> {
    /// Called once a poll round: removes some expired flows, gives up on fragments that waited
    /// too long.
    #[inline]
    pub fn maintain<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>) {
        if env.now != self.swept_at {
            self.tick(env);
        }
    }

    fn tick<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>) {
        let elapsed = u64::from(env.now.since(self.swept_at).min(SWEEP_PERIOD_MS));
        self.swept_at = env.now;
        self.sweep_debt = due(self.shard.capacity(), self.sweep_debt, elapsed);
        self.sweep_debt6 = due(self.shard6.capacity(), self.sweep_debt6, elapsed);
        if self.me.0 == 0 {
            self.sweep_templates(env.now, elapsed as u32);
        }
        let overdue = |pipeline: &mut Self| {
            let narrow = pipeline.fragments.take_overdue(env.now).map(|held| held.buf);
            narrow.or_else(|| pipeline.fragments6.take_overdue(env.now).map(|held| held.buf))
        };
        while let Some(buf) = overdue(self) {
            self.drop_packet(DropReason::FragmentUnknown, buf);
            self.count_held();
        }
    }

    /// Pays off a part of the sweeps that are due, of either table, so that neither waits for the
    /// other; bounded. Called once a poll round.
    #[inline]
    pub fn sweep<P, O>(&mut self, env: &Env<'_, P, O>) {
        if self.sweep_debt > 0 {
            let budget = self.sweep_debt.min(SWEEP_BUDGET);
            self.sweep_debt -= budget;
            self.sweep_some::<FlowKey, P, O>(env, budget);
        }
        if self.sweep_debt6 > 0 {
            let budget = self.sweep_debt6.min(SWEEP_BUDGET);
            self.sweep_debt6 -= budget;
            self.sweep_some::<FlowKey6, P, O>(env, budget);
        }
    }

    fn sweep_some<K: Key, P, O>(&mut self, env: &Env<'_, P, O>, budget: u32) {
        let mut removed = arrayvec::ArrayVec::<_, { SWEEP_BUDGET as usize * MOST_A_PLACE }>::new();
        K::shard_mut(self).sweep(
            env.now,
            budget as usize,
            |flow| {
                env.snapshot.real(flow.real).is_some() || env.snapshot.absent(flow.real).is_some()
            },
            |gone| removed.push(gone),
        );
        for gone in &removed {
            if gone.cause == crate::flow::Cause::Removed {
                self.stats.event(Event::FlowsOrphaned).add(1);
            }
            self.settle(env, gone);
        }
    }

    /// Sends what is staged; call it after [`Pipeline::peer`].
    pub fn finish<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>) {
        self.flush(env);
    }

    /// Drops what still waits; every packet has its verdict then.
    pub fn shutdown(&mut self) {
        while let Some(held) = self.fragments.take_any() {
            self.drop_packet(DropReason::Shutdown, held.buf);
        }
        while let Some(held) = self.fragments6.take_any() {
            self.drop_packet(DropReason::Shutdown, held.buf);
        }
        self.count_held();
    }
}
