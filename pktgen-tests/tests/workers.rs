//! Two workers on two queues of one port.

use std::collections::BTreeSet;

use pktgen_tests::{Config, Director, Lab, RS1, RS2, Reals, can_run};

const BOTH: &[(&str, u32, &str)] = &[(RS1, 4, "dr"), (RS2, 2, "dr")];

#[test]
fn two_workers_share_the_traffic_and_the_schedulers() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Reals::Dr, 2);
    let config = Config::two_workers()
        .service("tcp", "192.0.2.100:80", "wrr", BOTH)
        .service("tcp", "192.0.2.101:80", "wlc", BOTH)
        .service("tcp", "192.0.2.102:80", "mh", BOTH)
        .service("udp", "192.0.2.103:53", "rr", BOTH);
    let director = Director::start(&lab, &config);

    for vip in ["192.0.2.100", "192.0.2.101"] {
        let served = lab.fetch(&format!("http://{vip}/"), 1000);
        let one = served.iter().filter(|s| *s == "rs1").count();
        let two = served.iter().filter(|s| *s == "rs2").count();
        assert_eq!(one + two, 1000, "{vip}: {served:?}");
        let ratio = one as f64 / two as f64;
        assert!((1.9..=2.1).contains(&ratio), "{vip}: {one} to {two}");
    }
    // A hash scheduler says the same on both workers: each request comes by another L4 port.
    let servers: BTreeSet<_> = lab.fetch("http://192.0.2.102/", 100).into_iter().collect();
    assert_eq!(servers.len(), 1, "{servers:?}");

    // One flow, one real server. (Fragments are tested elsewhere: the kernel reassembles them
    // before a packet socket sees them.)
    let ask = r"
import socket, sys
for _ in range(20):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect(('192.0.2.103', 53))
    answers = set()
    for size in (100, 1400, 100, 1400):
        s.send(b'x' * size)
        answers.add(s.recv(100).decode().strip())
    print(len(answers))
";
    let answers = lab.python("client", ask, &[]).ok();
    assert_eq!(answers.lines().collect::<BTreeSet<_>>(), BTreeSet::from(["1"]), "{answers}");

    director.assert_balanced();
    let stats = director.stats();
    let workers = stats["workers"].as_array().expect("workers");
    assert_eq!(workers.len(), 2);
    for worker in workers {
        assert!(worker["events"]["forwarded"].as_u64() > Some(500), "{stats}");
    }
    let total = &stats["total"]["events"];
    assert_eq!(total["handed_over"], total["taken_over"]);
    let port = &director.json(&["port", "list"])[0];
    assert_eq!((&port["queues"], port["workers"].as_array().map(Vec::len)), (&2.into(), Some(2)));
    assert_eq!(director.stop().code(), Some(0));
}

#[test]
fn persistent_clients_stay_over_both_workers() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Reals::Dr, 2);
    let config = Config::two_workers()
        .service("tcp", "192.0.2.100:80", "rr", BOTH)
        .service("tcp", "192.0.2.101:80", "rr", BOTH)
        .service("tcp", "192.0.2.102:80", "rr", BOTH);
    let director = Director::start(&lab, &config);
    for (vip, mask) in [("192.0.2.100", "255.255.255.255"), ("192.0.2.101", "255.255.255.0")] {
        let address = format!("{vip}:80");
        let options = ["--persistence", "300s", "--persistence-netmask", mask];
        director.shunt(&[&["service", "edit", "tcp", &address], &options[..]].concat()).ok();
    }
    // Each connection is from another L4 port, so the NIC's hash spreads them over both queues.
    let fetch = |client: &str, vip: &str| {
        let bind = format!("--interface {client}");
        let served = lab.fetch_by(&bind, &format!("http://{vip}/"), 40);
        served.into_iter().collect::<BTreeSet<_>>()
    };
    let clients = ["198.51.100.11", "198.51.100.12", "198.51.100.13", "198.51.100.14"];
    let servers: Vec<_> = clients.iter().map(|client| fetch(client, "192.0.2.100")).collect();
    assert!(servers.iter().all(|servers| servers.len() == 1), "one each: {servers:?}");
    let all: BTreeSet<_> = servers.iter().flatten().cloned().collect();
    assert_eq!(all, BTreeSet::from(["rs1".to_owned(), "rs2".to_owned()]), "but not all the same");
    for (client, before) in clients.iter().zip(&servers) {
        assert_eq!(fetch(client, "192.0.2.100"), *before, "{client} comes back");
    }
    let network: BTreeSet<_> = clients.iter().flat_map(|c| fetch(c, "192.0.2.101")).collect();
    assert_eq!(network.len(), 1, "clients of a network are one: {network:?}");
    assert_eq!(fetch(clients[0], "192.0.2.102").len(), 2, "without persistence they are spread");

    // A template for each client, one for the network.
    let rows = director.json(&["service", "list"]);
    let templates = |vip: &str| {
        let mut services = rows.as_array().expect("rows").iter();
        let row = services.find(|row| row["address"] == format!("{vip}:80"));
        let reals = row.and_then(|row| row["reals"].as_array()).expect("real servers");
        reals.iter().map(|real| real["templates"].as_u64().unwrap_or(0)).sum::<u64>()
    };
    assert_eq!((templates("192.0.2.100"), templates("192.0.2.101")), (4, 1), "{rows}");
    let stats = director.stats();
    for worker in stats["workers"].as_array().expect("workers") {
        assert!(worker["events"]["flows_created"].as_u64() > Some(50), "{stats}");
    }
    director.assert_balanced();
}

#[test]
fn a_port_with_fewer_queues_is_served_by_fewer_workers() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Reals::Dr, 1);
    let config = Config::two_workers().service("tcp", "192.0.2.100:80", "rr", BOTH);
    let director = Director::start(&lab, &config.with_vdev("net_af_packet0,iface=lan0"));
    assert_eq!(
        lab.fetch("http://192.0.2.100/", 20).iter().filter(|s| s.starts_with('-')).count(),
        0
    );
    let port = &director.json(&["port", "list"])[0];
    assert_eq!(port["workers"].as_array().map(Vec::len), Some(1), "{port}");
    assert!(director.log().contains("1 of 2 workers run"), "{}", director.log());
}
