//! The probes against a TCP stack that is not ours.

use std::net::SocketAddr;
use std::sync::Arc;

use dataplane::health::{Heard, Numbers, Set, State, Target, Via};
use dataplane::types::{Millis, NeighborId, RealId};
use dataplane::vocabulary::ForwardMethod;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::network::{KEY, check, rip, service};

/// A device of IP packets: those that came, and those that go.
#[derive(Default)]
struct Wire {
    came: Vec<Vec<u8>>,
    go: Vec<Vec<u8>>,
}

struct Came(Vec<u8>);
struct Go<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Came {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Go<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Came;
    type TxToken<'a> = Go<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Came, Go<'_>)> {
        let packet = if self.came.is_empty() { None } else { Some(self.came.remove(0)) };
        packet.map(|packet| (Came(packet), Go(&mut self.go)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Go<'_>> {
        Some(Go(&mut self.go))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = 1500;
        caps.checksum = ChecksumCapabilities::default();
        caps
    }
}

/// A real server that holds the VIP and listens; a greeting is sent before anything is read.
struct Server {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    greeting: &'static [u8],
    /// States its socket was in, one after the other.
    states: Vec<tcp::State>,
}

impl Server {
    fn new(vip: std::net::IpAddr, greeting: &'static [u8]) -> Server {
        let mut wire = Wire::default();
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        let prefix = if vip.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::from(vip), prefix)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route([10, 0, 0, 1].into()).unwrap();
        interface.routes_mut().add_default_ipv6_route("2001:db8:9::1".parse().unwrap()).unwrap();
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Server { wire, interface, sockets, handle, greeting, states: Vec::new() }
    }

    fn run(&mut self, now: Millis) {
        let now = Instant::from_millis(now.0 as i64);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let before = socket.state();
        match socket.state() {
            tcp::State::Closed => socket.listen(80).unwrap(),
            tcp::State::Established if !self.greeting.is_empty() => {
                socket.send_slice(self.greeting).unwrap();
            }
            // The client has closed: so does a server.
            tcp::State::CloseWait if socket.send_queue() == 0 => socket.close(),
            _ => {}
        }
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        let socket = self.sockets.get::<tcp::Socket<'_>>(self.handle);
        for state in [before, socket.state()] {
            if self.states.last() != Some(&state) {
                self.states.push(state);
            }
        }
    }
}

#[test]
fn another_stack_is_opened_and_closed_without_a_reset() {
    for (six, greeting) in [(false, &b""[..]), (true, b""), (false, b"220 mail\r\n"), (true, b"hi")]
    {
        let (key, numbers) = (service(six), Numbers::new(KEY));
        let mut set = Set::new(numbers, 50);
        let mut server = Server::new(key.vip, greeting);
        let target = Target {
            check: Arc::new(check()),
            real: rip(0),
            method: ForwardMethod::Dr,
            gre: (false, None),
            to: SocketAddr::new(key.vip, 80),
        };
        let dip = if six { "2001:db8::1" } else { "192.0.2.1" }.parse().unwrap();
        let via = Via { real: RealId(0), neighbor: NeighborId(0), from: Some(dip) };
        set.watch((key, rip(0)), target, via, Millis(0));
        let mut answers = 0;
        for now in (0..21_000).map(Millis) {
            let mut out = Vec::new();
            let mut send = |_: RealId, packet: &[u8]| {
                out.push(packet.to_vec());
                true
            };
            for packet in std::mem::take(&mut server.wire.go) {
                assert_eq!(set.receive(&packet, now, &mut send), Heard::Answer);
                answers += 1;
            }
            set.poll(now, &mut send);
            server.wire.came.extend(out);
            server.run(now);
        }
        let news = set.take_news();
        assert_eq!(news.len(), 2, "unchecked, and up");
        assert_eq!(news[1].state(), State::Up);
        assert!(answers >= 3 * 9, "{answers}");
        // Each connection comes to an orderly end: a reset would skip the last state but one.
        let opened = server.states.iter().filter(|s| **s == tcp::State::LastAck).count();
        assert!((9..=11).contains(&opened), "{:?}", server.states);
        let is_orderly =
            |w: &[tcp::State]| w[1] != tcp::State::Closed || w[0] == tcp::State::LastAck;
        assert!(server.states.windows(2).all(is_orderly), "{:?}", server.states);
    }
}
