//! Path MTUs to real servers behind tunnels, as routers tell them.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Path MTU updates kept until they are taken; more are forgotten, as they will come again.
const MAX_PATH_MTUS: usize = 256;

/// A router on the way to a real server has a smaller MTU than the egress port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtu {
    /// RIP: destination of the outer packet that was too long. Anyone can forge the message, so
    /// check that this is a real server behind a tunnel.
    pub real: IpAddr,
    /// Longest outer packet that passes, in bytes, 68 or more, for IPv6 1280 or more; `None` when
    /// the router does not know RFC 1191 and does not say.
    pub mtu: Option<u16>,
}

/// Updates that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct PathMtus(BTreeMap<IpAddr, Option<u16>>);

impl PathMtus {
    /// Keeps the smallest MTU heard of each real server.
    pub(super) fn note(&mut self, PathMtu { real, mtu }: PathMtu) {
        let room = self.0.len() < MAX_PATH_MTUS;
        match self.0.get_mut(&real) {
            Some(known) => *known = [*known, mtu].into_iter().flatten().min(),
            None if room => {
                self.0.insert(real, mtu);
            }
            None => {}
        }
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = PathMtu> + use<> {
        std::mem::take(&mut self.0).into_iter().map(|(real, mtu)| PathMtu { real, mtu })
    }
}
