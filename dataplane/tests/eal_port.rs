//! Ports and queues under a real EAL, on virtual devices: no mbuf is lost, and errors say why.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

mod eal_common;

use arrayvec::ArrayVec;
use dataplane::dpdk::{
    Mbuf, Mempool, Port, PortConfig, PortError, RxQueue, TxQueue, attach, detach, devices,
};
use dataplane::packet::buf::{BufPool, PacketBuf};
use dataplane::types::Mac;

#[test]
fn ports_and_queues() {
    let eal = eal_common::start();
    let pool = Mempool::new("ports", 4095, 128, 2048, None).unwrap();
    fills_and_drains_a_ring(&pool);
    a_million_packets_and_none_lost(&pool);
    a_port_lives_as_long_as_its_queues(&pool);
    queues_of_null_devices(&pool);
    a_capture_is_read_byte_for_byte(&pool);
    errors_say_what_to_do(&pool);
    assert_eq!(pool.in_use(), 0, "mbufs lost");
    drop((pool, eal));
}

/// A port whose queue `i` receives what its queue `i` sends.
fn loopback(pool: &Mempool, name: &str, queues: u16) -> (Port, Vec<RxQueue>, Vec<TxQueue>) {
    assert_eq!(attach(name).unwrap(), name);
    let config =
        PortConfig { rx_queues: queues, tx_queues: queues, ..PortConfig::new(name, pool.clone()) };
    Port::configure(&config).unwrap()
}

fn numbered(pool: &Mempool, number: u64) -> Option<Mbuf> {
    let mut mbuf = pool.alloc()?;
    assert!(mbuf.append(60));
    mbuf.data_mut()[..8].copy_from_slice(&number.to_le_bytes());
    Some(mbuf)
}

fn number(mbuf: &Mbuf) -> u64 {
    u64::from_le_bytes(mbuf.data()[..8].try_into().unwrap())
}

fn fills_and_drains_a_ring(pool: &Mempool) {
    let (port, mut rx, mut tx) = loopback(pool, "net_ring0", 1);
    assert_eq!(port.driver(), "net_ring");
    let (mut sent, mut burst) = (0, ArrayVec::<Mbuf, 48>::new());
    // A TX queue that fills up leaves the rest in the vector, in order.
    let stuck = loop {
        while !burst.is_full() {
            let next = sent + burst.len() as u64;
            burst.push(numbered(pool, next).unwrap());
        }
        match tx[0].burst(&mut burst) {
            48 => sent += 48,
            part => {
                sent += part as u64;
                break burst.len();
            }
        }
    };
    assert!(stuck > 0 && sent > 48, "{sent} sent, {stuck} left");
    for (at, mbuf) in burst.iter().enumerate() {
        assert_eq!(number(mbuf), sent + at as u64);
    }
    assert_eq!(tx[0].burst(&mut burst), 0);
    assert_eq!(burst.len(), stuck);
    assert_eq!(u64::from(pool.in_use()), sent + stuck as u64);

    // Receiving fills what room there is, behind what is there.
    let mut out = ArrayVec::<Mbuf, 64>::new();
    out.extend(burst.drain(..1));
    assert_eq!(rx[0].burst(&mut out), 63);
    assert_eq!(rx[0].burst(&mut out), 0, "no room");
    assert_eq!((number(&out[0]), number(&out[1]), number(&out[63])), (sent, 0, 62));
    let mut got = 63;
    loop {
        out.clear();
        match rx[0].burst(&mut out) {
            0 => break,
            n => got += n as u64,
        }
    }
    assert_eq!(got, sent);
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (sent, sent));
    port.reset_stats().unwrap();
    assert_eq!(port.stats().unwrap().rx_packets, 0);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
    drop((port, rx, tx));
    detach("net_ring0").unwrap();
}

fn a_million_packets_and_none_lost(pool: &Mempool) {
    const PACKETS: u64 = 1_000_000;
    let (port, rx, mut tx) = loopback(pool, "net_ring1", 2);
    let (mut next, mut refused) = (0, 0u64);
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    // A thread of its own per receiving queue, slower than the sender at times.
    let receivers: Vec<_> = rx
        .into_iter()
        .map(|mut rx| {
            std::thread::spawn(move || {
                let (mut got, mut last, mut burst) = (0u64, None, ArrayVec::<Mbuf, 32>::new());
                loop {
                    rx.burst(&mut burst);
                    for mbuf in burst.drain(..) {
                        let number = number(&mbuf);
                        if number == u64::MAX {
                            return got;
                        }
                        assert!(last < Some(number), "out of order");
                        last = Some(number);
                        got += 1;
                    }
                    if got % 1024 < 32 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    while next < PACKETS || !burst.is_empty() {
        while !burst.is_full() && next < PACKETS {
            let Some(mbuf) = numbered(pool, next) else { break };
            burst.push(mbuf);
            next += 1;
        }
        let before = burst.len();
        refused += (before - tx[(next / 32 % 2) as usize].burst(&mut burst)) as u64;
        if !burst.is_empty() {
            std::thread::yield_now();
        }
    }
    for queue in &mut tx {
        let mut stop = ArrayVec::<Mbuf, 1>::new();
        while !stop.is_full() {
            stop.extend(numbered(pool, u64::MAX));
        }
        while queue.burst(&mut stop) == 0 {
            std::thread::yield_now();
        }
    }
    let got: u64 = receivers.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(got, PACKETS);
    assert_eq!(pool.in_use(), 0, "{refused} were refused at first");
    drop((port, tx));
    detach("net_ring1").unwrap();
}

fn a_port_lives_as_long_as_its_queues(pool: &Mempool) {
    let (port, mut rx, mut tx) = loopback(pool, "net_ring2", 1);
    drop(port);
    let again = Port::configure(&PortConfig::new("net_ring2", pool.clone())).unwrap_err();
    assert!(matches!(again, PortError::Busy(_)), "{again}");
    assert!(detach("net_ring2").is_err(), "a queue is in use");
    let mut burst: ArrayVec<Mbuf, 32> = numbered(pool, 1).into_iter().collect();
    assert_eq!(tx[0].burst(&mut burst), 1);
    assert_eq!(rx[0].burst(&mut burst), 1);
    drop(burst);
    assert!(devices().contains(&"net_ring2".to_owned()));
    drop((rx, tx));
    assert!(!devices().contains(&"net_ring2".to_owned()), "closed with its last queue");
    detach("net_ring2").unwrap();
    let (_port, _rx, _tx) = loopback(pool, "net_ring2", 1);
}

fn queues_of_null_devices(pool: &Mempool) {
    let name = attach("net_null0,size=90").unwrap();
    assert_eq!(name, "net_null0");
    assert_eq!(attach("net_null0").unwrap(), name, "attached already");
    let config = PortConfig { promiscuous: true, ..PortConfig::new(&name, pool.clone()) };
    let (port, mut rx, mut tx) = Port::configure(&config).unwrap();
    let mut burst = ArrayVec::<Mbuf, 64>::new();
    assert_eq!(rx[0].burst(&mut burst), 64);
    assert!(burst.iter().all(|mbuf| mbuf.len() == 90 && mbuf.ethdev_id() == port.ethdev_id()));
    assert_eq!(tx[0].burst(&mut burst), 64);
    assert_eq!(pool.in_use(), 0, "a null device frees at once");
    assert_eq!(port.mtu(), 1500);
    assert!(port.mac().is_station() || port.mac() == Mac::ZERO);
    assert!(port.link().is_ok());
    assert!(!port.features().rss && !port.features().tx_ip_checksum);
}

/// One Ethernet frame in a capture of the classic format.
fn capture(frame: &[u8]) -> Vec<u8> {
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        pcap.extend(word.to_le_bytes());
    }
    for word in [0, 0, frame.len() as u32, frame.len() as u32] {
        pcap.extend(word.to_le_bytes());
    }
    pcap.extend(frame);
    pcap
}

fn a_capture_is_read_byte_for_byte(pool: &Mempool) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jumbo.pcap");
    let frame: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&file, capture(&frame)).unwrap();
    let name = attach(&format!("net_pcap0,rx_pcap={}", file.display())).unwrap();
    let (_port, mut rx, _tx) = Port::configure(&PortConfig::new(&name, pool.clone())).unwrap();
    let mut burst = ArrayVec::<Mbuf, 32>::new();
    assert_eq!(rx[0].burst(&mut burst), 1);
    let mbuf = &burst[0];
    assert!(mbuf.segments() > 1 && mbuf.data().len() < mbuf.len(), "{mbuf:?}");
    let mut all = vec![0; mbuf.len()];
    assert!(mbuf.copy_to(0, &mut all));
    assert_eq!(all, frame);
}

fn errors_say_what_to_do(pool: &Mempool) {
    let text = |config: &PortConfig| Port::configure(config).unwrap_err().to_string();
    let plain = |device: &str| PortConfig::new(device, pool.clone());

    attach("net_null1").unwrap();
    let missing = text(&plain("0000:99:00.0"));
    assert!(missing.contains("no port named \"0000:99:00.0\""), "{missing}");
    assert!(missing.contains("net_null1"), "names those there are: {missing}");

    let many = text(&PortConfig { rx_queues: 2000, ..plain("net_null1") });
    assert!(many.contains("2000 are asked for") && many.contains("net_null"), "{many}");
    assert!(many.contains("has 1024 RX queues"), "{many}");

    let mtu = text(&PortConfig { mtu: Some(10), ..plain("net_null1") });
    assert!(mtu.contains("MTU 10 is not within 46 to"), "{mtu}");

    let none = text(&PortConfig { pools: Vec::new(), ..plain("net_null1") });
    assert!(none.contains("mempool"), "{none}");
    // None of this has made the port unusable.
    Port::configure(&plain("net_null1")).unwrap();

    let unknown = attach("net_nosuch0").unwrap_err().to_string();
    assert!(unknown.contains("plugin directory"), "{unknown}");
    let iface = attach("net_af_packet0,iface=no-such-if").unwrap_err().to_string();
    assert!(iface.contains("DPDK said"), "{iface}");
}
