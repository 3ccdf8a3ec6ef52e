//! Packets to one or many virtual services, from one or many clients.

use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::types::{Mac, Protocol};

/// The port's Ethernet address, and the router's in front of it.
pub const PORT_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// VIP of service `n`.
pub fn vip(n: usize) -> Ipv4Addr {
    (0xcb00_0000 + n as u32).into()
}

/// VIP of service `n` over IPv6: the last bits are those of the other VIP.
pub fn vip6(n: usize) -> Ipv6Addr {
    wide(vip(n).to_bits())
}

/// The IPv6 address that stands for an IPv4 address of the rules below.
fn wide(bits: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits))
}

/// The services' L4 port.
pub const fn vip_port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 80,
        Protocol::Udp => 443,
    }
}

/// What differs between the packets of one scenario.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    src: u32,
    dst: u32,
    sport: u16,
}

impl Flow {
    /// Flow `n` of those to `services` services: service after service, client after client.
    pub fn nth(n: usize, services: usize) -> Flow {
        Flow {
            src: 0x0a00_0001 + (n / 50_000) as u32,
            dst: vip(n % services).into(),
            sport: 10_000 + (n % 50_000) as u16,
        }
    }

    /// One of 4096 source addresses, all else the same, as the kernel benchmark's "diverse" flows.
    pub fn diverse(n: usize) -> Flow {
        Flow { src: 0x0a0a_0000 + (n & 0xfff) as u32, dst: vip(0).into(), sport: 12_345 }
    }
}

/// A set of flows, by rule.
#[derive(Debug, Clone, Copy)]
pub enum Flows {
    /// The first `count` of [`Flow::nth`].
    Nth { count: usize, services: usize },
    /// The 4096 of [`Flow::diverse`].
    Diverse,
}

impl Flows {
    pub const NONE: Flows = Flows::Nth { count: 0, services: 1 };

    /// All of them, in order.
    pub fn all(self) -> Vec<Flow> {
        match self {
            Flows::Nth { count, services } => (0..count).map(|n| Flow::nth(n, services)).collect(),
            Flows::Diverse => (0..4096).map(Flow::diverse).collect(),
        }
    }
}

/// The order in which flows are visited, by rule.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// As they are, again and again.
    Round(Flows),
    /// In one random order, again and again.
    Shuffled(Flows),
    /// So many drawn at random from [`Flows::Diverse`], again and again.
    Drawn(usize),
    /// Any of 2^24 source addresses.
    Strangers,
    /// New L4 ports of one client, one after the other.
    Ports,
    /// One packet to an address that is no VIP.
    NoVip,
}

impl Order {
    /// Starts to visit.
    pub fn visits(self) -> Visits {
        let mut random = Random::default();
        let flows = match self {
            Order::Round(flows) => flows.all(),
            Order::Shuffled(flows) => {
                let mut flows = flows.all();
                for i in (1..flows.len()).rev() {
                    flows.swap(i, random.below(i + 1));
                }
                flows
            }
            Order::Drawn(count) => (0..count).map(|_| Flow::diverse(random.below(4096))).collect(),
            Order::NoVip => vec![Flow::nth(9, 10)],
            Order::Strangers => return Visits::Strangers { random },
            Order::Ports => return Visits::Ports { next: 0 },
        };
        Visits::Round { flows, next: 0 }
    }
}

/// Flows being visited; there is always a next one.
pub enum Visits {
    Round { flows: Vec<Flow>, next: usize },
    Strangers { random: Random },
    Ports { next: u16 },
}

impl Visits {
    /// Flows in one round.
    pub fn len(&self) -> usize {
        match self {
            Visits::Round { flows, .. } => flows.len(),
            Visits::Strangers { .. } | Visits::Ports { .. } => usize::MAX,
        }
    }

    #[inline(always)]
    pub fn next(&mut self) -> Flow {
        match self {
            Visits::Round { flows, next } => {
                let flow = flows[*next];
                *next += 1;
                if *next == flows.len() {
                    *next = 0;
                }
                flow
            }
            Visits::Strangers { random } => Flow {
                src: 0x0a00_0000 | random.below(1 << 24) as u32,
                dst: vip(0).into(),
                sport: 12_345,
            },
            Visits::Ports { next } => {
                *next = next.wrapping_add(1);
                Flow { src: STRANGER.to_bits(), dst: vip(0).into(), sport: *next }
            }
        }
    }
}

/// The client of [`Order::Ports`].
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

/// xorshift64: the same numbers in every run.
pub struct Random(u64);

impl Default for Random {
    fn default() -> Random {
        Random(0x2545_f491_4f6c_dd1d)
    }
}

impl Random {
    #[inline(always)]
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * n as u64) >> 32) as usize
    }
}

/// Bytes of a template: all headers, be they of IPv6 and a fragment.
pub const HEADERS: usize = 96;

/// A frame of which addresses and source L4 port are filled in.
#[derive(Debug, Clone)]
pub struct Template {
    headers: [u8; HEADERS],
    len: usize,
    /// Sum of the IPv4 header without checksum and addresses; none for what is not IPv4.
    sum: Option<u32>,
    /// Whether L4 ports follow a header without options.
    has_ports: bool,
    /// Where the L4 ports are in an IPv6 packet.
    ports6: Option<usize>,
    is_udp: bool,
}

impl Template {
    fn of(frame: &[u8]) -> Template {
        let mut headers = [0; HEADERS];
        let known = frame.len().min(HEADERS);
        headers[..known].copy_from_slice(&frame[..known]);
        let ipv4 = headers[12..14] == [8, 0];
        let words = usize::from(headers[14] & 0xf) * 2;
        let word =
            |n: usize| u32::from(u16::from_be_bytes([headers[14 + 2 * n], headers[15 + 2 * n]]));
        let sum = ipv4.then(|| (0..words).filter(|n| !(5..=9).contains(n)).map(word).sum());
        let has_ports = ipv4 && headers[14] == 0x45 && matches!(headers[23], 6 | 17);
        let fragment = headers[20] == 44;
        let ports6 = (headers[12..14] == [0x86, 0xdd]).then_some(if fragment { 62 } else { 54 });
        let is_udp = if ipv4 { headers[23] == 17 } else { ports6.is_some() && headers[20] == 17 };
        Template { headers, len: frame.len(), sum, has_ports, ports6, is_udp }
    }

    fn ip() -> Build {
        Build::eth(ROUTER_MAC, PORT_MAC).ipv4(Ipv4Addr::new(10, 0, 0, 1), vip(0)).df(true)
    }

    fn ip6() -> Build {
        Build::eth(ROUTER_MAC, PORT_MAC).ipv6(wide(0x0a00_0001), vip6(0))
    }

    /// A TCP segment in the shortest Ethernet frame.
    pub fn tcp(flags: Flags) -> Template {
        Template::of(&Template::ip().tcp(1, vip_port(Protocol::Tcp), flags, 1).pad(60).finish())
    }

    /// A UDP datagram in the shortest Ethernet frame.
    pub fn udp() -> Template {
        let port = vip_port(Protocol::Udp);
        Template::of(&Template::ip().udp(1, port).payload(&[0x55; 18]).pad(60).finish())
    }

    /// A TCP segment over IPv6, as short as can be.
    pub fn tcp6(flags: Flags) -> Template {
        Template::of(&Template::ip6().tcp(1, vip_port(Protocol::Tcp), flags, 1).finish())
    }

    /// A UDP datagram over IPv6, as long as the TCP segment.
    pub fn udp6() -> Template {
        let port = vip_port(Protocol::Udp);
        Template::of(&Template::ip6().udp(1, port).payload(&[0x55; 12]).finish())
    }

    /// A TCP segment with IP options (router alert).
    pub fn options() -> Template {
        let port = vip_port(Protocol::Tcp);
        let ip = Template::ip().options(&[148, 4, 0, 0]);
        Template::of(&ip.tcp(1, port, Flags::ACK, 1).pad(60).finish())
    }

    /// The first fragment of a TCP segment.
    pub fn fragment() -> Template {
        let ip = Template::ip().df(false).id(7).fragment(0, true);
        Template::of(&ip.tcp(1, 80, Flags::ACK, 1).payload(&[0; 4]).pad(60).finish())
    }

    /// The same over IPv6.
    pub fn fragment6() -> Template {
        let ip = Template::ip6().fragment6(0, true, 7);
        Template::of(&ip.tcp(1, 80, Flags::ACK, 1).payload(&[0; 4]).finish())
    }

    /// An ICMP echo request.
    pub fn echo() -> Template {
        Template::of(&Template::ip().icmp(8, 0, 1).payload(&[0; 18]).pad(60).finish())
    }

    /// A frame that is not IP.
    pub fn ethertype(ethertype: u16) -> Template {
        let ethertype = dataplane::packet::ethernet::EtherType(ethertype);
        Template::of(&Build::eth(ROUTER_MAC, PORT_MAC).ethertype(ethertype).pad(60).finish())
    }

    /// Whether it is a UDP datagram.
    pub fn is_udp(&self) -> bool {
        self.is_udp
    }

    /// Whether it is an IPv6 packet, to be written by [`Template::write6`].
    pub fn is_ipv6(&self) -> bool {
        self.ports6.is_some()
    }

    /// Length of the frame, without frame check sequence.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes the first bytes of one flow's frame, 60 or more.
    #[inline(always)]
    pub fn write<const N: usize>(&self, flow: Flow, frame: &mut [u8; N]) {
        // Straight into place: a copy of what was just written bit by bit would have to wait.
        frame.copy_from_slice(&self.headers[..N]);
        let Some(sum) = self.sum else { return };
        frame[26..30].copy_from_slice(&flow.src.to_be_bytes());
        frame[30..34].copy_from_slice(&flow.dst.to_be_bytes());
        let [a, b, c, d] = [flow.src >> 16, flow.src & 0xffff, flow.dst >> 16, flow.dst & 0xffff];
        let sum = sum + a + b + c + d;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        if self.has_ports {
            frame[34..36].copy_from_slice(&flow.sport.to_be_bytes());
        }
    }

    /// The same for an IPv6 packet.
    pub fn write6(&self, flow: Flow, frame: &mut [u8; HEADERS]) {
        frame.copy_from_slice(&self.headers);
        frame[34..38].copy_from_slice(&flow.src.to_be_bytes());
        frame[50..54].copy_from_slice(&flow.dst.to_be_bytes());
        if let Some(at) = self.ports6 {
            frame[at..at + 2].copy_from_slice(&flow.sport.to_be_bytes());
        }
    }
}
