//! What a worker does between bursts: timers, and the end.

use super::{Env, Output, Pipeline};
use crate::flow::Shard;
use crate::packet::buf::PacketBuf;
use crate::stats::{DropReason, Event};

/// The whole flow table is looked through for expired flows at least this often, milliseconds.
/// Far below [`crate::types::Tick::MAX_SPAN`], so no deadline ever looks like a future one again.
pub const SWEEP_PERIOD_MS: u32 = 10_000;

/// Places looked at in one go: a bound on the gap between two bursts (about 1 µs per 64).
const SWEEP_BUDGET: u32 = 256;

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
        // Places due since the last time, rounded up; never more than there are.
        let capacity = self.shard.capacity() as u64;
        let elapsed = u64::from(env.now.since(self.swept_at).min(SWEEP_PERIOD_MS));
        self.swept_at = env.now;
        let due = elapsed * capacity / u64::from(SWEEP_PERIOD_MS) + 1;
        self.sweep_debt = (u64::from(self.sweep_debt) + due).min(capacity) as u32;
        if self.me.0 == 0 {
            self.sweep_templates(env.now, elapsed as u32);
        }
        while let Some(held) = self.fragments.take_overdue(env.now) {
            self.drop_packet(DropReason::FragmentUnknown, held.buf);
            self.count_held();
        }
    }

    /// Pays off a part of the sweep that is due; bounded. Called once a poll round.
    #[inline]
    pub fn sweep<P, O>(&mut self, env: &Env<'_, P, O>) {
        if self.sweep_debt > 0 {
            self.sweep_some(env);
        }
    }

    fn sweep_some<P, O>(&mut self, env: &Env<'_, P, O>) {
        let budget = self.sweep_debt.min(SWEEP_BUDGET);
        self.sweep_debt -= budget;
        let mut removed = arrayvec::ArrayVec::<_, { SWEEP_BUDGET as usize * Shard::PLACE }>::new();
        self.shard.sweep(
            env.now,
            budget as usize,
            |flow| env.snapshot.real(flow.real).is_some(),
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
        self.count_held();
    }
}
