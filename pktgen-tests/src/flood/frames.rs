//! Frames with bytes that differ from packet to packet.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a template, as in `source.c`.
pub(super) const LEN: usize = 256;
const PATCHES: usize = 20;

/// The router's Ethernet address, and the director's.
const ROUTER: [u8; 6] = [2, 0, 0xc0, 0, 2, 1];
const DIRECTOR: [u8; 6] = [2, 0, 0xc0, 0, 2, 0x0a];

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One kind of frame.
#[derive(Debug, Clone, Default)]
pub struct Template {
    frame: Vec<u8>,
    lag: u32,
    patches: Vec<[u8; 4]>,
    sums: Vec<[u16; 4]>,
}

/// Where a client's address and L4 port come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Anybody: 64.0.0.0/3 and 2a00::/16, any L4 port.
    Spoofed,
    /// The client of a number, of a set of them: 10.`set`.0.0/16, 2a`set`::/16. The same L4 port.
    Numbered(u8),
    /// The client of the number beside the running one, of set 8.
    Fragmenter,
}

/// What follows the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A TCP segment to an L4 port, with these flags.
    Tcp(u16, u8),
    /// A datagram to an L4 port.
    Udp(u16),
    /// An ICMP error about a TCP segment that somebody had from this L4 port.
    Error(u16),
    /// An echo request.
    Echo,
    /// A first fragment of a TCP segment or a datagram.
    FirstTcp(u16),
    /// See [`Payload::FirstTcp`].
    FirstUdp(u16),
    /// A later fragment of protocol 6 or 17, at byte 16 or 32 of the payload.
    Later(u8, u16),
    /// A datagram to an L4 port behind destination options, over IPv6 only.
    Options(u16),
}

/// TCP's flags.
pub const SYN: u8 = 2;
/// See [`SYN`].
pub const ACK: u8 = 16;
/// A first fragment's bytes of L4 header and payload.
const FIRST: usize = 32;

impl Template {
    /// One to a VIP.
    pub fn new(vip: &str, client: Client, payload: Payload) -> Template {
        match (vip.parse::<Ipv4Addr>(), vip.parse::<Ipv6Addr>()) {
            (Ok(vip), _) => Template::ipv4(vip, client, payload),
            (_, Ok(vip)) => Template::ipv6(vip, client, payload),
            _ => panic!("{vip:?} is no address"),
        }
    }

    /// Its bytes are those drawn so many turns ago.
    pub fn after(mut self, turns: u32) -> Template {
        self.lag = turns;
        self
    }

    fn patch(&mut self, at: usize, from: u8, mask: u8) {
        self.patches.push([at as u8, from, mask, 0]);
    }

    /// `len` drawn bytes from `from` on.
    fn draw(&mut self, at: usize, from: u8, len: u8) {
        for n in 0..len {
            self.patch(at + usize::from(n), from + n, 0xff);
        }
    }

    fn sum(&mut self, start: usize, len: usize, at: usize, seed: usize) {
        self.sums.push([start, len, at, seed].map(|n| n as u16));
    }

    fn ethernet(kind: u16) -> Template {
        let mut frame = [DIRECTOR, ROUTER].concat();
        frame.extend(kind.to_be_bytes());
        Template { frame, ..Template::default() }
    }

    fn ipv4(vip: Ipv4Addr, client: Client, payload: Payload) -> Template {
        let (protocol, l4) = payload.bytes(false, u32::from(vip).to_be_bytes().as_slice());
        let fragment: u16 = match payload {
            Payload::FirstTcp(_) | Payload::FirstUdp(_) => 0x2000,
            Payload::Later(_, at) => at / 8,
            _ => 0x4000,
        };
        let mut t = Template::ethernet(0x0800);
        t.frame.extend([0x45, 0]);
        t.frame.extend((20 + l4.len() as u16).to_be_bytes());
        t.frame.extend([0, 0]);
        t.frame.extend(fragment.to_be_bytes());
        t.frame.extend([64, protocol, 0, 0]);
        t.frame.extend(match client {
            Client::Spoofed => [0x40, 0, 0, 0],
            Client::Numbered(set) => [10, set, 0, 0],
            Client::Fragmenter => [10, 8, 0, 0],
        });
        t.frame.extend(vip.octets());
        t.frame.extend(&l4);
        let l4_at = ETHERNET + 20;
        match client {
            Client::Spoofed => {
                t.patch(26, 0, 0x1f);
                t.draw(27, 1, 3);
            }
            Client::Numbered(_) => {
                t.patch(28, 1, 0xff);
                t.patch(29, 0, 0xff);
            }
            Client::Fragmenter => t.patch(29, 8, 0xff),
        }
        if payload.is_fragment() {
            let from = if client == Client::Fragmenter { 0 } else { 6 };
            t.draw(18, from, 2);
        }
        t.l4(client, payload, l4_at);
        t.sum(ETHERNET, 20, 24, 0);
        if matches!(payload, Payload::Echo | Payload::Error(_)) {
            t.sum(l4_at, l4.len(), l4_at + 2, 0);
        }
        t.padded()
    }

    fn ipv6(vip: Ipv6Addr, client: Client, payload: Payload) -> Template {
        let (protocol, l4) = payload.bytes(true, &vip.octets());
        let mut t = Template::ethernet(0x86dd);
        let (next, extension) = match payload {
            Payload::FirstTcp(_) | Payload::FirstUdp(_) => (44, Some(1)),
            Payload::Later(_, at) => (44, Some(at & !7)),
            Payload::Options(_) => (60, None),
            _ => (protocol, None),
        };
        let options: &[u8] = match payload {
            Payload::Options(_) => &[UDP, 0, 1, 4, 0, 0, 0, 0],
            _ => &[],
        };
        let len = l4.len() + options.len() + extension.map_or(0, |_| 8);
        t.frame.extend([0x60, 0, 0, 0]);
        t.frame.extend((len as u16).to_be_bytes());
        t.frame.extend([next, 64]);
        let mut source = [0; 16];
        source[0] = 0x2a;
        source[1] = match client {
            Client::Spoofed => 0,
            Client::Numbered(set) => set,
            Client::Fragmenter => 8,
        };
        t.frame.extend(source);
        t.frame.extend(vip.octets());
        let mut l4_at = ETHERNET + 40;
        if let Some(bits) = extension {
            t.frame.extend([protocol, 0]);
            t.frame.extend(bits.to_be_bytes());
            t.frame.extend([0; 4]);
            let from = if client == Client::Fragmenter { 0 } else { 16 };
            t.draw(l4_at + 4, from, 4);
            l4_at += 8;
        }
        t.frame.extend(options);
        l4_at += options.len();
        t.frame.extend(&l4);
        match client {
            // Networks and hosts in them.
            Client::Spoofed => {
                t.draw(24, 0, 4);
                t.draw(34, 6, 4);
            }
            Client::Numbered(_) => {
                t.patch(36, 1, 0xff);
                t.patch(37, 0, 0xff);
            }
            Client::Fragmenter => t.patch(37, 8, 0xff),
        }
        t.l4(client, payload, l4_at);
        if matches!(payload, Payload::Echo | Payload::Error(_)) {
            // Both addresses lie before the message: the pseudo header but length and protocol.
            t.sum(22, 32 + l4.len(), l4_at + 2, l4.len() + 58);
        }
        t.padded()
    }

    fn l4(&mut self, client: Client, payload: Payload, at: usize) {
        match (payload, client) {
            (Payload::Later(..), Client::Fragmenter) => self.draw(at, 0, 4),
            (Payload::FirstUdp(_), Client::Fragmenter) => self.draw(at + 8, 0, 4),
            (Payload::Later(..), _) => {}
            // The client it is about is drawn, at the end of the quoted header, and its L4 port.
            (Payload::Error(_), _) => {
                let quoted = if self.frame[12..14] == [0x08, 0] { 20 } else { 40 };
                self.draw(at + 8 + quoted - 3, 9, 3);
                self.draw(at + 8 + quoted + 2, 12, 2);
            }
            (Payload::Echo, _) => self.draw(at + 6, 4, 2),
            // An L4 port above 1023.
            (_, Client::Spoofed) => self.draw(at, 4, 2),
            _ => {}
        }
        if matches!(client, Client::Spoofed)
            && !matches!(payload, Payload::Later(..) | Payload::Error(_) | Payload::Echo)
        {
            self.frame[at..at + 2].copy_from_slice(&[0x04, 0]);
        }
    }

    /// The least length of a frame, and a checksum's field for all that have none.
    fn padded(mut self) -> Template {
        self.frame.resize(self.frame.len().max(60), 0);
        self
    }

    /// As in `source.c`.
    pub(super) fn bytes(&self) -> [u8; LEN] {
        assert!(self.patches.len() <= PATCHES && self.sums.len() <= 2 && self.frame.len() <= 152);
        let mut bytes = [0; LEN];
        bytes[..2].copy_from_slice(&(self.frame.len() as u16).to_ne_bytes());
        bytes[2] = self.patches.len() as u8;
        bytes[3] = self.sums.len() as u8;
        bytes[4..8].copy_from_slice(&self.lag.to_ne_bytes());
        for (n, patch) in self.patches.iter().enumerate() {
            bytes[8 + 4 * n..12 + 4 * n].copy_from_slice(patch);
        }
        for (n, word) in self.sums.iter().flatten().enumerate() {
            bytes[88 + 2 * n..90 + 2 * n].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[104..104 + self.frame.len()].copy_from_slice(&self.frame);
        bytes
    }
}

impl Payload {
    fn is_fragment(self) -> bool {
        matches!(self, Payload::FirstTcp(_) | Payload::FirstUdp(_) | Payload::Later(..))
    }

    /// The protocol, and the bytes after the IP headers; checksums are drawn with the packet, or
    /// the real server's business.
    fn bytes(self, ipv6: bool, vip: &[u8]) -> (u8, Vec<u8>) {
        let (protocol, mut l4) = match self {
            Payload::Tcp(port, flags) => (TCP, tcp(0x2710, port, flags)),
            Payload::FirstTcp(port) => (TCP, tcp(0x2710, port, ACK)),
            Payload::Udp(port) | Payload::Options(port) => (UDP, udp(0x2710, port, 16)),
            Payload::FirstUdp(port) => (UDP, udp(0x2710, port, 48)),
            Payload::Later(protocol, _) => (protocol, vec![0; 16]),
            Payload::Echo => (if ipv6 { 58 } else { 1 }, echo(ipv6)),
            Payload::Error(port) => (if ipv6 { 58 } else { 1 }, error(ipv6, vip, port)),
        };
        if matches!(self, Payload::FirstTcp(_) | Payload::FirstUdp(_)) {
            l4.resize(FIRST, 0);
        }
        (protocol, l4)
    }
}

fn tcp(sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    let mut l4 = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    l4.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 4, 0, 0, 0, 0, 0]);
    l4
}

/// With a length of the whole datagram; its checksum is left to the real server.
fn udp(sport: u16, dport: u16, len: u16) -> Vec<u8> {
    let mut l4 = [sport.to_be_bytes(), dport.to_be_bytes(), len.to_be_bytes()].concat();
    l4.resize(16, 0);
    l4
}

fn echo(ipv6: bool) -> Vec<u8> {
    let mut l4 = vec![if ipv6 { 128 } else { 8 }, 0, 0, 0, 0, 7, 0, 0];
    l4.resize(24, 0);
    l4
}

/// Host unreachable, about what the VIP sent to a client in 64.0.0.0/8 or 2a00::/16.
fn error(ipv6: bool, vip: &[u8], port: u16) -> Vec<u8> {
    let mut l4 = if ipv6 { vec![1, 3] } else { vec![3, 1] };
    l4.resize(8, 0);
    if ipv6 {
        l4.extend([0x60, 0, 0, 0, 0, 20, TCP, 63]);
        l4.extend(vip);
        l4.extend([0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    } else {
        l4.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 63, TCP, 0, 0]);
        l4.extend(vip);
        l4.extend([0x40, 0, 0, 0]);
    }
    l4.extend(port.to_be_bytes());
    l4.extend([0, 0, 0, 0, 0, 1]);
    l4
}
