//! Real clients, real servers, all three forwarding methods.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pktgen_tests::{Config, DIP, DIRECTOR_MAC, Director, Lab, RS1, RS2, RS3, RS4, Reals, can_run};

/// The lab of this file's tests, one test at a time.
fn lab() -> Option<MutexGuard<'static, Lab>> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    can_run().then(|| {
        let lab = LAB.get_or_init(|| Mutex::new(Lab::up(Reals::All, 1)));
        lab.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

/// One virtual service a method.
fn all_methods() -> Config {
    Config::new()
        .service("tcp", "192.0.2.100:80", "wrr", &[(RS1, 1, "dr"), (RS2, 1, "dr")])
        .service("tcp", "192.0.2.101:80", "rr", &[(RS3, 1, "ipip")])
        .service("tcp", "192.0.2.102:80", "rr", &[(RS4, 1, "gre")])
        .service("udp", "192.0.2.100:53", "rr", &[(RS1, 1, "dr"), (RS2, 1, "dr")])
        .service("udp", "192.0.2.101:53", "rr", &[(RS3, 1, "ipip")])
        .service("udp", "192.0.2.102:53", "rr", &[(RS4, 1, "gre")])
}

fn tally(served: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for server in served {
        *tally.entry(server.as_str()).or_default() += 1;
    }
    tally
}

#[test]
fn a_thousand_requests_by_each_method_and_none_fails() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_methods());
    let dr = lab.fetch("http://192.0.2.100/", 1000);
    assert_eq!(tally(&dr), BTreeMap::from([("rs1", 500), ("rs2", 500)]));
    let ipip = lab.fetch("http://192.0.2.101/", 1000);
    assert_eq!(tally(&ipip), BTreeMap::from([("rs3", 1000)]));
    let gre = lab.fetch("http://192.0.2.102/", 1000);
    assert_eq!(tally(&gre), BTreeMap::from([("rs4", 1000)]));

    director.assert_balanced();
    let services = director.json(&["service", "list"]);
    let connections: u64 = services
        .as_array()
        .expect("services")
        .iter()
        .map(|s| s["connections"].as_u64().expect("a count"))
        .sum();
    assert_eq!(connections, 3000, "{services}");
    // What is not forwarded or punted is chatter of the segment, never a client's packet.
    let stats = director.stats();
    for reason in
        ["no_service", "no_real_server", "neighbor_unresolved", "tx_full", "bad_ipv4_checksum"]
    {
        assert_eq!(stats["total"]["dropped"][reason], 0, "{reason}");
    }
    assert_eq!(director.stop().code(), Some(0));
}

#[test]
fn replies_have_the_vip_as_source_and_do_not_pass_the_director() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_methods());
    let before = director.json(&["port", "list"])[0]["rx_bytes"].as_u64().expect("a count");
    for vip in ["192.0.2.100", "192.0.2.101", "192.0.2.102"] {
        let url = format!("http://{vip}/big");
        let curl = ["curl", "-s", "--max-time", "60", "-o", "/dev/null", "-w"];
        let mut curl = curl.to_vec();
        curl.extend(["%{size_download} %{remote_ip}", &url]);
        assert_eq!(lab.exec("client", &curl).ok(), format!("67108864 {vip}"));
    }
    let after = director.json(&["port", "list"])[0]["rx_bytes"].as_u64().expect("a count");
    // 192 MiB of replies; the director saw acknowledgements.
    assert!(after - before < 20 << 20, "{} bytes came in", after - before);
}

#[test]
fn a_full_packet_into_a_tunnel_brings_fragmentation_needed() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_methods());
    // IP_MTU_DISCOVER=DO sets DF and keeps the path MTU the network tells.
    let probe = r"
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 10, 2)
s.connect((sys.argv[1], 53))
mtu = []
for _ in range(20):
    try:
        s.send(b'x' * 1472)
    except OSError:
        pass
    time.sleep(0.1)
    mtu.append(s.getsockopt(socket.IPPROTO_IP, 14))
    if mtu[-1] < 1500: break
print(mtu[-1])
";
    assert_eq!(lab.python("client", probe, &["192.0.2.101"]).ok().trim(), "1480", "ipip");
    assert_eq!(lab.python("client", probe, &["192.0.2.102"]).ok().trim(), "1476", "gre");
    assert_eq!(lab.python("client", probe, &["192.0.2.100"]).ok().trim(), "1500", "dr");
    drop(lab.exec("client", &["ip", "route", "flush", "cache"]));

    // And a real upload finds its way by it: the server's MSS says 1460, the tunnel takes less.
    let errors =
        || director.stats()["slow_path"]["events"]["icmp_errors"].as_u64().expect("a count");
    let before = errors();
    let upload = lab.dir().join("upload");
    std::fs::write(&upload, vec![7u8; 8 << 20]).expect("a file");
    for vip in ["192.0.2.101", "192.0.2.102"] {
        let url = format!("http://{vip}/upload");
        let file = upload.to_string_lossy();
        let sent = lab.exec("client", &["curl", "-s", "--max-time", "60", "-T", &file, &url]).ok();
        assert_eq!(sent.trim(), (8 << 20).to_string(), "{vip}");
    }
    assert!(errors() > before, "path MTU discovery was at work");
    drop(lab.exec("client", &["ip", "route", "flush", "cache"]));
}

#[test]
fn only_the_director_answers_arp_for_a_vip() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_methods());
    for address in [DIP, "192.0.2.100", "192.0.2.101", "192.0.2.102"] {
        let out = lab.exec("router", &["arping", "-I", "lan", "-c", "3", address]).ok();
        let answers: Vec<_> = out.lines().filter(|l| l.contains("eply from")).collect();
        assert!(answers.len() >= 3, "{out}");
        let mac = DIRECTOR_MAC.to_ascii_uppercase();
        assert!(answers.iter().all(|l| l.contains(&mac)), "{out}");
    }
    // No service has this VIP, though every real server carries it.
    let none = lab.exec("router", &["arping", "-I", "lan", "-c", "1", "-w", "1", "192.0.2.109"]);
    assert_ne!(none.code, 0, "{}", none.out);
    drop(director);
}

#[test]
fn dip_and_vips_answer_ping() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_methods());
    for address in [DIP, "192.0.2.100", "192.0.2.102"] {
        for size in ["56", "1400"] {
            let ping = ["ping", "-q", "-c", "5", "-i", "0.2", "-W", "2", "-s", size, address];
            let out = lab.exec("client", &ping).ok();
            assert!(out.contains(" 0% packet loss"), "{out}");
        }
    }
    let stats = director.stats();
    assert!(stats["slow_path"]["events"]["echo_replies"].as_u64() >= Some(30), "{stats}");
    director.assert_balanced();
}
