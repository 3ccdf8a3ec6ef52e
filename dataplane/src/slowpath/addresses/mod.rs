//! The director's own addresses, as others on the segment get to know them: probed before they are
//! used, announced once they are, and defended when another station has them.
//!
//! Which addresses those are, and which may be used, is [`Own`]'s to say; this tells it.

mod announce;
mod conflict;
mod dad;

use std::net::{IpAddr, Ipv6Addr};

use announce::Announcer;
use dad::Dad;

use super::output::Context;
use super::own::Own;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::types::{Mac, Millis, PortId};
use crate::vocabulary::AddressState;

/// Probes, announcements and disputes.
#[derive(Debug)]
pub(super) struct Addresses {
    dad: Dad,
    announcer: Announcer,
}

impl Addresses {
    pub(super) fn new() -> Addresses {
        Addresses { dad: Dad::new(), announcer: Announcer::new() }
    }

    /// When [`Addresses::poll_probes`] or [`Addresses::poll_announcements`] next has something to
    /// do.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        [self.dad.next_deadline(), self.announcer.next_deadline()].into_iter().flatten().min()
    }

    /// The IPv6 addresses of ports, with their states.
    pub(super) fn all(&self) -> impl Iterator<Item = ((PortId, Ipv6Addr), AddressState)> {
        self.dad.all()
    }

    /// Takes up the addresses of `own`, and tells it which of them may not be used yet.
    pub(super) fn configure(&mut self, own: &mut Own, now: Millis) {
        self.dad.configure(own.probed(), now);
        own.set_not_ready(self.dad.not_ready());
    }

    /// The link of a port came up: its IPv6 addresses are probed again. To be announced once that
    /// was told ([`Addresses::announce_again`]).
    pub(super) fn probe_again(&mut self, port: PortId, own: &mut Own, now: Millis) {
        self.dad.link_up(port, now);
        own.set_not_ready(self.dad.not_ready());
    }

    /// Announces addresses that are new, or may be used now.
    pub(super) fn announce<B, P>(&mut self, cx: &Context<'_, B, P>) {
        self.announcer.configure(cx);
    }

    /// Announces all addresses of a port that may be used.
    pub(super) fn announce_again<B, P>(&mut self, port: PortId, cx: &Context<'_, B, P>) {
        self.announcer.configure(cx);
        self.announcer.link_up(port, cx.now);
    }

    /// Sends the probes that are due. True if there are addresses that may be used now and might
    /// not before: [`Addresses::tell`] says which.
    pub(super) fn poll_probes<B, P>(&mut self, cx: &mut Context<'_, B, P>) -> bool
    where
        B: PacketBuf,
        P: BufPool<B>,
    {
        self.dad.poll(cx)
    }

    /// Sends the announcements that are due.
    pub(super) fn poll_announcements<B, P>(&mut self, cx: &mut Context<'_, B, P>)
    where
        B: PacketBuf,
        P: BufPool<B>,
    {
        self.announcer.poll(cx);
    }

    /// Tells `own` which addresses may not be used.
    pub(super) fn tell(&self, own: &mut Own) {
        own.set_not_ready(self.dad.not_ready());
    }

    /// Another station, `mac`, has `address` or wants it. True if that is a conflict: the address
    /// was being probed, and is not used then (RFC 4862 5.4.3, 5.4.4).
    pub(super) fn probed_too<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        port: PortId,
        address: Ipv6Addr,
        mac: Mac,
        cx: &mut Context<'_, B, P>,
    ) -> bool {
        self.dad.conflict(port, address, mac, cx)
    }

    /// Another station, `mac`, says that `address` is its own. True if that is a conflict, for it is
    /// the director's; it is defended, if it is in use here. `neighbor` finds the address of the
    /// neighbor on that port with an Ethernet address.
    pub(super) fn used_too<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        port: PortId,
        address: IpAddr,
        mac: Mac,
        neighbor: impl FnOnce(PortId, Mac) -> Option<IpAddr>,
        cx: &mut Context<'_, B, P>,
    ) -> bool {
        let is_ours = cx.own.is_vip(address) || cx.own.is_ports(port, address);
        if is_ours && cx.own.answers_for(port, address) {
            self.announcer.claimed(port, address, mac, neighbor, cx);
        }
        is_ours
    }
}
