//! What differs between two configurations, in the operator's words.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::model::{Config, Neighbor, Real, Service};
use super::text::Text;
use crate::snapshot::differing;

/// What happens to the subject of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Add,
    /// It is gone.
    Remove,
    /// It stays, with other values.
    Change,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What happens to it.
    pub action: Action,
    /// A virtual service, real server, neighbor, port, or a key such as `timeouts.tcp`.
    pub subject: String,
    /// Its values, or how they change; empty when the subject says all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Only a restart of the daemon brings it about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.action {
            Action::Add => '+',
            Action::Remove => '-',
            Action::Change => '~',
        };
        write!(f, "{sign} {}", self.subject)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if self.restart {
            f.write_str(" (needs a restart)")?;
        }
        Ok(())
    }
}

impl Config {
    /// What changes when `new` takes the place of `self`. Empty when only the order of services,
    /// real servers or neighbors differs, which means nothing to the data plane.
    pub fn diff(&self, new: &Config) -> Vec<Change> {
        let mut changes = Vec::new();
        table("dataplane", &self.dataplane, &new.dataplane, true, &mut changes);
        table("control", &self.control, &new.control, true, &mut changes);
        table("timeouts", &self.timeouts, &new.timeouts, false, &mut changes);
        table("scheduling", &self.scheduling, &new.scheduling, false, &mut changes);
        self.diff_ports(new, &mut changes);
        if self.neighbors != new.neighbors {
            self.diff_neighbors(new, &mut changes);
        }
        self.diff_services(new, &mut changes);
        changes
    }

    fn diff_ports(&self, new: &Config, changes: &mut Vec<Change>) {
        let names = |config: &Config| -> Vec<String> {
            config.ports.iter().map(|p| p.name.clone()).collect()
        };
        let subject = |name: &str| format!("port {name}");
        for old in &self.ports {
            match new.ports.iter().find(|p| p.name == old.name) {
                None => changes.push(change(Action::Remove, subject(&old.name), "", true)),
                Some(port) => thing(&subject(&old.name), old, port, true, changes),
            }
        }
        for port in &new.ports {
            if !self.ports.iter().any(|p| p.name == port.name) {
                changes.push(change(Action::Add, subject(&port.name), "", true));
            }
        }
        let (before, after) = (names(self), names(new));
        let same_set = before.len() == after.len() && before.iter().all(|n| after.contains(n));
        if same_set && before != after {
            let detail = format!("{} -> {}", before.join(", "), after.join(", "));
            changes.push(change(Action::Change, "order of ports".to_owned(), detail, true));
        }
    }

    fn diff_neighbors(&self, new: &Config, changes: &mut Vec<Change>) {
        let subject = |n: &Neighbor| format!("neighbor {} on port {}", n.address, n.port);
        let find = |all: &[Neighbor], n: &Neighbor| {
            all.iter().find(|o| o.address == n.address && o.port == n.port).map(|o| o.mac)
        };
        for old in &self.neighbors {
            match find(&new.neighbors, old) {
                None => changes.push(change(Action::Remove, subject(old), "", false)),
                Some(mac) if mac != old.mac => {
                    let detail = format!("mac {} -> {mac}", old.mac);
                    changes.push(change(Action::Change, subject(old), detail, false));
                }
                Some(_) => {}
            }
        }
        for neighbor in &new.neighbors {
            if find(&self.neighbors, neighbor).is_none() {
                let detail = format!("mac {}", neighbor.mac);
                changes.push(change(Action::Add, subject(neighbor), detail, false));
            }
        }
    }

    fn diff_services(&self, new: &Config, changes: &mut Vec<Change>) {
        let (old, new) = differing(&self.services, &new.services);
        let index = |services: &[Arc<Service>]| -> HashMap<_, _> {
            services.iter().enumerate().map(|(i, s)| (s.key(), i)).collect()
        };
        let (before, after) = (index(old), index(new));
        let subject = |service: &Service| format!("service {}", service.key());
        for old in old {
            let Some(service) = after.get(&old.key()).map(|i| &new[*i]) else {
                changes.push(change(Action::Remove, subject(old), "", false));
                continue;
            };
            if old == service {
                continue;
            }
            let (was, is) = (old.without_reals(), service.without_reals());
            if was != is {
                thing(&subject(old), &was, &is, false, changes);
            }
            diff_reals(old, service, changes);
        }
        for service in new {
            if !before.contains_key(&service.key()) {
                changes.push(change(Action::Add, subject(service), added(service), false));
                diff_reals(&service.without_reals(), service, changes);
            }
        }
    }
}

/// The settings of a new virtual service that are not as they are by themselves.
fn added(service: &Service) -> String {
    let mut detail = format!("scheduler {}", service.scheduler);
    if !service.scheduler_flags.is_empty() {
        detail = format!("{detail}, scheduler_flags {}", service.scheduler_flags);
    }
    if service.one_packet {
        detail = format!("{detail}, one_packet");
    }
    if let Some(time) = service.persistence {
        detail = format!("{detail}, persistence {}", time.write());
    }
    if let Some(netmask) = service.persistence_netmask {
        detail = format!("{detail}, persistence_netmask {netmask}");
    }
    detail
}

fn diff_reals(old: &Service, new: &Service, changes: &mut Vec<Change>) {
    let by_address = |reals: &[Real]| -> HashMap<IpAddr, Real> {
        reals.iter().map(|r| (r.address, r.clone())).collect()
    };
    let key = new.key();
    let (old, new) = differing(&old.reals, &new.reals);
    let (before, after) = (by_address(old), by_address(new));
    let subject = |real: &Real| format!("real server {} of {key}", real.address);
    for real in old {
        match after.get(&real.address) {
            None => changes.push(change(Action::Remove, subject(real), "", false)),
            Some(other) if other == real => {}
            Some(other) => thing(&subject(real), real, other, false, changes),
        }
    }
    for real in new.iter().filter(|r| !before.contains_key(&r.address)) {
        let mut detail = format!("weight {}, forward {}", real.weight, real.forward);
        for (name, threshold) in
            [("upper_threshold", real.upper_threshold), ("lower_threshold", real.lower_threshold)]
        {
            if threshold > 0 {
                detail = format!("{detail}, {name} {threshold}");
            }
        }
        changes.push(change(Action::Add, subject(real), detail, false));
    }
}

fn change(action: Action, subject: String, detail: impl Into<String>, restart: bool) -> Change {
    Change { action, subject, detail: detail.into(), restart }
}

/// A change of each key of a table with one name, such as `timeouts.tcp`.
fn table<T: Serialize + PartialEq>(
    name: &str,
    old: &T,
    new: &T,
    restart: bool,
    changes: &mut Vec<Change>,
) {
    if old == new {
        return;
    }
    changes.extend(
        fields(old, new)
            .into_iter()
            .map(|(key, values)| change(Action::Change, format!("{name}.{key}"), values, restart)),
    );
}

/// One change for all keys of a thing, such as a port.
fn thing<T: Serialize>(subject: &str, old: &T, new: &T, restart: bool, changes: &mut Vec<Change>) {
    let fields = fields(old, new);
    if !fields.is_empty() {
        let detail: Vec<_> = fields.iter().map(|(key, values)| format!("{key} {values}")).collect();
        changes.push(change(Action::Change, subject.to_owned(), detail.join(", "), restart));
    }
}

/// The keys that differ, with both values.
fn fields<T: Serialize>(old: &T, new: &T) -> Vec<(String, String)> {
    let keys_of = |value: &T| match toml::Value::try_from(value) {
        Ok(toml::Value::Table(table)) => table,
        _ => toml::Table::new(),
    };
    let (old, new) = (keys_of(old), keys_of(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let shown = |key: &str, value: Option<&toml::Value>| match value {
        // The key of the hash schedulers is a secret, and changes end up in logs.
        Some(_) if key == "hash_key" => "(secret)".to_owned(),
        Some(value) => value.to_string(),
        None => "unset".to_owned(),
    };
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| {
            let values = format!("{} -> {}", shown(key, old.get(key)), shown(key, new.get(key)));
            (key.clone(), values)
        })
        .collect()
}
