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

    // One flow, one real server. (Fragments are tested elsewhere: the kernel reassembles them before
    // a packet socket sees them.)
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
