//! The configuration file: read, checked, compared, written.
//!
//! The control socket changes a [`Config`] too; what it makes is checked by the same rules.
#![forbid(unsafe_code)]

mod buffers;
mod check;
mod decode;
mod diff;
mod draft;
mod error;
mod locate;
mod model;
pub mod read;
mod specs;
mod text;
mod warn;
mod write;

use std::path::Path;
use std::sync::Arc;

pub use buffers::{DESCRIPTORS, LCORE_CACHE, mbufs_needed};
pub use check::{MAX_FLOWS, MAX_LCORES, MAX_SOCKET_PATH, MAX_TEXT, MTU_RANGE, TIMEOUT_RANGE};
pub use diff::{Action, Change};
pub use draft::Draft;
pub use error::{ConfigError, Issue};
pub(crate) use model::is_zero;
pub use model::{
    Config, Control, DEFAULT_HASH_KEY, DEFAULT_SOCKET, Dataplane, Gre, Neighbor, Port, Real,
    Scheduling, Service, Timeouts, default_forward, default_scheduler, default_weight,
};
pub use specs::Specs;
pub(crate) use text::{Text, option as text_option, value as text_value};
pub use write::Saved;

use crate::schedule::Thresholds;
use crate::snapshot::spec::{
    self, GreSpec, Persistence, PortSpec, RealSpec, ServiceOptions, ServiceSpec, Spec,
    StaticNeighbor,
};
use crate::types::{Mac, Netmask};
use locate::Source;

/// Most issues reported at once.
const MAX_ISSUES: usize = 100;

/// Reads and checks a configuration file, which must be a regular one.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text =
        read::regular(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    Config::parse(&text, &path.display().to_string())
}

impl Config {
    /// Reads and checks a configuration; `file` names it in errors.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        let invalid = |mut issues: Vec<Issue>| {
            issues.sort_by_key(|issue| (issue.line, issue.column));
            Err(ConfigError::Invalid { file: Some(file.to_owned()), issues })
        };
        let (root, errors) = toml::de::DeTable::parse_recoverable(text);
        let source = Source::new(text, &root);
        if !errors.is_empty() {
            let syntax = |e: &toml::de::Error| {
                let span = e.span().unwrap_or(0..0);
                let message = match (e.message(), text.get(span.clone())) {
                    ("duplicate key", Some(key)) => format!("key `{key}` is written twice"),
                    (message, _) => message.to_owned(),
                };
                source.issue_at(span.start, "", &message)
            };
            return invalid(errors.iter().take(MAX_ISSUES).map(syntax).collect());
        }
        let config = match decode::config(&source, root.get_ref()) {
            Ok(config) => config,
            Err(issues) => return invalid(issues),
        };
        let findings = check::all(&config).0;
        if findings.is_empty() {
            return Ok(config);
        }
        let located = findings.into_iter().take(MAX_ISSUES);
        invalid(located.map(|(path, message)| source.issue(&path, &message)).collect())
    }

    /// Checks a configuration that is not from a file.
    pub fn validate(&self) -> Result<(), ConfigError> {
        unlocated(check::all(self))
    }

    /// What workers and slow path forward by. `ports` has the Ethernet address and the MTU in
    /// use of each started port, in the order of [`Config::ports`]; one that is missing there has
    /// the address zero and its configured MTU.
    pub fn spec(&self, ports: &[(Mac, u16)]) -> Spec {
        self.spec_of(ports, self.services.iter().map(|s| Arc::new(service_spec(s))).collect())
    }

    fn spec_of(&self, ports: &[(Mac, u16)], services: Vec<Arc<ServiceSpec>>) -> Spec {
        let neighbor =
            |n: &Neighbor| StaticNeighbor { port: n.port.clone(), address: n.address, mac: n.mac };
        let Timeouts { tcp, tcp_fin, udp } = self.timeouts;
        Spec {
            ports: self.port_specs(ports),
            services,
            neighbors: self.neighbors.iter().map(neighbor).collect(),
            timeouts: spec::Timeouts { tcp, tcp_fin, udp },
            hash_key: self.scheduling.hash_key.unwrap_or(DEFAULT_HASH_KEY),
            maglev_size: self.scheduling.maglev_size,
            switches: self.scheduling.switches(),
        }
    }

    fn port_specs(&self, hardware: &[(Mac, u16)]) -> Vec<PortSpec> {
        let spec = |(i, port): (usize, &Port)| {
            let (mac, mtu) = hardware.get(i).copied().unwrap_or((Mac::ZERO, port.mtu));
            PortSpec {
                name: port.name.clone(),
                mac,
                mtu,
                addresses: port.address.clone(),
                gateways: port.gateway.clone(),
            }
        };
        self.ports.iter().enumerate().map(spec).collect()
    }
}

/// An error if anything was found, in what is no file.
fn unlocated(findings: check::Findings) -> Result<(), ConfigError> {
    let issue =
        |(path, message): (error::Path, String)| Issue::new(None, &error::dotted(&path), &message);
    let issues: Vec<_> = findings.0.into_iter().take(MAX_ISSUES).map(issue).collect();
    if issues.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { file: None, issues }) }
}

fn real_spec(real: &Real) -> RealSpec {
    let gre = real.gre.unwrap_or_default();
    RealSpec {
        address: real.address,
        weight: real.weight,
        method: real.forward,
        gre: GreSpec { checksum: gre.checksum, key: gre.key },
        thresholds: Thresholds { upper: real.upper_threshold, lower: real.lower_threshold },
    }
}

fn service_spec(service: &Service) -> ServiceSpec {
    let netmask =
        service.persistence_netmask.unwrap_or_else(|| Netmask::one_client(service.address.vip));
    ServiceSpec {
        key: service.key(),
        scheduler: service.scheduler,
        options: ServiceOptions {
            flags: service.scheduler_flags,
            one_packet: service.one_packet,
            persistence: service.persistence.map(|timeout| Persistence { timeout, netmask }),
        },
        reals: service.reals.iter().map(real_spec).collect(),
    }
}
