//! What was learned of real servers, as it lies over what is configured.
//!
//! A snapshot is compiled from the two: [`super::spec::Spec`] says what somebody configured, an
//! `Overlay` what the director has found out since. News come as events ([`News`]), many at once if
//! they belong together, and a compilation goes through what they touch and no more. What is learned
//! is never written into a configuration, so that none that is saved or shown has any of it; it ends
//! with the real server it is about.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::spec::RealSpec;
use crate::schedule::MAX_WEIGHT;
use crate::types::ServiceKey;
use crate::vocabulary::ForwardMethod;

/// Longest outer packets that reach real servers behind tunnels, in bytes, by RIP; those that are as
/// long as the egress port takes are left out.
pub type PathMtus = BTreeMap<IpAddr, u16>;

/// A real server of a virtual service, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RealName {
    /// The virtual service.
    pub service: ServiceKey,
    /// RIP.
    pub real: IpAddr,
}

/// Whether a real server is in use. The later ones outweigh those before.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It gets flows by its weight.
    #[default]
    Up,
    /// It gets no new flows, and keeps those it has: as with weight 0.
    Draining,
    /// As if it were not configured, but for its slot, which it keeps: its flows end, or wait for it
    /// where flows wait for real servers (`expire_nodest_conn = false`).
    Removed,
}

impl Standing {
    /// Whether it is [`Standing::Up`].
    pub fn is_up(&self) -> bool {
        *self == Standing::Up
    }
}

/// Who found something out. Each says its own, and takes back its own only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A health check.
    Health,
    /// The operator, for a time, such as for maintenance.
    Operator,
    /// The real server itself, which tells how much it can take.
    Announced,
}

/// How many [`Cause`]s there are.
const CAUSES: usize = 3;

/// What becomes of a real server by what was learned. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Effect {
    /// Whether it is in use.
    pub standing: Standing,
    /// Its share of new flows in place of the configured weight, on the same scale: 0 to 65535.
    pub weight: Option<u32>,
}

impl Effect {
    /// A real server that is in use, by its configured weight.
    pub const NONE: Effect = Effect { standing: Standing::Up, weight: None };

    /// Both at once: the worse standing, the smaller weight.
    #[must_use]
    pub fn and(self, other: Effect) -> Effect {
        let weight = match (self.weight, other.weight) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Effect { standing: self.standing.max(other.standing), weight }
    }

    /// The share of new flows that a real server of this configured weight gets: none if it is not
    /// in use, or configured to get none.
    pub fn weight_of(self, configured: u32) -> u32 {
        match self.standing {
            Standing::Up if configured > 0 => {
                self.weight.map_or(configured, |weight| weight.min(MAX_WEIGHT))
            }
            _ => 0,
        }
    }
}

/// Something that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All path MTUs that are known now.
    PathMtus(PathMtus),
    /// What `cause` says of a real server from now on; [`Effect::NONE`] takes back what it said.
    /// A real server that is not configured is passed over.
    Real {
        /// Which.
        name: RealName,
        /// Who says so.
        cause: Cause,
        /// What becomes of it.
        effect: Effect,
    },
}

/// Of one real server, by cause.
type ByCause = [Effect; CAUSES];

/// Everything learned that is in force, or will be with the next compilation.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    path_mtus: PathMtus,
    reals: HashMap<ServiceKey, HashMap<IpAddr, ByCause>>,
    /// Virtual services of which something was learned since the last compilation.
    dirty: BTreeSet<ServiceKey>,
}

/// What lies over the specification of one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) standing: Standing,
    /// The effective one.
    pub(super) weight: u32,
    /// Of the way there, if it is narrower than the egress port may be.
    pub(super) path_mtu: Option<u16>,
}

impl Overlay {
    /// Takes up what is said of a real server that is configured.
    pub(super) fn set(&mut self, name: RealName, cause: Cause, effect: Effect) {
        let reals = self.reals.entry(name.service).or_default();
        let said = reals.entry(name.real).or_default();
        if std::mem::replace(&mut said[cause as usize], effect) != effect {
            self.dirty.insert(name.service);
        }
        if said.iter().all(|effect| *effect == Effect::NONE) {
            self.forget(&name);
        }
    }

    /// Takes up path MTUs; `services` names the virtual services of a RIP.
    pub(super) fn set_path_mtus<S: IntoIterator<Item = ServiceKey>>(
        &mut self,
        path_mtus: PathMtus,
        services: impl Fn(IpAddr) -> S,
    ) {
        let before = std::mem::replace(&mut self.path_mtus, path_mtus);
        let now = &self.path_mtus;
        let rips = before.keys().chain(now.keys());
        for rip in rips.filter(|rip| before.get(*rip) != now.get(*rip)) {
            self.dirty.extend(services(*rip));
        }
    }

    pub(super) const fn path_mtus(&self) -> &PathMtus {
        &self.path_mtus
    }

    /// A real server is no longer configured.
    pub(super) fn forget(&mut self, name: &RealName) {
        if let Some(reals) = self.reals.get_mut(&name.service) {
            reals.remove(&name.real);
            if reals.is_empty() {
                self.reals.remove(&name.service);
            }
        }
    }

    /// What all causes together say of a real server.
    pub(super) fn effect(&self, name: &RealName) -> Effect {
        let said = self.reals.get(&name.service).and_then(|reals| reals.get(&name.real));
        said.into_iter().flatten().copied().fold(Effect::NONE, Effect::and)
    }

    /// What lies over each real server of a virtual service, in its order.
    pub(super) fn over(&self, service: &ServiceKey, reals: &[RealSpec]) -> Vec<Over> {
        let known = self.reals.get(service);
        let over = |real: &RealSpec| {
            let said = known.and_then(|reals| reals.get(&real.address));
            let effect = said.into_iter().flatten().copied().fold(Effect::NONE, Effect::and);
            let tunnelled = real.method != ForwardMethod::Dr && !self.path_mtus.is_empty();
            Over {
                standing: effect.standing,
                weight: effect.weight_of(real.weight),
                path_mtu: self.path_mtus.get(&real.address).copied().filter(|_| tunnelled),
            }
        };
        reals.iter().map(over).collect()
    }

    /// The virtual services that the next compilation has to look at.
    pub(super) fn dirty(&self) -> impl Iterator<Item = &ServiceKey> {
        self.dirty.iter()
    }

    pub(super) fn is_dirty(&self, service: &ServiceKey) -> bool {
        self.dirty.contains(service)
    }

    /// All of it is in force.
    pub(super) fn settle(&mut self) {
        self.dirty.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Protocol;

    #[test]
    fn causes_add_up_and_each_takes_back_its_own() {
        let vip = IpAddr::from([192, 0, 2, 80]);
        let service = ServiceKey { protocol: Protocol::Tcp, vip, ports: 80.into() };
        let name = RealName { service, real: [10, 0, 0, 1].into() };
        let mut overlay = Overlay::default();
        let draining = Effect { standing: Standing::Draining, weight: None };
        let removed = Effect { standing: Standing::Removed, weight: Some(90) };
        let light = Effect { standing: Standing::Up, weight: Some(40) };
        for (cause, effect, both) in [
            (Cause::Operator, draining, draining),
            (Cause::Health, removed, removed),
            (Cause::Announced, light, Effect { weight: Some(40), ..removed }),
            (Cause::Health, Effect::NONE, Effect { weight: Some(40), ..draining }),
            (Cause::Operator, Effect::NONE, light),
        ] {
            overlay.set(name, cause, effect);
            assert_eq!(overlay.effect(&name), both);
            assert!(overlay.is_dirty(&service));
            overlay.settle();
        }
        overlay.set(name, Cause::Announced, light);
        assert!(!overlay.is_dirty(&service), "it said so before");
        overlay.set(name, Cause::Announced, Effect::NONE);
        assert!(overlay.is_dirty(&service));
        assert!(overlay.reals.is_empty(), "nothing is kept of nothing");
    }

    #[test]
    fn a_weight_stays_on_the_scale_and_raises_none_that_is_configured_to_drain() {
        let weight = |standing, weight| Effect { standing, weight };
        for (effect, configured, effective) in [
            (Effect::NONE, 5, 5),
            (weight(Standing::Up, Some(3)), 5, 3),
            (weight(Standing::Up, Some(9)), 5, 9),
            (weight(Standing::Up, Some(70_000)), 5, 65_535),
            (weight(Standing::Up, Some(9)), 0, 0),
            (weight(Standing::Up, Some(0)), 5, 0),
            (weight(Standing::Draining, Some(9)), 5, 0),
            (weight(Standing::Removed, None), 5, 0),
        ] {
            assert_eq!(effect.weight_of(configured), effective, "{effect:?}");
        }
    }
}
