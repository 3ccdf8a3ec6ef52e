//! Saying which groups the director listens to, so that switches that snoop deliver the
//! solicitations of its IPv6 addresses: MLD version 2, RFC 3810, and RFC 4541 for the switches.
//!
//! # Choices
//! - A change is reported at once and again within a second ([`ROBUSTNESS`] times in all, RFC 3810
//!   6.1). The reports before the link-local address is ready have no source, and routers ignore
//!   them (RFC 3590), so all groups are reported again once it is.
//! - Version 1 queriers are answered by version 2 reports: switches that snoop understand both.
//! - A general query that comes while the answer to one is still leaving is that answer's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;

use super::limit::Pace;
use super::output::Context;
use crate::hash::Random;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::mld::{self, Record};
use crate::packet::parse6::{self, Ipv6Packet};
use crate::packet::{ethernet, ipv6};
use crate::stats::{DropReason, Event};
use crate::types::{Mac, Millis, PortId};

/// How often a change is reported: RFC 3810 9.1, Robustness Variable.
const ROBUSTNESS: u8 = 2;
/// RFC 3810 9.11, Unsolicited Report Interval, in milliseconds.
const REPORT_INTERVAL: u64 = 1_000;
/// Longest frame of a report.
const MAX_FRAME_LEN: usize = ethernet::HEADER_LEN + ipv6::MIN_MTU as usize;

/// The groups of one port.
#[derive(Debug, Default)]
struct Membership {
    mac: Mac,
    /// Groups, and how often joining them is still to be reported.
    groups: BTreeMap<Ipv6Addr, u8>,
    /// Groups left, and how often that is still to be reported.
    left: BTreeMap<Ipv6Addr, u8>,
    changes_due: Option<Millis>,
    /// When a general query is to be answered.
    general_due: Option<Millis>,
    /// When queries about one group are to be answered.
    specific_due: BTreeMap<Ipv6Addr, Millis>,
}

impl Membership {
    fn next_due(&self) -> Option<Millis> {
        let specific = self.specific_due.values().min().copied();
        [self.changes_due, self.general_due, specific].into_iter().flatten().min()
    }
}

/// One report that is to be sent.
#[derive(Debug)]
struct Report {
    port: PortId,
    record: Record,
    groups: Vec<Ipv6Addr>,
    general: bool,
}

/// The groups of all ports. Their number is bounded by the configuration.
#[derive(Debug)]
pub(super) struct Listener {
    ports: BTreeMap<PortId, Membership>,
    outbox: VecDeque<Report>,
    pace: Pace,
    random: Random,
}

impl Listener {
    pub(super) fn new(random: Random) -> Listener {
        Listener { ports: BTreeMap::new(), outbox: VecDeque::new(), pace: Pace::new(), random }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        if !self.outbox.is_empty() {
            return Some(self.pace.opens(Millis(0)));
        }
        self.ports.values().filter_map(Membership::next_due).min()
    }

    /// Takes up the groups that `cx.own` is in.
    pub(super) fn configure<B, P>(&mut self, cx: &Context<'_, B, P>) {
        let mut wanted: BTreeMap<PortId, BTreeSet<Ipv6Addr>> = BTreeMap::new();
        for (port, group) in cx.own.groups() {
            wanted.entry(port).or_default().insert(group);
        }
        let ports = self.ports.keys().chain(wanted.keys()).copied().collect::<BTreeSet<_>>();
        for port in ports {
            // Without an Ethernet address nothing can be said; nothing need be, then.
            let Some(mac) = cx.own.mac(port) else {
                self.ports.remove(&port);
                continue;
            };
            let wanted = wanted.remove(&port).unwrap_or_default();
            let membership = self.ports.entry(port).or_default();
            let Membership { groups, left, .. } = membership;
            let new_mac = std::mem::replace(&mut membership.mac, mac) != mac;
            let gone: Vec<_> = groups.keys().filter(|g| !wanted.contains(g)).copied().collect();
            let mut changed = !gone.is_empty();
            for group in gone {
                groups.remove(&group);
                membership.specific_due.remove(&group);
                left.insert(group, ROBUSTNESS);
            }
            for group in wanted {
                left.remove(&group);
                if new_mac || !groups.contains_key(&group) {
                    groups.insert(group, ROBUSTNESS);
                    changed = true;
                }
            }
            if changed {
                membership.changes_due = Some(cx.now);
            }
        }
    }

    /// Reports all groups of a port again: its link came up, or its link-local address is ready.
    pub(super) fn report_again(&mut self, port: PortId, now: Millis) {
        if let Some(membership) = self.ports.get_mut(&port) {
            membership.groups.values_mut().for_each(|left| *left = ROBUSTNESS);
            membership.changes_due = (!membership.groups.is_empty()).then_some(now);
        }
    }

    /// A query: to be answered at a random time within what it allows (RFC 3810 6.2).
    pub(super) fn receive<B: PacketBuf, P>(
        &mut self,
        port: PortId,
        buf: &B,
        cx: &Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let frame = buf.data();
        let ip = parse6::parse(frame, buf.len()).map_err(|_| DropReason::MldInvalid)?;
        let query = read(frame, &ip).ok_or(DropReason::MldInvalid)?;
        let is_ours = ethernet::Frame::new(frame).is_ok_and(|f| cx.own.is_own_mac(f.src()));
        let Some(membership) = self.ports.get_mut(&port).filter(|_| !is_ours) else {
            return Err(DropReason::MldIgnored);
        };
        let general = query.group.is_unspecified();
        if membership.groups.is_empty() || !general && !membership.groups.contains_key(&query.group)
        {
            return Err(DropReason::MldIgnored);
        }
        let due = cx.now.after(self.random.between(0, query.max_response_ms.into()));
        let leaving = || self.outbox.iter().any(|r| r.port == port && r.general);
        // "If there is a pending response to a previous General Query scheduled sooner than the
        // selected delay, no additional response needs to be scheduled."
        if membership.general_due.is_none_or(|at| at > due) {
            if !general {
                let at = membership.specific_due.entry(query.group).or_insert(due);
                *at = due.min(*at);
            } else if !leaving() {
                membership.general_due = Some(due);
            }
        }
        Ok(Event::MldQueries)
    }

    /// Sends the reports that are due, as many as the pace allows.
    pub(super) fn poll<B: PacketBuf, P: BufPool<B>>(&mut self, cx: &mut Context<'_, B, P>) {
        for (port, membership) in &mut self.ports {
            collect(*port, membership, &mut self.outbox, &mut self.random, cx.now);
        }
        self.ports.retain(|_, m| !m.groups.is_empty() || !m.left.is_empty());
        while self.pace.is_open(cx.now) {
            let Some(report) = self.outbox.pop_front() else { return };
            self.pace.count();
            // One that finds no buffer is lost; that is what the repetitions are for.
            send(&report, cx);
        }
    }
}

/// Moves what is due to the outbox.
fn collect(
    port: PortId,
    membership: &mut Membership,
    outbox: &mut VecDeque<Report>,
    random: &mut Random,
    now: Millis,
) {
    let Membership { groups, left, changes_due, general_due, specific_due, .. } = membership;
    // Else queries that come faster than answers may leave would be answered without bound.
    let all_left = outbox.is_empty();
    let mut put = |record, general, all: Vec<Ipv6Addr>| {
        let chunks = all.chunks(mld::MAX_GROUPS).map(<[_]>::to_vec);
        outbox.extend(chunks.map(|groups| Report { port, record, groups, general }));
    };
    let is_due = |at: &Millis| *at <= now;
    if changes_due.as_ref().is_some_and(is_due) {
        put(Record::Join, false, take_turn(groups));
        put(Record::Leave, false, take_turn(left));
        left.retain(|_, turns| *turns > 0);
        let again = !left.is_empty() || groups.values().any(|turns| *turns > 0);
        *changes_due = again.then(|| now.after(random.between(1, REPORT_INTERVAL)));
    }
    if general_due.as_ref().is_some_and(is_due) {
        *general_due = None;
        // The answer to all is the answer to each.
        specific_due.clear();
        put(Record::Listening, true, groups.keys().copied().collect());
    }
    if all_left {
        let due = specific_due.iter().filter(|(_, at)| is_due(at));
        let asked: Vec<_> = due.map(|(group, _)| *group).collect();
        specific_due.retain(|_, at| !is_due(at));
        put(Record::Listening, false, asked);
    }
}

/// The groups with turns left, and one turn less for each.
fn take_turn(groups: &mut BTreeMap<Ipv6Addr, u8>) -> Vec<Ipv6Addr> {
    let open = groups.iter_mut().filter(|(_, turns)| **turns > 0);
    open.map(|(group, turns)| {
        *turns -= 1;
        *group
    })
    .collect()
}

fn send<B: PacketBuf, P: BufPool<B>>(report: &Report, cx: &mut Context<'_, B, P>) {
    let Report { port, record, ref groups, .. } = *report;
    let Some(mac) = cx.own.mac(port) else { return };
    let src = cx.own.ready_link_local(port).unwrap_or(Ipv6Addr::UNSPECIFIED);
    let mut frame = [0; MAX_FRAME_LEN];
    let len = mld::emit_report(&mut frame, mac, src, record, groups);
    let sent = len.is_ok_and(|len| cx.send_new(port, &frame[..len]));
    cx.stats.event(Event::MldReports).add(sent.into());
}

/// The query in a frame; fragments are none.
fn read(frame: &[u8], ip: &Ipv6Packet) -> Option<mld::Query> {
    let end = ip.l4_offset() + usize::from(ip.l4_len());
    let icmp = frame.get(ip.l4_offset()..end).filter(|_| ip.fragment.is_none())?;
    let is_icmp = ip.protocol == ipv6::next::ICMPV6;
    mld::parse_query(icmp, ip.src, ip.dst, ip.hop_limit).ok().filter(|_| is_icmp)
}
