//! New flows of persistent virtual services: the real server their client is bound to.
//!
//! Follows `ip_vs_sched_persist` and `ip_vs_check_template` of LVS: a template whose real server
//! is gone binds afresh; a full one keeps its clients; one of weight 0 does, unless
//! `expire_quiescent_template` is set.

use super::balance::makes_flow;
use super::{Env, FlowOf, Pipeline};
use crate::flow::Removed;
use crate::packet::buf::PacketBuf;
use crate::persist::{Bound, NetworkKey, Templates};
use crate::snapshot::{Persistence, Service, Snapshot};
use crate::stats::Event;
use crate::types::{FlowKey, RealId, ServiceId, Tick};

/// All templates are looked through at least this often, milliseconds; far below
/// [`Tick::MAX_SPAN`].
const SWEEP_PERIOD_MS: u32 = 600_000;

/// Templates looked at in one go: a bound on the gap between two bursts.
const SWEEP_BUDGET: usize = 256;

impl Persistence {
    /// The template's key of a client of `service`.
    fn network(&self, service: ServiceId, key: &FlowKey) -> NetworkKey {
        NetworkKey { service, network: self.netmask.network4(key.client) }
    }

    /// Whether a client may go on to the real server of its template.
    fn may_go_on(&self, snapshot: &Snapshot, real: RealId, service: ServiceId) -> bool {
        snapshot
            .real(real)
            .is_some_and(|r| r.service == service && !(self.expire_quiescent && r.quiescent))
    }
}

/// The template's key of a flow, if its service is persistent.
fn network_of(snapshot: &Snapshot, key: &FlowKey) -> Option<NetworkKey> {
    let service = snapshot.find_service(key.vip, key.vip_port, key.protocol)?;
    let persistence = snapshot.service(service)?.persistence.as_ref()?;
    Some(persistence.network(service, key))
}

impl<B: PacketBuf> Pipeline<B> {
    /// The real server of a new flow: that of its client's template, else the scheduler's, which
    /// the client is bound to then.
    #[inline(never)]
    pub(super) fn pick_bound<P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        service: &Service,
        persistence: &Persistence,
        flow: &FlowOf,
    ) -> Option<RealId> {
        let (snapshot, now, span) = (env.snapshot, env.now, persistence.span);
        let key = persistence.network(flow.service, &flow.key);
        let usable = |real| persistence.may_go_on(snapshot, real, flow.service);
        if !makes_flow(flow.event) {
            // A connection that is over restarts no timer.
            let bound = self.templates.bound(&key, now).filter(|real| usable(*real));
            return bound.or_else(|| self.pick(service, flow.service, &flow.key, now));
        }
        if let Some(real) = self.templates.restart(&key, span, now, usable) {
            return Some(real);
        }
        let picked = self.pick(service, flow.service, &flow.key, now)?;
        match self.templates.bind(&key, picked, span, now, usable) {
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
    pub(super) fn bound<P, O>(
        &self,
        env: &Env<'_, P, O>,
        service: ServiceId,
        key: &FlowKey,
    ) -> Option<RealId> {
        let persistence = env.snapshot.service(service)?.persistence.as_ref()?;
        let bound = self.templates.bound(&persistence.network(service, key), env.now);
        bound.filter(|real| persistence.may_go_on(env.snapshot, *real, service))
    }

    /// Counts a flow for its template.
    #[inline(never)]
    pub(super) fn hold_bound<P, O>(&self, env: &Env<'_, P, O>, flow: &FlowOf, real: RealId) {
        let service = env.snapshot.service(flow.service);
        if let Some(persistence) = service.and_then(|s| s.persistence.as_ref()) {
            self.templates.hold(&persistence.network(flow.service, &flow.key), real);
        }
    }

    /// Takes a flow that has left the table off its template.
    #[inline(never)]
    pub(super) fn release_bound<P, O>(&self, env: &Env<'_, P, O>, removed: &Removed) {
        if let Some(key) = network_of(env.snapshot, &removed.key) {
            self.templates.release(&key, removed.real, env.now);
        }
    }

    /// The first worker's part for all: removes templates that are over, `elapsed` milliseconds
    /// after the last time.
    pub(super) fn sweep_templates(&self, now: Tick, elapsed: u32) {
        let templates: &Templates = &self.templates;
        if !templates.is_empty() {
            let due = u64::from(elapsed) * templates.places() as u64 / u64::from(SWEEP_PERIOD_MS);
            templates.sweep(now, (due as usize + 1).min(SWEEP_BUDGET));
        }
        self.stats.event(Event::Templates).set(templates.len() as u64);
    }
}
