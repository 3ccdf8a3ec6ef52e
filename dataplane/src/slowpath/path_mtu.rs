//! Path MTUs to real servers behind tunnels, as routers on the way tell them.
//!
//! A router that cannot pass a tunnel's packet on tells its source, a DIP (RFC 1191, RFC 8201).
//! What is believed: a message that quotes an outer packet as the director sends them to this real
//! server, with DF, longer than what is said to pass. Who knows DIP and RIP can make one up; it
//! leads to shorter packets for a while, never to less than [`MIN_MTU4`] or IPv6's least MTU. What
//! could not have been sent, or is no less than the egress port takes, tells nothing.
//!
//! # Limits
//! One entry for each real server behind a tunnel, for [`MAX_AGE`] after it was last heard of.
//!
//! # RFCs
//! RFC 1191 (IPv4), RFC 8201 (IPv6).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::own::Own;
use crate::packet::ipv6::{self, next};
use crate::types::Millis;

/// How long a path MTU is gone by after it was last told, in milliseconds (RFC 1191 6.3, RFC 8201
/// 4: ten minutes), up to the next whole minute: what was told in one minute is forgotten at once,
/// with one new snapshot.
pub const MAX_AGE: u64 = 600_000;
const MINUTE: u64 = 60_000;
/// Less is not believed of IPv4 either, so that whoever makes messages up cannot take QUIC away from
/// clients, whose packets of 1200 bytes must not be cut (RFC 9000 14).
pub const MIN_MTU4: u16 = ipv6::MIN_MTU;

/// A router on the way to a real server has a smaller MTU than the egress port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtu {
    /// RIP.
    pub real: IpAddr,
    /// Longest outer packet that passes, in bytes; 1280 or more.
    pub mtu: u16,
}

/// Whether an outer packet with this protocol is GRE's; `None` when it is no tunnel's.
pub(super) const fn is_gre(protocol: u8) -> Option<bool> {
    match protocol {
        next::GRE => Some(true),
        next::IPV4 | next::IPV6 => Some(false),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    mtu: u16,
    until: Millis,
}

/// What is known, by RIP.
#[derive(Debug, Default)]
pub(super) struct PathMtus(BTreeMap<IpAddr, Known>);

impl PathMtus {
    /// Takes up what was told. A larger one than is known is about a packet sent before that was.
    pub(super) fn note(&mut self, PathMtu { real, mtu }: PathMtu, now: Millis) {
        let until = Millis(now.after(MAX_AGE).0.next_multiple_of(MINUTE));
        let told = Known { mtu, until };
        let known = self.0.entry(real).or_insert(told);
        if mtu <= known.mtu {
            *known = told;
        }
    }

    /// Forgets real servers to which no tunnel leads any more.
    pub(super) fn configure(&mut self, own: &Own) {
        self.0.retain(|real, _| own.has_tunnel_to(*real));
    }

    /// Forgets what is too old.
    pub(super) fn poll(&mut self, now: Millis) {
        self.0.retain(|_, known| known.until > now);
    }

    /// When [`PathMtus::poll`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.0.values().map(|known| known.until).min()
    }

    /// All, by RIP.
    pub(super) fn all(&self) -> impl Iterator<Item = PathMtu> + '_ {
        self.0.iter().map(|(real, known)| PathMtu { real: *real, mtu: known.mtu })
    }
}
