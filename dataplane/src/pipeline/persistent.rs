//! New flows of persistent virtual services: the real server their client is bound to.
//!
//! Follows `ip_vs_sched_persist` and `ip_vs_check_template` of LVS: a template whose real server
//! is gone binds afresh; a full one keeps its clients; one of weight 0 does, unless
//! `expire_quiescent_template` is set.

use super::balance::makes_flow;
use super::family::Key;
use super::{Env, FlowOf, Pipeline};
use crate::flow::{Removed, State};
use crate::packet::buf::PacketBuf;
use crate::persist::{Bound, Network, NetworkKey, Templates};
use crate::snapshot::{Persistence, Service, Snapshot};
use crate::stats::Event;
use crate::types::{RealId, ServiceId, Tick};

/// All templates are looked through at least this often, milliseconds; far below
/// [`Tick::MAX_SPAN`].
const SWEEP_PERIOD_MS: u32 = 600_000;

/// Templates looked at in one go: a bound on the gap between two bursts.
const SWEEP_BUDGET: usize = 256;

impl Persistence {
    /// The template's key of a client of `service`.
    fn network<K: Key>(&self, service: ServiceId, key: &K) -> NetworkKey<K::Address> {
        NetworkKey { service, network: key.network(self.netmask) }
    }

    /// Whether a client may go on to the real server of its template.
    fn may_go_on(&self, snapshot: &Snapshot, real: RealId, service: ServiceId) -> bool {
        snapshot
            .real(real)
            .is_some_and(|r| r.service == service && !(self.expire_quiescent && r.quiescent))
    }
}

/// The template's key of a flow to `real`, if its service is persistent. The service is the real
/// server's: the flow's L4 port may have been given to another since.
fn network_of<K: Key>(
    snapshot: &Snapshot,
    key: &K,
    real: RealId,
) -> Option<NetworkKey<K::Address>> {
    let of_port = || key.find_service(snapshot);
    let service = snapshot.real(real).map(|r| r.service).or_else(of_port)?;
    let persistence = snapshot.service(service)?.persistence.as_ref()?;
    Some(persistence.network(service, key))
}

impl<B: PacketBuf> Pipeline<B> {
    /// The real server of a new flow: that of its client's template, else the scheduler's, which
    /// the client is bound to then.
    #[inline(never)]
    pub(super) fn pick_bound<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        service: &Service,
        persistence: &Persistence,
        flow: &FlowOf<K>,
    ) -> Option<RealId> {
        let (snapshot, now, span) = (env.snapshot, env.now, persistence.span);
        let key = persistence.network(flow.service, &flow.key);
        let usable = |real| persistence.may_go_on(snapshot, real, flow.service);
        if !makes_flow(flow.event, snapshot.switches.sloppy_tcp) {
            // A connection that is over restarts no timer.
            let bound = K::templates(self).bound(&key, now).filter(|real| usable(*real));
            return bound.or_else(|| self.pick(service, flow.service, &flow.key, now));
        }
        if let Some(real) = K::templates(self).restart(&key, span, now, usable) {
            return Some(real);
        }
        let picked = self.pick(service, flow.service, &flow.key, now)?;
        match K::templates(self).bind(&key, picked, span, now, usable) {
            // Another worker was faster.
            Bound::Kept(real) => return Some(real),
            Bound::New { evicted } => {
                self.stats.event(Event::TemplatesCreated).add(1);
                self.stats.event(Event::TemplatesEvicted).add(evicted.into());
            }
            Bound::Failed => self.stats.event(Event::TemplatesLost).add(1),
        }
        Some(picked)
    }

    /// Where a flow that no worker has would go on to.
    pub(super) fn bound<K: Key, P, O>(
        &self,
        env: &Env<'_, P, O>,
        service: ServiceId,
        key: &K,
    ) -> Option<RealId> {
        let persistence = env.snapshot.service(service)?.persistence.as_ref()?;
        let bound = K::templates(self).bound(&persistence.network(service, key), env.now);
        bound.filter(|real| persistence.may_go_on(env.snapshot, *real, service))
    }

    /// Counts a flow for its template; one that begins in the middle assures it.
    #[inline(never)]
    pub(super) fn hold_bound<K: Key, P, O>(
        &self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
        real: RealId,
    ) {
        let service = env.snapshot.service(flow.service);
        if let Some(persistence) = service.and_then(|s| s.persistence.as_ref()) {
            let key = persistence.network(flow.service, &flow.key);
            K::templates(self).hold(&key, real);
            if State::opening(flow.event) == State::Established {
                K::templates(self).assure(&key, real);
            }
        }
    }

    /// A flow of a client is established (`ip_vs_control_assure_ct` of LVS, which tells of UDP by
    /// replies only, and so never with direct server return).
    #[inline(never)]
    pub(super) fn assure_bound<K: Key, P, O>(&self, env: &Env<'_, P, O>, key: &K, real: RealId) {
        if let Some(network) = network_of(env.snapshot, key, real) {
            K::templates(self).assure(&network, real);
        }
    }

    /// A flow of a client has proven itself, and with it that the client is one.
    #[inline(never)]
    pub(super) fn prove_bound<K: Key, P, O>(&self, env: &Env<'_, P, O>, key: &K, real: RealId) {
        if let Some(network) = network_of(env.snapshot, key, real) {
            K::templates(self).prove(&network, real);
        }
    }

    /// Takes a flow that has left the table off its template.
    #[inline(never)]
    pub(super) fn release_bound<K: Key, P, O>(&self, env: &Env<'_, P, O>, removed: &Removed<K>) {
        if let Some(key) = network_of(env.snapshot, &removed.key, removed.real) {
            K::templates(self).release(&key, removed.real, env.now);
        }
    }

    /// The first worker's part for all: removes templates that are over, `elapsed` milliseconds
    /// after the last time.
    pub(super) fn sweep_templates(&self, now: Tick, elapsed: u32) {
        sweep(&self.templates.v4, now, elapsed);
        sweep(&self.templates.v6, now, elapsed);
        self.stats.event(Event::Templates).set(self.templates.len() as u64);
    }
}

fn sweep<A: Network>(templates: &Templates<A>, now: Tick, elapsed: u32) {
    if !templates.is_empty() {
        let due = u64::from(elapsed) * templates.places() as u64 / u64::from(SWEEP_PERIOD_MS);
        templates.sweep(now, (due as usize + 1).min(SWEEP_BUDGET));
    }
}
