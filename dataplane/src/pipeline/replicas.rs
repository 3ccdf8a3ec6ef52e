//! Copies of other workers' flows: bounded in number, and worth less than any flow.
//!
//! A flow that begins with a fragment is scheduled where the fragment came in, and copied to the
//! other workers, where its whole packets may come in. A stranger can have any number of such flows
//! made, so a worker keeps so many copies at most, the oldest unused one leaves for a new one, and
//! none takes the place of a flow that is no copy.

use std::collections::VecDeque;

use super::family::{FlowTable, Key};
use super::{Env, FlowOf, Pipeline};
use crate::flow::{Event as FlowEvent, FlowFlags, FlowRef, Lookup};
use crate::packet::buf::PacketBuf;
use crate::snapshot::Named;
use crate::stats::Event;
use crate::types::Tick;

/// One flow in so many may be a copy.
const SHARE: usize = 16;
/// However many flows there are.
const MOST: usize = 1 << 16;
/// Copies looked at for one that may leave.
const TRIES: usize = 8;

/// Where a copy was put, and how to tell whether it is still that one, and unused.
#[derive(Debug, Clone, Copy)]
struct Copied {
    flow: FlowRef,
    hash: u32,
    /// Its deadline when it was listed; a packet moves it.
    deadline: Tick,
}

/// The copies in one table, the oldest first, and some that are gone.
#[derive(Debug)]
pub(super) struct Replicas {
    list: VecDeque<Copied>,
    most: usize,
}

impl Replicas {
    /// Of a table for so many flows.
    pub(super) fn new(flows: usize) -> Replicas {
        let most = (flows / SHARE).clamp(1, MOST);
        Replicas { list: VecDeque::with_capacity(most), most }
    }
}

impl<B: PacketBuf> Pipeline<B> {
    /// Another worker has made a flow that began with a fragment.
    pub(super) fn replicate<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        key: K,
        event: FlowEvent,
        real: Named,
    ) {
        let Some(service) = key.find_service(env.snapshot) else { return };
        if !Self::is_homed(env.snapshot, real, service) {
            return;
        }
        let flow = FlowOf { key, hash: K::shard(self).hash(&key), service, event };
        if K::shard(self).find(&key, flow.hash, env.now).is_some() {
            return;
        }
        let is_full = |p: &mut Self| K::replicas(p).list.len() >= K::replicas(p).most;
        if is_full(self) || !K::shard(self).has_room(flow.hash) {
            self.forget_replica::<K, P, O>(env, flow.hash);
        }
        if is_full(self) || !K::shard(self).has_room(flow.hash) {
            return self.stats.event(Event::PeerNotesLost).add(1);
        }
        self.remember(env, &flow, real.real, FlowFlags::REPLICA);
        if let Lookup::Hit(found) = K::shard_mut(self).lookup(&key, flow.hash, env.now) {
            let deadline = K::shard(self).get(found).deadline;
            let copied = Copied { flow: found, hash: flow.hash as u32, deadline };
            K::replicas(self).list.push_back(copied);
        }
    }

    /// Removes the oldest copy that no packet has come for since it was listed, of the first few,
    /// for a flow of this hash; one that is used stays.
    fn forget_replica<K: Key, P, O>(&mut self, env: &Env<'_, P, O>, hash: u64) {
        for _ in 0..TRIES {
            let Some(copied) = K::replicas(self).list.pop_front() else { return };
            let found = K::shard(self).get(copied.flow);
            let it_is = K::shard(self).hash(&found.key) as u32 == copied.hash;
            if !it_is || !found.flags.has(FlowFlags::REPLICA) {
                // It is gone, or a flow of this worker's own by now.
                if K::shard(self).has_room(hash) {
                    return;
                }
                continue;
            }
            if found.deadline != copied.deadline && !found.expired(env.now) {
                let used = Copied { deadline: found.deadline, ..copied };
                K::replicas(self).list.push_back(used);
                continue;
            }
            if let Some(removed) = K::shard_mut(self).remove(copied.flow) {
                self.settle(env, &removed);
                self.stats.event(Event::FlowsEvicted).add(1);
            }
            return;
        }
    }
}
