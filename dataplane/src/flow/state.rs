//! The state of a flow, from the client's packets alone, and how long each state lasts.
//!
//! Under direct server return the director never sees a reply, so there is no handshake to
//! follow and no sequence number to check. The table is the behaviour of LVS's input-only one
//! (`tcp_states`, the INPUT-ONLY rows, in `net/netfilter/ipvs/ip_vs_proto_tcp.c`), with its
//! eleven states reduced to those a client's packets can tell apart:
//!
//! | | SYN | ACK | FIN | RST |
//! | --- | --- | --- | --- | --- |
//! | none | SynReceived | Established | Closing | Closed |
//! | SynReceived | same | Established | Closing | Closed |
//! | Established | same | same | Closing | Closed |
//! | Closing | *new connection* | same | same | Closed |
//! | Closed | *new connection* | same | same | same |
//!
//! Every cell but *new connection* restarts the timer of the state it leads to, as LVS does. That of
//! a flow that stays as it is runs on, though, until the flow has proven itself, a second at most
//! ([`touch`](super::Table::touch)).
//!
//! - A SYN on an established flow changes nothing. A client that lost its state and reuses the
//!   L4 port must meet the real server that still has the old connection: its challenge ACK
//!   (RFC 5961 4.2) draws a RST from the client, the RST closes the flow, and the next SYN is a
//!   new connection. Were the first SYN scheduled afresh, anyone able to forge one could move
//!   somebody else's connection.
//! - Data or ACKs after FIN or RST never bring a flow back to Established. After a FIN they
//!   restart the closing timer, which keeps a half-closed connection alive while the client
//!   acknowledges what it still receives.
//!
//! # Where it differs from LVS
//!
//! - A RST in SynReceived closes. LVS ignores it; but it is what the owner of a forged source
//!   address answers to the real server's SYN-ACK, and such flows should not hold a slot and
//!   a connection count for the minute of a half-open one.
//! - Where a SYN on a closing flow goes is not decided here (`conn_reuse_mode` of LVS): the caller
//!   is told that it opens another connection.
//! - A segment with SYN and ACK is not a SYN. No client of a virtual service sends one; it is
//!   backscatter of a SYN flood under the VIP's name. It moves no state, and neither does
//!   a segment with none of SYN, ACK, FIN, RST, which LVS takes for the end of the connection.
//!
//! # Limits
//!
//! Nobody checks sequence numbers here, so a forged RST or FIN shortens the flow's timer. The
//! real server, which does check them, goes on; a connection that then pauses for longer than
//! the closed timer loses its flow. LVS has the same property.

use std::time::Duration;

use crate::types::Tick;

/// What a packet means to the state of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// SYN without ACK: asks for a connection.
    Syn,
    /// ACK, with data or without.
    Ack,
    /// FIN: the client has sent all it will.
    Fin,
    /// RST: the connection is over.
    Rst,
    /// A TCP segment no client sends: SYN with ACK, or none of the four flags.
    Other,
    /// A UDP datagram.
    Datagram,
}

impl Event {
    /// What [`Event::of_signal`] takes for a UDP datagram; a TCP segment is its FIN, SYN, RST, PSH
    /// and ACK bits.
    pub const DATAGRAM_SIGNAL: u8 = 0x20;

    /// The event of a whole packet, of which six bits tell all that matters to a flow.
    #[inline(always)]
    pub const fn of_signal(signal: u8) -> Event {
        EVENTS[signal as usize & 0x3f]
    }

    /// The event of a TCP segment by its flags (the 14th byte of the header, RFC 9293 3.1).
    ///
    /// Where several are set the order is that of LVS's `tcp_state_idx`: RST, SYN, FIN, ACK.
    #[inline(always)]
    pub const fn from_tcp_flags(flags: u8) -> Event {
        const FIN: u8 = 0x01;
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        if flags & RST != 0 {
            Event::Rst
        } else if flags & SYN != 0 {
            if flags & ACK == 0 { Event::Syn } else { Event::Other }
        } else if flags & FIN != 0 {
            Event::Fin
        } else if flags & ACK != 0 {
            Event::Ack
        } else {
            Event::Other
        }
    }
}

/// What [`Event::of_signal`] says.
const EVENTS: [Event; 64] = {
    let mut events = [Event::Datagram; 64];
    let mut flags = 0;
    while flags < 32 {
        events[flags] = Event::from_tcp_flags(flags as u8);
        flags += 1;
    }
    events
};

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// TCP: a SYN was seen, nothing after it.
    SynReceived,
    /// TCP: the client acknowledged something.
    Established,
    /// TCP: the client sent a FIN.
    Closing,
    /// TCP: the client sent a RST.
    Closed,
    /// UDP, which has one state.
    Udp,
}

impl State {
    /// All of them, by discriminant.
    pub const ALL: [State; State::COUNT] =
        [State::SynReceived, State::Established, State::Closing, State::Closed, State::Udp];
    /// How many there are.
    pub const COUNT: usize = 5;

    /// The state of a flow whose first packet is `event`.
    ///
    /// Whether a first packet other than a SYN or a datagram makes a flow at all is the
    /// scheduler's business; if it does, the flow starts where the packet would have led.
    #[inline(always)]
    pub const fn opening(event: Event) -> State {
        match event {
            Event::Syn | Event::Other => State::SynReceived,
            Event::Ack => State::Established,
            Event::Fin => State::Closing,
            Event::Rst => State::Closed,
            Event::Datagram => State::Udp,
        }
    }

    /// Whether the flow counts as an active connection of its real server (else as an inactive
    /// one), as LVS's `tcp_state_active_table`; UDP is active.
    #[inline(always)]
    pub const fn is_active(self) -> bool {
        matches!(self, State::SynReceived | State::Established | State::Udp)
    }

    /// The number that stands for it in the table, from one: the state's own, but for one that can
    /// prove itself and has not.
    #[inline(always)]
    pub(super) const fn place(self, proven: bool) -> u8 {
        match self {
            State::Established if !proven => 6,
            State::Udp if !proven => 7,
            _ => self as u8 + 1,
        }
    }

    /// The name that listings show, as `ipvsadm -Lc` does.
    pub const fn name(self) -> &'static str {
        match self {
            State::SynReceived => "SYN_RECV",
            State::Established => "ESTABLISHED",
            State::Closing => "FIN_WAIT",
            State::Closed => "CLOSE",
            State::Udp => "UDP",
        }
    }

    /// Where `event` leads.
    #[inline(always)]
    pub(super) const fn step(self, event: Event) -> Step {
        match (self, event) {
            (State::Udp, _) => Step::To(State::Udp),
            (_, Event::Other | Event::Datagram) => Step::Ignore,
            (_, Event::Rst) => Step::To(State::Closed),
            (State::Closing | State::Closed, Event::Syn) => Step::New,
            (State::Closing | State::Closed, _) => Step::To(self),
            (_, Event::Fin) => Step::To(State::Closing),
            (_, Event::Ack) => Step::To(State::Established),
            (_, Event::Syn) => Step::To(self),
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Whether a packet leaves a flow in its state and restarts its timer, as nearly every one does. No
/// packet does that to a flow of the other protocol.
/// A SYN does not count: what it means depends on the flow's real server too. `place` is the state's
/// place; no flow, 0, is never left as it is, nor is a newcomer, which the packet may prove.
#[inline(always)]
pub(super) const fn stays(place: usize, signal: u8) -> bool {
    STAYS[signal as usize & 0x3f] >> (place & 7) & 1 != 0
}

/// What becomes of a newcomer that stays in its state.
#[inline(always)]
pub(super) const fn stays_new(place: usize, signal: u8) -> bool {
    match place {
        6 => stays(State::Established.place(true) as usize, signal),
        7 => stays(State::Udp.place(true) as usize, signal),
        _ => false,
    }
}

/// For each signal but SYN, a bit for each place whose state it leaves as it is and whose timer it
/// restarts.
const STAYS: [u8; 64] = {
    let mut stays = [0; 64];
    let mut signal = 0;
    while signal < stays.len() {
        let mut s = 0;
        while s < State::COUNT {
            let own =
                matches!(EVENTS[signal], Event::Datagram) == matches!(State::ALL[s], State::Udp);
            if let Step::To(next) = State::ALL[s].step(EVENTS[signal]) {
                if own && next as usize == s && !matches!(EVENTS[signal], Event::Syn) {
                    stays[signal] |= 2 << s;
                }
            }
            s += 1;
        }
        signal += 1;
    }
    stays
};

/// One cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This state next, and its timer from now.
    To(State),
    /// Another connection under the same key.
    New,
    /// Nothing changes, nor does the timer.
    Ignore,
}

/// What a packet did to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a new connection must be scheduled, a changed one recounted"]
pub enum Transition {
    /// The state is what it was.
    Same,
    /// The state changed.
    Changed {
        /// Before the packet.
        from: State,
        /// After it.
        to: State,
    },
    /// The state is what it was, and the flow has proven itself with this packet.
    Proven,
    /// A SYN on a flow that was closing: the caller schedules it and
    /// [inserts](super::Table::insert) it over the old one, which stays as it is until then.
    NewConnection {
        /// The old one's state.
        from: State,
    },
}

impl Transition {
    /// Whether the client has confirmed the connection with this packet.
    #[inline(always)]
    pub const fn established(self) -> bool {
        matches!(self, Transition::Changed { to: State::Established, .. })
    }

    /// Whether the flow went from the active connections of its real server to the inactive.
    /// The other way is not possible but through a new flow.
    #[inline(always)]
    pub const fn became_inactive(self) -> bool {
        match self {
            Transition::Changed { from, to } => from.is_active() && !to.is_active(),
            Transition::Same | Transition::Proven | Transition::NewConnection { .. } => false,
        }
    }
}

/// How long a flow lasts without a packet, by state. Each is capped at [`Tick::MAX_SPAN`]
/// (24 days) where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Established; `ipvsadm --set`'s first.
    pub tcp: Duration,
    /// After FIN; `ipvsadm --set`'s second.
    pub tcp_fin: Duration,
    /// UDP; `ipvsadm --set`'s third.
    pub udp: Duration,
    /// After a SYN alone.
    pub tcp_syn: Duration,
    /// After RST.
    pub tcp_closed: Duration,
}

impl Default for Timeouts {
    /// LVS's (`tcp_timeouts`, `udp_timeouts`).
    fn default() -> Timeouts {
        Timeouts {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
            tcp_syn: Duration::from_secs(60),
            tcp_closed: Duration::from_secs(10),
        }
    }
}

/// [`Timeouts`] as the packet path wants them: milliseconds by place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spans([u32; 8]);

impl Spans {
    pub(super) fn new(timeouts: &Timeouts) -> Spans {
        let mut spans = [0; 8];
        for state in State::ALL {
            let span = match state {
                State::SynReceived => timeouts.tcp_syn,
                State::Established => timeouts.tcp,
                State::Closing => timeouts.tcp_fin,
                State::Closed => timeouts.tcp_closed,
                State::Udp => timeouts.udp,
            };
            // MAX_SPAN is i32::MAX milliseconds, so the cast keeps the value.
            let span = span.min(Tick::MAX_SPAN).as_millis() as u32;
            spans[state.place(true) as usize] = span;
            spans[state.place(false) as usize] = span;
        }
        Spans(spans)
    }

    /// Milliseconds.
    #[inline(always)]
    pub(super) const fn of(&self, state: State) -> u32 {
        self.0[state as usize + 1]
    }

    /// Milliseconds of a state's place.
    #[inline(always)]
    pub(super) const fn at(&self, place: usize) -> u32 {
        self.0[place & 7]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::*;

    #[test]
    fn flags_are_read_in_lvs_order() {
        for (flags, event) in [
            (0x02, Event::Syn),
            (0xc2, Event::Syn), // with ECE and CWR, RFC 3168 6.1.1
            (0x03, Event::Syn),
            (0x12, Event::Other),
            (0x00, Event::Other),
            (0x28, Event::Other),
            (0x10, Event::Ack),
            (0x18, Event::Ack),
            (0x11, Event::Fin),
            (0x01, Event::Fin),
            (0x04, Event::Rst),
            (0x14, Event::Rst),
            (0x17, Event::Rst),
        ] {
            assert_eq!(Event::from_tcp_flags(flags), event, "{flags:#04x}");
            assert_eq!(Event::of_signal(flags & 0x1f), event, "{flags:#04x}");
            assert_eq!(Event::of_signal(Event::DATAGRAM_SIGNAL), Event::Datagram);
        }
    }

    #[test]
    fn the_table_is_as_documented() {
        use Step::*;
        let events = [Event::Syn, Event::Ack, Event::Fin, Event::Rst];
        for (state, steps) in [
            (SynReceived, [To(SynReceived), To(Established), To(Closing), To(Closed)]),
            (Established, [To(Established), To(Established), To(Closing), To(Closed)]),
            (Closing, [New, To(Closing), To(Closing), To(Closed)]),
            (Closed, [New, To(Closed), To(Closed), To(Closed)]),
            (Udp, [To(Udp); 4]),
        ] {
            for (event, step) in events.into_iter().zip(steps) {
                assert_eq!(state.step(event), step, "{state} {event:?}");
            }
        }
        for state in [SynReceived, Established, Closing, Closed] {
            assert_eq!(state.step(Event::Other), Ignore);
            assert_eq!(state.step(Event::Datagram), Ignore);
        }
        assert_eq!(Udp.step(Event::Datagram), To(Udp));
    }

    #[test]
    fn a_flow_stays_where_the_table_says_so() {
        for signal in 0..64 {
            for state in State::ALL {
                let event = Event::of_signal(signal);
                let own = (event == Event::Datagram) == (state == Udp);
                let stays = own && event != Event::Syn && state.step(event) == Step::To(state);
                assert_eq!(
                    super::stays(state as usize + 1, signal),
                    stays,
                    "{state} {signal:#04x}"
                );
                let new = usize::from(state.place(false));
                let is_new = matches!(state, Established | Udp);
                assert_eq!(super::stays_new(new, signal), stays && is_new, "{state} {signal:#04x}");
                assert!(!is_new || !super::stays(new, signal), "{state} {signal:#04x}");
            }
            assert!(!super::stays(0, signal) && !super::stays_new(0, signal));
        }
    }

    #[test]
    fn nothing_but_a_new_connection_makes_an_inactive_flow_active() {
        for state in State::ALL.into_iter().filter(|s| !s.is_active()) {
            for event in [Event::Syn, Event::Ack, Event::Fin, Event::Rst, Event::Other] {
                if let Step::To(next) = state.step(event) {
                    assert!(!next.is_active(), "{state} {event:?}");
                }
            }
        }
        assert!(Transition::Changed { from: Established, to: Closing }.became_inactive());
        assert!(!Transition::Changed { from: Closing, to: Closed }.became_inactive());
        assert!(!Transition::Changed { from: SynReceived, to: Established }.became_inactive());
    }

    #[test]
    fn spans_are_in_state_order_and_capped() {
        let spans = Spans::new(&Timeouts { tcp: Duration::MAX, ..Timeouts::default() });
        assert_eq!(spans.of(Established), i32::MAX as u32);
        assert_eq!(spans.of(SynReceived), 60_000);
        assert_eq!(spans.of(Closing), 120_000);
        assert_eq!(spans.of(Closed), 10_000);
        assert_eq!(spans.of(Udp), 300_000);
        for (i, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, i);
        }
    }
}
