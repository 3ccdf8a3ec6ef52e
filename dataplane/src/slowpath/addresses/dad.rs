//! Duplicate address detection: an IPv6 address of a port is not used before nobody else was found
//! to have it.
//!
//! # RFCs
//! RFC 4862 5.4: one probe (DupAddrDetectTransmits), then RETRANS_TIMER of silence.
//!
//! # Choices
//! - The random delay before the first probe, "up to MAX_RTR_SOLICITATION_DELAY", is left out. It
//!   keeps many stations that start together apart; the director would only be deaf for longer.
//! - An address that another station has is probed again every half a minute, with every new
//!   configuration and when the link comes up: once the other is gone, the director has it.
//! - Link-local addresses are probed as others are. One that is another station's is not used, but
//!   IPv6 goes on (RFC 4862 5.4.5 "SHOULD" disable it): configured addresses may do without.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ndp::Message;
use crate::slowpath::limit::Pace;
use crate::slowpath::neighbors::state::RETRANS_TIMER;
use crate::slowpath::output::Context;
use crate::slowpath::own::NotReady;
use crate::slowpath::timers::Timers;
use crate::stats::Event;
use crate::types::{Mac, Millis, PortId};
use crate::vocabulary::AddressState;

/// RFC 4862 5.1, DupAddrDetectTransmits.
const TRANSMITS: u8 = 1;
/// Until an address that another station has is probed again, in milliseconds.
const DUPLICATE_RETRY: u64 = 30_000;
/// Until a probe that found no buffer is tried again, in milliseconds.
const NO_BUFFER_RETRY: u64 = 100;

type Key = (PortId, Ipv6Addr);

#[derive(Debug)]
struct Probed {
    mac: Mac,
    state: AddressState,
    left: u8,
}

/// The IPv6 addresses of ports. Their number is bounded by the configuration.
#[derive(Debug)]
pub(super) struct Dad {
    known: BTreeMap<Key, Probed>,
    timers: Timers<Key>,
    pace: Pace,
}

impl Dad {
    pub(super) fn new() -> Dad {
        Dad { known: BTreeMap::new(), timers: Timers::new(), pace: Pace::new() }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.timers.first().map(|due| self.pace.opens(due))
    }

    /// All addresses with their states.
    pub(super) fn all(&self) -> impl Iterator<Item = (Key, AddressState)> {
        self.known.iter().map(|(key, probed)| (*key, probed.state))
    }

    /// The addresses that are not to be used now.
    pub(super) fn not_ready(&self) -> NotReady {
        self.all().filter(|(_, state)| *state != AddressState::Ready).collect()
    }

    /// Takes up the addresses to be probed; those that are new, another's, or of a port whose
    /// Ethernet address changed are probed.
    pub(super) fn configure(&mut self, wanted: BTreeMap<Key, Mac>, now: Millis) {
        let gone: Vec<_> = self.known.keys().filter(|k| !wanted.contains_key(k)).copied().collect();
        for key in gone {
            self.known.remove(&key);
            self.timers.set(key, None);
        }
        for (key, mac) in wanted {
            let stays = |old: &Probed| old.mac == mac && old.state != AddressState::Duplicate;
            if !self.known.get(&key).is_some_and(stays) {
                self.start(key, mac, now);
            }
        }
    }

    /// Probes all addresses of a port again: behind a link that was away there may be others now.
    pub(super) fn link_up(&mut self, port: PortId, now: Millis) {
        let on_port = self.known.iter().filter(|((p, _), _)| *p == port);
        let all: Vec<_> = on_port.map(|(key, probed)| (*key, probed.mac)).collect();
        for (key, mac) in all {
            self.start(key, mac, now);
        }
    }

    fn start(&mut self, key: Key, mac: Mac, now: Millis) {
        self.known.insert(key, Probed { mac, state: AddressState::Tentative, left: TRANSMITS });
        self.timers.set(key, Some(now));
    }

    /// Sends the probes that are due. Whether an address became ready.
    pub(super) fn poll<B: PacketBuf, P: BufPool<B>>(&mut self, cx: &mut Context<'_, B, P>) -> bool {
        let mut changed = false;
        while self.pace.is_open(cx.now) {
            let Some(key) = self.timers.take_due(cx.now) else { break };
            let Some(probed) = self.known.get_mut(&key) else { continue };
            if probed.state == AddressState::Duplicate {
                (probed.state, probed.left) = (AddressState::Tentative, TRANSMITS);
            }
            let due = if probed.left == 0 {
                probed.state = AddressState::Ready;
                changed = true;
                None
            } else if cx.send_ndp(key.0, probed.mac, Mac::ZERO, &Message::duplicate_probe(key.1)) {
                self.pace.count();
                probed.left -= 1;
                Some(cx.now.after(RETRANS_TIMER))
            } else {
                Some(cx.now.after(NO_BUFFER_RETRY))
            };
            self.timers.set(key, due);
        }
        changed
    }

    /// Another station, `mac`, has `address` or is about to take it. Whether that matters: it does
    /// while the address is being probed (RFC 4862 5.4.3, 5.4.4).
    pub(super) fn conflict<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        port: PortId,
        address: Ipv6Addr,
        mac: Mac,
        cx: &mut Context<'_, B, P>,
    ) -> bool {
        let key = (port, address);
        let tentative = |probed: &&mut Probed| probed.state == AddressState::Tentative;
        let Some(probed) = self.known.get_mut(&key).filter(tentative) else { return false };
        probed.state = AddressState::Duplicate;
        self.timers.set(key, Some(cx.now.after(DUPLICATE_RETRY)));
        cx.stats.event(Event::DadConflicts).add(1);
        log::error!(
            "address {address} of port {} is in use by {mac}: it is not used until that one is gone",
            cx.own.port_name(port)
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (PortId(0), Ipv6Addr::LOCALHOST);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn only_what_changed_or_was_lost_is_probed_again() {
        let mut dad = Dad::new();
        let wanted = |mac| BTreeMap::from([(KEY, mac)]);
        dad.configure(wanted(MAC), Millis(5));
        assert_eq!(dad.all().collect::<Vec<_>>(), [(KEY, AddressState::Tentative)]);
        assert_eq!(dad.next_deadline(), Some(Millis(5)));
        for (state, mac, restarts) in [
            (AddressState::Ready, MAC, false),
            (AddressState::Duplicate, MAC, true),
            (AddressState::Ready, Mac([4; 6]), true),
        ] {
            let probed = dad.known.get_mut(&KEY).unwrap();
            probed.state = state;
            dad.timers.set(KEY, None);
            dad.configure(wanted(mac), Millis(9));
            assert_eq!(dad.next_deadline(), restarts.then_some(Millis(9)), "{state}");
        }
        dad.configure(BTreeMap::new(), Millis(10));
        assert_eq!((dad.next_deadline(), dad.all().count()), (None, 0));
    }
}
