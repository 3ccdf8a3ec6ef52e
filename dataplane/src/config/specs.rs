//! Specifications of one configuration after the other: what stays is not made again.

use std::collections::HashMap;
use std::sync::Arc;

use super::model::{Config, Service};
use super::service_spec;
use crate::snapshot::differing;
use crate::snapshot::spec::{ServiceSpec, Spec};
use crate::types::Mac;

/// The virtual services of the configuration before, and what was made of each.
#[derive(Debug, Default)]
pub struct Specs {
    services: Vec<Arc<Service>>,
    specs: Vec<Arc<ServiceSpec>>,
}

impl Specs {
    /// As [`Config::spec`]. A virtual service that is the one of the configuration before has the
    /// very specification it had.
    pub fn of(&mut self, config: &Config, ports: &[(Mac, u16)]) -> Spec {
        let (old, new) = differing(&self.services, &config.services);
        // The lists have the same before and after those that differ.
        let first = self.services.iter().zip(&config.services).take_while(|(a, b)| a == b).count();
        let last = self.services.len() - old.len() - first;
        let between = &self.specs[first..self.specs.len() - last];
        let known: HashMap<*const Service, &Arc<ServiceSpec>> =
            old.iter().map(Arc::as_ptr).zip(between).collect();
        let of = |service: &Arc<Service>| match known.get(&Arc::as_ptr(service)) {
            Some(spec) => Arc::clone(spec),
            None => Arc::new(service_spec(service)),
        };
        let mut specs = Vec::with_capacity(config.services.len());
        specs.extend_from_slice(&self.specs[..first]);
        specs.extend(new.iter().map(of));
        specs.extend_from_slice(&self.specs[self.specs.len() - last..]);
        self.services.clone_from(&config.services);
        self.specs.clone_from(&specs);
        config.spec_of(ports, specs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Protocol;
    use crate::vocabulary::SchedulerKind;

    fn service(port: u16) -> Arc<Service> {
        let address = format!("192.0.2.80:{port}").parse().unwrap();
        Arc::new(Service::new(Protocol::Tcp, address, SchedulerKind::Rr))
    }

    proptest! {
        #[test]
        fn it_is_what_the_configuration_says_and_shares_what_it_can(
            steps in proptest::collection::vec(
                proptest::collection::btree_map(1..20u16, any::<bool>(), 0..8), 1..6),
            turned in any::<bool>(),
        ) {
            let kept: Vec<_> = (0..20).map(service).collect();
            let mut specs = Specs::default();
            let mut before: Vec<(Arc<Service>, Arc<ServiceSpec>)> = Vec::new();
            for step in steps {
                let one = |(port, shared): (u16, bool)| match shared {
                    true => Arc::clone(&kept[usize::from(port)]),
                    false => service(port),
                };
                let mut services: Vec<_> = step.into_iter().map(one).collect();
                if turned {
                    services.reverse();
                }
                let config = Config { services: services.clone(), ..Config::default() };
                let spec = specs.of(&config, &[]);
                prop_assert_eq!(&spec, &config.spec(&[]));
                for (service, spec) in services.iter().zip(&spec.services) {
                    let was_there = before.iter().any(|(had, _)| Arc::ptr_eq(had, service));
                    let is_old = before.iter().any(|(_, had)| Arc::ptr_eq(had, spec));
                    prop_assert!(is_old || !was_there);
                }
                before = services.into_iter().zip(spec.services).collect();
            }
        }
    }
}
