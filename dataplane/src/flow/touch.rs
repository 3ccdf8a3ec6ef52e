//! What a packet does to its flow, where that is more than to restart a timer.

use super::newcomers::{Kind, proof};
use super::record::FlowRef;
use super::state::{Step, stays_new};
use super::table::{Table, split};
use super::{Event, TableKey, Transition};
use crate::types::{RealId, Tick};

impl<K: TableKey, const N: usize> Table<K, N> {
    /// As [`pass`](Table::pass) for a newcomer, whose timer goes on as it was: whether packets came over time is
    /// told by it. None as well for a packet that proves it, which [`touch`](Table::touch) takes.
    #[inline]
    pub fn pass_new(
        &self,
        hash: u64,
        addresses: &K::Addresses,
        ports: u32,
        signal: u8,
        now: Tick,
    ) -> Option<RealId> {
        let bucket = self.buckets.get(self.bucket(hash, 0))?;
        let slot = bucket.likely(addresses, ports);
        let place = bucket.marks[slot].place();
        if !bucket.has(slot, addresses, ports) || !stays_new(place, signal) {
            return None;
        }
        let (span, left) = (self.spans.at(place), bucket.deadlines[slot].remaining(now));
        let early = left > 0 && left <= span && span - left < proof(span);
        early.then(|| bucket.real(slot))
    }

    /// Takes a packet of a flow into account: its state, and its deadline from `now`. The timer of a
    /// newcomer is not restarted until it has proven itself, some packet after a second.
    #[inline]
    pub fn touch(&mut self, flow: FlowRef, event: Event, now: Tick) -> Transition {
        let (bucket, slot) = split(flow.0);
        let Some(bucket) = self.buckets.get_mut(bucket) else { return Transition::Same };
        let Some(mark) = bucket.marks.get_mut(slot).filter(|mark| mark.live()) else {
            return Transition::Same;
        };
        let from = mark.state();
        match from.step(event) {
            Step::To(to) if from == to && mark.is_new() => self.prove(flow, event, now),
            Step::To(to) => {
                bucket.deadlines[slot] = now.after(self.spans.of(to));
                if from == to {
                    return Transition::Same;
                }
                let before = Kind::of(from, mark.proven());
                *mark = mark.with_state(to, false);
                if let Some(kind) = before {
                    self.newcomers.forget_one(kind);
                }
                if let Some(kind) = Kind::of(to, false) {
                    let hash = bucket.flow(slot).map_or(0, |flow| flow.key.hash(&self.seed));
                    self.newcomers.list(kind, flow.0, hash);
                }
                Transition::Changed { from, to }
            }
            Step::New => Transition::NewConnection { from },
            Step::Ignore => Transition::Same,
        }
    }

    /// A packet of a newcomer that leaves it in its state.
    #[inline(never)]
    fn prove(&mut self, flow: FlowRef, event: Event, now: Tick) -> Transition {
        let (at, slot) = split(flow.0);
        let Some(bucket) = self.buckets.get_mut(at) else { return Transition::Same };
        let mark = bucket.marks[slot];
        let (span, left) = (self.spans.at(mark.place()), bucket.deadlines[slot].remaining(now));
        if left > span {
            // The timeouts are shorter since.
            bucket.deadlines[slot] = now.after(span);
            return Transition::Same;
        }
        // A client whose connection lives sends no SYN.
        if event == Event::Syn || span - left < proof(span) {
            return Transition::Same;
        }
        bucket.deadlines[slot] = now.after(span);
        bucket.marks[slot] = mark.with_state(mark.state(), true);
        if let Some(kind) = Kind::of(mark.state(), false) {
            self.newcomers.forget_one(kind);
        }
        Transition::Proven
    }
}
