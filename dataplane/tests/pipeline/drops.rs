//! Every drop reason: that it can happen, or whose it is.

use std::collections::BTreeSet;

use dataplane::packet::build::Build;
use dataplane::packet::ethernet;
use dataplane::packet::tcp::Flags;
use dataplane::snapshot::neighbors::NextHop;
use dataplane::stats::DropReason::{self, *};
use dataplane::types::{Mac, Protocol};
use dataplane::vocabulary::NoServer;

use crate::director::Director;
use crate::packets::*;
use crate::packets6::{WAN_DIP6, client6, from6};

fn director() -> Director {
    Director::with_workers(2, &["tcp 80 rr: 10.0.0.1 ipip", "udp 53 rr: 10.0.0.1 dr", "tcp 81 rr:"])
}

/// The same, after a packet.
fn after(packet: &[u8]) -> Director {
    let mut director = director();
    director.receive(&[packet.to_vec()]);
    director
}

fn typed(ethertype: u16) -> Vec<u8> {
    Build::eth(ROUTER_MAC, WAN_MAC)
        .ethertype(ethernet::EtherType(ethertype))
        .payload(&[0; 46])
        .finish()
}

fn to_station(mac: Mac) -> Vec<u8> {
    Build::eth(ROUTER_MAC, mac).ipv4(client(1), VIP).udp(1, 53).finish()
}

fn long(len: usize) -> Vec<u8> {
    tcp(1, Flags::SYN).payload(&vec![0; len]).finish()
}

/// A director that has just dropped a packet for this reason; `None` for what only the slow path
/// or the daemon gives as one. A new reason has to be decided on here.
fn scene(reason: DropReason) -> Option<Director> {
    let mut director = director();
    let real = [10, 0, 0, 1];
    Some(match reason {
        InboxFull | RateLimited | ArpIgnored | ArpInvalid | ArpConflict | BadIcmpChecksum
        | EchoRefused | IcmpToDirector | SlowPathUnknown | NdpIgnored | NdpConflict
        | MldIgnored | MldInvalid | AddressNotReady => return None,
        NotOurMac => after(&to_station(Mac([2; 6]))),
        L2Group => after(&to_station(Mac::BROADCAST)),
        EtherType => after(&typed(0x88cc)),
        Vlan => {
            let mut tagged = typed(0x8100);
            tagged[15] = 100;
            after(&tagged)
        }
        BadIpv6Header => after(&typed(0x86dd)),
        BadExtension => {
            let options = [0, 1, 4, 0, 0, 0, 0];
            after(&from6(1).ext(60, &options).ext(0, &options).udp(1, 53).finish())
        }
        ExtensionLimit => after(&from6(1).ext(60, &[65; 7]).udp(1, 53).finish()),
        RoutingHeader => after(&from6(1).ext(43, &[0, 2, 1, 0, 0, 0, 0]).udp(1, 53).finish()),
        NdpRouter => {
            let packet = Build::eth(ROUTER_MAC, WAN_MAC).ipv6(client6(1), WAN_DIP6);
            after(&packet.ttl(255).icmp6(134, 0, 0).payload(&[0; 16]).finish())
        }
        NdpInvalid => {
            // From beyond a router: the hop limit is not 255 any more.
            let all_nodes = "ff02::1".parse().unwrap();
            let packet = Build::eth(ROUTER_MAC, WAN_MAC).ipv6(client6(1), all_nodes);
            after(&packet.icmp6(135, 0, 0).payload(&[0; 16]).finish())
        }
        TooShort => after(&syn(1)[..20]),
        BadIpv4Header => after(&with_ip(syn(1), |ip| ip[3] = 19)),
        BadIpv4Checksum => {
            let mut packet = syn(1);
            packet[25] ^= 1;
            after(&packet)
        }
        BadL4Header => after(&with_ip(syn(1), |ip| ip[3] = 39)),
        BadSource => after(&with_ip(syn(1), |ip| ip[12] = 127)),
        NotLocal => after(&with_ip(syn(1), |ip| ip[19] = 81)),
        NoService => after(&from(1).tcp(1, 82, Flags::SYN, 0).finish()),
        ProtocolUnsupported => after(&from(1).protocol(50).payload(&[0; 8]).finish()),
        NoRealServer => {
            let mut spec = director.spec.clone();
            spec.switches.no_server = NoServer::Drop;
            director.configure(spec).unwrap();
            director.receive(&[from(1).tcp(1, 81, Flags::SYN, 0).finish()]);
            director
        }
        RealServerGone => {
            let mut spec = director.spec.clone();
            spec.switches.expire_nodest_conn = false;
            director.configure(spec.clone()).unwrap();
            director.receive(&[syn(1)]);
            std::sync::Arc::make_mut(&mut spec.services[0]).reals.clear();
            director.configure(spec).unwrap();
            director.receive(&[ack(1)]);
            director
        }
        ToDirector => {
            after(&Build::eth(ROUTER_MAC, WAN_MAC).ipv4(client(1), WAN_DIP).udp(1, 53).finish())
        }
        FragmentToDirector => {
            after(&from(1).protocol(1).fragment(64, false).payload(&[0; 8]).finish())
        }
        IcmpRedirect => after(&from(1).icmp(5, 1, 0).payload(&[0; 28]).finish()),
        IcmpType => after(&from(1).icmp(0, 0, 0).finish()),
        IcmpUnknownFlow => after(&icmp_error(1, Protocol::Tcp, 80)),
        ErrorSuppressed => after(&rst(1)),
        TooLong => after(&long(65_480)),
        TooManyFragments => {
            let mut spec = director.spec.clone();
            spec.ports[1].mtu = 500;
            director.configure(spec).unwrap();
            director.receive(&[long(60_000)]);
            director
        }
        NoBuffer => {
            director.pool.left.set(0);
            director.receive(&[long(1500)]);
            director
        }
        NoHeadroom => {
            let mut tight = director.census.buffer(&syn(1));
            tight.headroom = 10;
            director.burst(0, WAN, vec![tight]);
            director
        }
        FragmentUnknown => {
            director.receive(&udp_fragments(1, 1, 100, 64)[1..]);
            director.wait(500);
            director
        }
        Shutdown => {
            director.receive(&udp_fragments(1, 1, 100, 64)[1..]);
            director.workers[0].shutdown();
            director
        }
        NeighborFailed => {
            director.hop(real, NextHop::Failed);
            director.receive(&[syn(1)]);
            director
        }
        NeighborUnresolved => {
            director.hop(real, NextHop::Unknown);
            director.receive(&[long(1500)]);
            director
        }
        PortDown => {
            let mut spec = director.spec.clone();
            let unserved = spec.ports[1].clone();
            spec.ports[1].addresses = vec!["10.9.0.1/24".parse().unwrap()];
            spec.ports.push(unserved);
            director.configure(spec).unwrap();
            director.receive(&[syn(1)]);
            director
        }
        TxFull => {
            director.wire.tx_room = 0;
            director.receive(&[syn(1)]);
            director
        }
        PuntFull => {
            director.wire.punt_room = 0;
            director.receive(&[ack(1)]);
            director
        }
        HandoffFull => {
            director.wire.mail_room = 0;
            director.receive(&udp_fragments(1, 1, 100, 64)[..1]);
            director
        }
    })
}

#[test]
fn each_reason_happens_or_is_not_the_pipelines() {
    let mut others = BTreeSet::new();
    for &reason in DropReason::ALL {
        match scene(reason) {
            Some(director) => {
                director.check();
                let counts = director.counts();
                assert_eq!(
                    (counts.drops(reason), counts.dropped_total()),
                    (1, 1),
                    "{reason}: {counts:?}"
                );
            }
            None => assert!(others.insert(reason)),
        }
    }
    assert_eq!(others.len(), 14);
}
