//! Options of the hash schedulers, as `ipvsadm --sched-flags` names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SchedulerKind;

/// A set of scheduler flags, each for one scheduler (`ipvsadm -b`).
///
/// As text, the names separated by commas, `none` when there is none; in files and requests a
/// list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SchedulerFlags(u8);

impl SchedulerFlags {
    /// None of them.
    pub const NONE: SchedulerFlags = SchedulerFlags(0);
    /// `sh-fallback`: when the client's real server is full, another takes its new flows.
    pub const SH_FALLBACK: SchedulerFlags = SchedulerFlags(1);
    /// `sh-port`: the client's L4 port is hashed beside its address.
    pub const SH_PORT: SchedulerFlags = SchedulerFlags(2);
    /// `mh-fallback`: when the client's real server is full, another takes its new flows.
    pub const MH_FALLBACK: SchedulerFlags = SchedulerFlags(4);
    /// `mh-port`: the client's L4 port is hashed beside its address.
    pub const MH_PORT: SchedulerFlags = SchedulerFlags(8);

    /// Every flag with its name and its scheduler, in the order they are written.
    pub const ALL: &'static [(SchedulerFlags, &'static str, SchedulerKind)] = &[
        (SchedulerFlags::SH_FALLBACK, "sh-fallback", SchedulerKind::Sh),
        (SchedulerFlags::SH_PORT, "sh-port", SchedulerKind::Sh),
        (SchedulerFlags::MH_FALLBACK, "mh-fallback", SchedulerKind::Mh),
        (SchedulerFlags::MH_PORT, "mh-port", SchedulerKind::Mh),
    ];

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Whether all of `flags` are in it.
    pub const fn has(self, flags: SchedulerFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and those.
    pub const fn with(self, flags: SchedulerFlags) -> SchedulerFlags {
        SchedulerFlags(self.0 | flags.0)
    }

    /// Those that mean something to `scheduler`.
    pub fn of(self, scheduler: SchedulerKind) -> SchedulerFlags {
        let its = Self::ALL.iter().filter(|(flag, _, kind)| self.has(*flag) && *kind == scheduler);
        its.fold(SchedulerFlags::NONE, |set, (flag, ..)| set.with(*flag))
    }

    /// Whether the client's L4 port is hashed.
    pub const fn hashes_port(self) -> bool {
        self.has(Self::SH_PORT) || self.has(Self::MH_PORT)
    }

    /// Whether another real server stands in for one that is full.
    pub const fn falls_back(self) -> bool {
        self.has(Self::SH_FALLBACK) || self.has(Self::MH_FALLBACK)
    }

    /// The names of those in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(flag, ..)| self.has(*flag)).map(|(_, name, _)| *name)
    }

    /// The flag of this name.
    fn named(name: &str) -> Result<SchedulerFlags, String> {
        let found = Self::ALL.iter().find(|(_, known, _)| *known == name);
        found.map(|(flag, ..)| *flag).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(_, name, _)| *name).collect();
            format!("unknown scheduler flag {name:?} (expected {})", names.join(", "))
        })
    }
}

impl fmt::Display for SchedulerFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.pad(&if names.is_empty() { "none".to_owned() } else { names.join(",") })
    }
}

impl FromStr for SchedulerFlags {
    type Err = String;

    fn from_str(text: &str) -> Result<SchedulerFlags, String> {
        if text == "none" {
            return Ok(SchedulerFlags::NONE);
        }
        let mut flags = text.split(',').map(|name| Self::named(name.trim()));
        flags.try_fold(SchedulerFlags::NONE, |set, flag| Ok(set.with(flag?)))
    }
}

impl Serialize for SchedulerFlags {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for SchedulerFlags {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<SchedulerFlags, D::Error> {
        let names = Vec::<String>::deserialize(d)?;
        let mut flags = names.iter().map(|name| Self::named(name));
        flags
            .try_fold(SchedulerFlags::NONE, |set, flag| Ok(set.with(flag?)))
            .map_err(serde::de::Error::custom::<String>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for bits in 0..16 {
            let flags = SchedulerFlags(bits);
            assert_eq!(flags.to_string().parse(), Ok(flags));
            let json = serde_json::to_string(&flags).unwrap();
            assert_eq!(serde_json::from_str::<SchedulerFlags>(&json).unwrap(), flags);
        }
        assert_eq!(
            SchedulerFlags::SH_PORT.with(SchedulerFlags::SH_FALLBACK).to_string(),
            "sh-fallback,sh-port"
        );
        assert!("sh-ports".parse::<SchedulerFlags>().unwrap_err().contains("expected sh-fallback"));
        assert!("".parse::<SchedulerFlags>().is_err());
    }

    #[test]
    fn each_is_one_schedulers() {
        let all = SchedulerFlags(15);
        assert_eq!(all.of(SchedulerKind::Mh).to_string(), "mh-fallback,mh-port");
        assert_eq!(all.of(SchedulerKind::Sh).to_string(), "sh-fallback,sh-port");
        assert!(all.of(SchedulerKind::Wlc).is_empty());
    }
}
