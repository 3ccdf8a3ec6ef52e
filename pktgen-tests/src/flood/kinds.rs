//! The floods: what a hostile network sends, each at the full speed of the workers.

use super::frames::{ACK, Client, Payload, SYN, Template};

/// Virtual services of floods and of honest clients, by the last number of the VIP.
/// TCP and UDP by `wlc`: idle connections and flows of honest clients, and floods of SYN+ACK pairs.
pub const HONEST: u8 = 100;
/// TCP by `rr`, persistent: templates of honest clients.
pub const BOUND: u8 = 101;
/// TCP and UDP by `mh`.
pub const HASHED: u8 = 102;
/// UDP by `rr`, persistent.
pub const PERSISTENT: u8 = 103;
/// TCP and UDP by `wlc`.
pub const COUNTED: u8 = 104;
/// UDP by `rr`: honest fragmented datagrams.
pub const FRAGMENTED: u8 = 105;
/// TCP by `rr`, with very many real servers.
pub const MANY: u8 = 106;

/// A VIP of the lab.
pub fn vip(number: u8, ipv6: bool) -> String {
    if ipv6 { format!("2001:db8:2::{number}") } else { format!("192.0.2.{number}") }
}

/// A kind of flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SYNs from anywhere, to a service by hash and one by `wlc`.
    Syn,
    /// ACKs from anywhere, to a service by hash, and to one that has them reset.
    Ack,
    /// A SYN, and an ACK of the same client some hundred packets later, also to the very service
    /// of the honest clients.
    SynAck,
    /// Datagrams from anywhere, to a service by hash and one by `wlc`.
    Udp,
    /// The same to a persistent service: each makes a template too.
    Persistent,
    /// First and later fragments of TCP segments.
    TcpFragments,
    /// First and later fragments of datagrams.
    UdpFragments,
    /// First fragments of datagrams, the others of which never come.
    FirstFragments,
    /// Later fragments, the first ones of which never come.
    LaterFragments,
    /// The same, two hundred a second.
    FewLaterFragments,
    /// ICMP errors about flows that nobody has.
    IcmpErrors,
    /// IPv6 packets with extension headers, which may come to a worker that does not have their
    /// flow.
    Options,
    /// Echo requests to a VIP and to the director.
    Pings,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 13] = [
        Kind::Syn,
        Kind::Ack,
        Kind::SynAck,
        Kind::Udp,
        Kind::Persistent,
        Kind::TcpFragments,
        Kind::UdpFragments,
        Kind::FirstFragments,
        Kind::LaterFragments,
        Kind::FewLaterFragments,
        Kind::IcmpErrors,
        Kind::Options,
        Kind::Pings,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Syn => "syn",
            Kind::Ack => "ack",
            Kind::SynAck => "syn+ack pairs",
            Kind::Udp => "udp",
            Kind::Persistent => "udp, persistent",
            Kind::TcpFragments => "tcp fragments",
            Kind::UdpFragments => "udp fragments",
            Kind::FirstFragments => "first fragments",
            Kind::LaterFragments => "later fragments",
            Kind::FewLaterFragments => "later fragments, 200/s",
            Kind::IcmpErrors => "icmp errors",
            Kind::Options => "extension headers",
            Kind::Pings => "pings",
        }
    }

    /// Nanoseconds between two turns of all queues together; 0 is full speed.
    pub const fn interval_ns(self) -> u32 {
        if matches!(self, Kind::FewLaterFragments) { 5_000_000 } else { 0 }
    }

    /// What is sent: packets of both families in turn, where there are such.
    pub fn templates(self) -> Vec<Template> {
        let families: &[bool] = if self == Kind::Options { &[true] } else { &[false, true] };
        families.iter().flat_map(|ipv6| self.of_family(*ipv6)).collect()
    }

    fn of_family(self, ipv6: bool) -> Vec<Template> {
        let to = |number, payload| Template::new(&vip(number, ipv6), Client::Spoofed, payload);
        match self {
            Kind::Syn => [HASHED, COUNTED].map(|number| to(number, Payload::Tcp(80, SYN))).to_vec(),
            Kind::Ack => [HASHED, COUNTED].map(|number| to(number, Payload::Tcp(80, ACK))).to_vec(),
            Kind::SynAck => {
                let both = |number| {
                    let syn = to(number, Payload::Tcp(80, SYN));
                    [syn, to(number, Payload::Tcp(80, ACK)).after(100)]
                };
                [both(HONEST), both(HASHED)].concat()
            }
            Kind::Udp => [HASHED, COUNTED].map(|number| to(number, Payload::Udp(53))).to_vec(),
            Kind::Persistent => vec![to(PERSISTENT, Payload::Udp(53))],
            Kind::TcpFragments => fragments(to, Payload::FirstTcp(80), 6),
            Kind::UdpFragments => fragments(to, Payload::FirstUdp(53), 17),
            Kind::FirstFragments => {
                [HASHED, COUNTED].map(|number| to(number, Payload::FirstUdp(53))).to_vec()
            }
            Kind::LaterFragments | Kind::FewLaterFragments => {
                vec![to(HASHED, Payload::Later(17, 16)), to(FRAGMENTED, Payload::Later(17, 16))]
            }
            Kind::IcmpErrors => {
                [HONEST, HASHED].map(|number| to(number, Payload::Error(80))).to_vec()
            }
            Kind::Options => {
                [HASHED, COUNTED].map(|number| to(number, Payload::Options(53))).to_vec()
            }
            Kind::Pings => vec![
                to(HONEST, Payload::Echo),
                Template::new(
                    if ipv6 { crate::DIP6 } else { crate::DIP },
                    Client::Spoofed,
                    Payload::Echo,
                ),
            ],
        }
    }
}

fn fragments(to: impl Fn(u8, Payload) -> Template, first: Payload, protocol: u8) -> Vec<Template> {
    let both = |number| [to(number, first), to(number, Payload::Later(protocol, 32))];
    [both(HASHED), both(COUNTED)].concat()
}
