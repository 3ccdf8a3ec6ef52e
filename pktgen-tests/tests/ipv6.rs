//! IPv6 clients and IPv6 real servers: every method, in every pair of address families.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pktgen_tests::{
    Config, DIP6, Director, Lab, RS1_6, RS2_6, RS3, RS3_6, RS4, RS4_6, Reals, can_run,
};

/// The lab of this file's tests, one test at a time.
fn lab() -> Option<MutexGuard<'static, Lab>> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    can_run().then(|| {
        let lab = LAB.get_or_init(|| Mutex::new(Lab::up6(Reals::All)));
        lab.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

/// A path from client to real server.
struct Way {
    name: &'static str,
    /// As in a URL.
    vip: &'static str,
    real: &'static str,
    method: &'static str,
    served_by: &'static str,
    /// What is left of 1500 bytes.
    mtu: &'static str,
}

const fn way(
    name: &'static str,
    vip: &'static str,
    (real, method): (&'static str, &'static str),
    served_by: &'static str,
    mtu: &'static str,
) -> Way {
    Way { name, vip, real, method, served_by, mtu }
}

/// Real server and client of either family. IPv4 alone is for comparison.
const WAYS: [Way; 9] = [
    way("dr", "[2001:db8:2::100]", (RS1_6, "dr"), "rs1", "1500"),
    way("6in6", "[2001:db8:2::101]", (RS3_6, "ipip"), "rs3", "1460"),
    way("6in4", "[2001:db8:2::102]", (RS3, "ipip"), "rs3", "1480"),
    way("4in6", "192.0.2.101", (RS3_6, "ipip"), "rs3", "1460"),
    way("4in4", "192.0.2.102", (RS3, "ipip"), "rs3", "1480"),
    way("gre 6in6", "[2001:db8:2::103]", (RS4_6, "gre"), "rs4", "1456"),
    way("gre 6in4", "[2001:db8:2::104]", (RS4, "gre"), "rs4", "1476"),
    way("gre 4in6", "192.0.2.103", (RS4_6, "gre"), "rs4", "1456"),
    way("gre 4in4", "192.0.2.104", (RS4, "gre"), "rs4", "1476"),
];

/// A service for each way, TCP and UDP.
fn all_ways(config: Config) -> Config {
    WAYS.iter().fold(config.ipv6(), |config, Way { vip, real, method, .. }| {
        config.service("tcp", &format!("{vip}:80"), "rr", &[(real, 1, method)]).service(
            "udp",
            &format!("{vip}:53"),
            "rr",
            &[(real, 1, method)],
        )
    })
}

fn tally(served: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for server in served {
        *tally.entry(server.as_str()).or_default() += 1;
    }
    tally
}

fn bare(vip: &str) -> &str {
    vip.trim_matches(['[', ']'])
}

#[test]
fn five_hundred_requests_each_way_and_none_fails() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_ways(Config::new()));
    for Way { name, vip, served_by, .. } in &WAYS {
        let served = lab.fetch(&format!("http://{vip}/"), 500);
        assert_eq!(tally(&served), BTreeMap::from([(*served_by, 500)]), "{name}");
    }
    director.assert_balanced();
    let services = director.json(&["service", "list"]);
    let rows = services.as_array().expect("services");
    let connections: u64 =
        rows.iter().map(|row| row["connections"].as_u64().expect("a count")).sum();
    assert_eq!(connections, 500 * WAYS.len() as u64, "{services}");
    // What is not forwarded or punted is chatter of the segment, never a client's packet.
    let stats = director.stats();
    for reason in ["no_service", "no_real_server", "neighbor_unresolved", "tx_full"] {
        assert_eq!(stats["total"]["dropped"][reason], 0, "{reason}: {stats}");
    }
    assert_eq!(director.stop().code(), Some(0));
}

#[test]
fn one_service_has_real_servers_of_both_families() {
    let Some(lab) = lab() else { return };
    let reals = [
        (RS1_6, 2, "dr"),
        (RS2_6, 1, "dr"),
        (RS3, 1, "ipip"),
        (RS3_6, 1, "ipip"),
        (RS4_6, 1, "gre"),
    ];
    let config = Config::new().ipv6().service("tcp", "[2001:db8:2::105]:80", "wrr", &reals);
    let director = Director::start(&lab, &config);
    let served = lab.fetch("http://[2001:db8:2::105]/", 600);
    let expected = BTreeMap::from([("rs1", 200), ("rs2", 100), ("rs3", 200), ("rs4", 100)]);
    assert_eq!(tally(&served), expected);

    // Drained, and taken out, by name.
    director.shunt(&["server", "edit", "tcp", "[2001:db8:2::105]:80", RS1_6, "-w", "0"]).ok();
    director.shunt(&["server", "del", "tcp", "[2001:db8:2::105]:80", RS3]).ok();
    let served = lab.fetch("http://[2001:db8:2::105]/", 300);
    assert_eq!(tally(&served), BTreeMap::from([("rs2", 100), ("rs3", 100), ("rs4", 100)]));
    director.assert_balanced();
}

#[test]
fn replies_have_the_vip_as_source_and_do_not_pass_the_director() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_ways(Config::new()));
    let received =
        || director.json(&["port", "list"])[0]["rx_bytes"].as_u64().expect("a count of bytes");
    let before = received();
    for Way { name, vip, .. } in &WAYS {
        let url = format!("http://{vip}/big");
        let mut curl = vec!["curl", "-s", "--max-time", "60", "-o", "/dev/null", "-w"];
        curl.extend(["%{size_download} %{remote_ip}", &url]);
        let got = lab.exec("client", &curl).ok();
        assert_eq!(got, format!("67108864 {}", bare(vip)), "{name}");
    }
    // 576 MiB of replies; the director saw acknowledgements.
    let bytes = received() - before;
    assert!(bytes < 60 << 20, "{bytes} bytes came in");
    director.assert_balanced();
}

#[test]
fn a_full_packet_into_a_tunnel_brings_packet_too_big() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_ways(Config::new()));
    // IP_MTU_DISCOVER=DO and its like of IPv6 keep the path MTU that the network tells.
    let probe = r"
import socket, sys, time
vip = sys.argv[1]
six = ':' in vip
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
level, discover, mtu_of = (41, 23, 24) if six else (0, 10, 14)
s.setsockopt(level, discover, 2)
s.connect((vip, 53))
for _ in range(50):
    try:
        s.send(b'x' * (1452 if six else 1472))
    except OSError:
        pass
    time.sleep(0.1)
    mtu = s.getsockopt(level, mtu_of)
    if mtu == int(sys.argv[2]): break
print(mtu)
";
    let forget = || {
        for family in ["-4", "-6"] {
            drop(lab.exec("client", &["ip", family, "route", "flush", "cache"]));
        }
    };
    forget();
    for Way { name, vip, mtu, .. } in &WAYS {
        let told = lab.python("client", probe, &[bare(vip), mtu]).ok();
        assert_eq!(told.trim(), *mtu, "{name}");
    }
    forget();

    // And a real upload finds its way by it: the server's MSS fits 1500, the tunnel takes less.
    let errors =
        || director.stats()["slow_path"]["events"]["icmp_errors"].as_u64().expect("a count");
    let upload = lab.dir().join("upload");
    std::fs::write(&upload, vec![7u8; 8 << 20]).expect("a file");
    for Way { name, vip, method, .. } in &WAYS {
        let before = errors();
        let (url, file) = (format!("http://{vip}/upload"), upload.to_string_lossy());
        let sent = lab.exec("client", &["curl", "-s", "--max-time", "60", "-T", &file, &url]).ok();
        assert_eq!(sent.trim(), (8 << 20).to_string(), "{name}");
        let discovered = errors() > before;
        assert_eq!(discovered, *method != "dr", "{name}: path MTU discovery was at work");
    }
    forget();
    director.assert_balanced();
}

/// Who answers neighbor solicitations for the addresses given, asked by the router: a line each,
/// `ADDRESS MAC FLAGS…`.
const SOLICIT: &str = r"
import sys
from scapy.all import *
from scapy.layers.inet6 import *
conf.verb = 0
own = get_if_hwaddr('lan')
for target in sys.argv[1:]:
    group = inet_ntop(socket.AF_INET6, in6_getnsma(inet_pton(socket.AF_INET6, target)))
    ask = Ether(src=own, dst=in6_getnsmac(inet_pton(socket.AF_INET6, group))) \
        / IPv6(src='2001:db8:2::1', dst=group, hlim=255) \
        / ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=own)
    seen = AsyncSniffer(iface='lan', lfilter=lambda p: ICMPv6ND_NA in p and p[ICMPv6ND_NA].tgt == target)
    seen.start()
    for _ in range(3):
        time.sleep(0.3)
        sendp(ask, iface='lan')
    time.sleep(0.7)
    seen.stop()
    for p in seen.results:
        na = p[ICMPv6ND_NA]
        option = p[ICMPv6NDOptDstLLAddr].lladdr if ICMPv6NDOptDstLLAddr in p else '-'
        print(target, p.src, option, 'R' * na.R + 'S' * na.S, p[IPv6].hlim)
";

#[test]
fn a_narrow_path_to_a_real_server_is_learned() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_ways(Config::new()));
    let forget = || {
        for family in ["-4", "-6"] {
            drop(lab.exec("client", &["ip", family, "route", "flush", "cache"]));
        }
    };
    forget();
    // A router's: it tells the director, as the source of the tunnel's packets.
    let route = |what, real| {
        let route = ["ip", "route", what, real, "dev", "remote", "mtu", "lock", "1400"];
        lab.exec("router", &route).ok();
    };
    let far = [RS3, RS4, RS3_6, RS4_6];
    for real in far {
        route("add", real);
    }
    // Packets as long as the path takes, as far as it is known.
    let probe = r"
import socket, sys, time
vip = sys.argv[1]
six = ':' in vip
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
level, discover, mtu_of = (41, 23, 24) if six else (0, 10, 14)
s.setsockopt(level, discover, 2)
s.connect((vip, 53))
for _ in range(100):
    mtu = s.getsockopt(level, mtu_of)
    if mtu <= int(sys.argv[2]): break
    try:
        s.send(b'x' * (mtu - (48 if six else 28)))
    except OSError:
        pass
    time.sleep(0.1)
print(mtu)
";
    for Way { name, vip, mtu, .. } in WAYS.iter().filter(|way| way.method != "dr") {
        let left = mtu.parse::<u16>().expect("a number") - 100;
        let told = lab.python("client", probe, &[bare(vip), &left.to_string()]).ok();
        assert_eq!(told.trim(), left.to_string(), "{name}");
    }
    let servers = director.json(&["server", "list"]);
    for row in servers.as_array().expect("rows") {
        let path = row.get("path_mtu").and_then(serde_json::Value::as_u64);
        let expected = (row["forward"] != "dr").then_some(1400);
        assert_eq!(path, expected, "{row}");
    }
    let upload = lab.dir().join("upload");
    std::fs::write(&upload, vec![7u8; 4 << 20]).expect("a file");
    for Way { name, vip, .. } in &WAYS {
        let (url, file) = (format!("http://{vip}/upload"), upload.to_string_lossy());
        let sent = lab.exec("client", &["curl", "-s", "--max-time", "60", "-T", &file, &url]).ok();
        assert_eq!(sent.trim(), (4 << 20).to_string(), "{name}");
    }
    director.assert_balanced();
    for real in far {
        route("del", real);
    }
    forget();
}

#[test]
fn only_the_director_answers_neighbor_solicitations_for_a_vip() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_ways(Config::new()));
    let mac = pktgen_tests::DIRECTOR_MAC;
    for address in [DIP6, "2001:db8:2::100", "2001:db8:2::101", "2001:db8:2::104"] {
        let answers = lab.python("router", SOLICIT, &[address]).ok();
        assert!(answers.lines().all(|line| line.contains(mac)), "{answers}");
        // Beside those that it sends unasked.
        let expected = format!("{address} {mac} {mac} S 255");
        let answers: Vec<_> = answers.lines().filter(|line| line.contains(" S ")).collect();
        assert_eq!(answers, [expected.as_str(); 3], "{address}");
    }
    // No service has this VIP, though every real server carries it.
    assert_eq!(lab.python("router", SOLICIT, &["2001:db8:2::109"]).ok(), "");
    director.assert_balanced();
}

#[test]
fn dip_and_vips_answer_ping() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_ways(Config::new()));
    for address in [DIP6, "2001:db8:2::100", "2001:db8:2::103"] {
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

#[test]
fn udp_and_its_fragments_reach_the_real_server() {
    if !can_run() {
        return;
    }
    // By a TAP device: the packet socket's driver has the kernel put IPv4 fragments together.
    let lab = Lab::up6(Reals::All);
    let director = Director::start(&lab, &all_ways(Config::on_tap(&lab)));
    wait_for_neighbors(&director);
    let ask = r"
import socket, sys
vip, size = sys.argv[1], int(sys.argv[2])
six = ':' in vip
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
# Fragments of IPv4 without DF, so that the director has to cut; IPv6 learns the path MTU and cuts.
if not six: s.setsockopt(socket.IPPROTO_IP, 10, 0)
s.connect((vip, 53))
for _ in range(20):
    # The first that is too big is lost, and a guest on a busy machine may lose any; whether the
    # director did, its counters tell.
    for _ in range(5):
        try:
            s.send(b'x' * size)
            print(s.recv(100).decode().strip())
            break
        except (TimeoutError, OSError) as error:
            print(f'{vip} {size}: {error}', file=sys.stderr)
";
    for Way { name, vip, served_by, .. } in &WAYS {
        for size in ["100", "1452", "4000"] {
            let answers = lab.python("client", ask, &[bare(vip), size]).ok();
            assert_eq!(answers.lines().collect::<Vec<_>>(), [*served_by; 20], "{name} {size}");
        }
    }
    director.assert_balanced();
    let stats = director.stats();
    for reason in
        ["no_service", "no_real_server", "neighbor_unresolved", "tx_full", "fragment_unknown"]
    {
        assert_eq!(stats["total"]["dropped"][reason], 0, "{reason}: {stats}");
    }
}

fn wait_for_neighbors(director: &Director<'_>) {
    director.wait_for("every neighbor", || {
        let rows = director.json(&["neighbor", "list"]);
        let rows = rows.as_array().cloned().unwrap_or_default();
        !rows.is_empty()
            && rows.iter().all(|row| row["state"] == "reachable" || row["state"] == "stale")
    });
}

/// Lets the switch snoop, and ends it, however the test ends.
struct Snooping<'l>(&'l Lab);

impl<'l> Snooping<'l> {
    fn of(lab: &'l Lab) -> Snooping<'l> {
        let snooping = Snooping(lab);
        // It means something once somebody asks for reports; it asks at once, and soon again.
        let snoop = "
            sysctl -qw net.ipv6.conf.br-lan.disable_ipv6=0
            ip link set br-lan type bridge mcast_mld_version 2 mcast_query_response_interval 100 \
                mcast_startup_query_interval 100 mcast_query_interval 300 \
                mcast_snooping 1 mcast_querier 1";
        lab.exec("switch", &["sh", "-ec", snoop]).ok();
        snooping
    }
}

impl Drop for Snooping<'_> {
    fn drop(&mut self) {
        let calm = "
            ip link set br-lan type bridge mcast_snooping 0 mcast_querier 0
            sysctl -qw net.ipv6.conf.br-lan.disable_ipv6=1";
        drop(self.0.script("stop", &["asked"]));
        drop(self.0.exec("switch", &["sh", "-c", calm]));
    }
}

/// A switch with MLD snooping hands a solicitation on to those alone who reported its group.
#[test]
fn a_switch_that_snoops_hears_of_the_directors_groups() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &all_ways(Config::new()));
    let snooping = Snooping::of(&lab);
    let snooped = ["bridge", "-d", "mdb", "show", "dev", "br-lan"];
    // The DIP's, that of VIPs that end in 100 and so on, and that of the link-local address.
    for group in ["ff02::1:ff00:10", "ff02::1:ff00:100", "ff02::1:ff00:104", "ff02::1:ff00:20a"] {
        director.wait_for(group, || {
            let mdb = lab.exec("switch", &snooped).ok();
            let mut lines = mdb.lines();
            lines.any(|l| l.contains("port lan-director") && l.contains(&format!("grp {group} ")))
        });
    }
    // Nobody else is asked about a VIP, and the director answers.
    let asked = "icmp6 and dst host ff02::1:ff00:100";
    lab.script("spawn", &["asked", "rs1", "tcpdump", "-lni", "eth0", asked]).ok();
    let log = || std::fs::read_to_string(lab.dir().join("asked.log")).unwrap_or_default();
    director.wait_for("tcpdump", || log().contains("listening on"));
    // A bridge floods until it has been a querier for some time.
    director.wait_for("a switch that does not flood", || {
        let before = log();
        for _ in 0..3 {
            lab.exec("router", &["ip", "-6", "neigh", "flush", "dev", "lan"]).ok();
            lab.exec("router", &["ping", "-c", "1", "-W", "5", "2001:db8:2::100"]).ok();
        }
        log() == before
    });
    drop(snooping);
    let switch = ["ip", "-d", "link", "show", "br-lan"];
    assert!(lab.exec("switch", &switch).ok().contains("mcast_snooping 0"), "it has ended");
    director.assert_balanced();
}

/// Gives rs2 an address on the wire, and takes it away again, however the test ends.
struct Usurper<'l>(&'l Lab, &'static str);

impl<'l> Usurper<'l> {
    fn of(lab: &'l Lab, address: &'static str) -> Usurper<'l> {
        lab.exec("rs2", &["ip", "address", "add", address, "dev", "eth0", "nodad"]).ok();
        Usurper(lab, address)
    }
}

impl Drop for Usurper<'_> {
    fn drop(&mut self) {
        drop(self.0.exec("rs2", &["ip", "address", "del", self.1, "dev", "eth0"]));
    }
}

#[test]
fn an_address_that_another_station_has_is_reported_and_not_used() {
    let Some(lab) = lab() else { return };
    let rs2 = "02:00:c0:00:02:16";
    let usurper = Usurper::of(&lab, "2001:db8:2::10/64");
    let director = Director::start(&lab, &all_ways(Config::new()));
    let event = |name: &str| director.stats()["slow_path"]["events"][name].as_u64();
    director.wait_for("the conflict", || event("dad_conflicts") == Some(1));
    let told =
        |what: &str| director.log().lines().any(|line| line.contains(what) && line.contains(rs2));
    assert!(told(DIP6), "{}", director.log());
    let answers = lab.python("router", SOLICIT, &[DIP6]).ok();
    assert!(!answers.is_empty() && answers.lines().all(|l| l.contains(rs2)), "{answers}");

    // Once the other is gone, it is the director's, half a minute later.
    drop(usurper);
    let mac = pktgen_tests::DIRECTOR_MAC;
    director.wait_for("the address", || lab.python("router", SOLICIT, &[DIP6]).ok().contains(mac));

    // A VIP is kept, defended, and the conflict told: a real server that is set up wrong.
    let _usurper = Usurper::of(&lab, "2001:db8:2::100/128");
    lab.python("router", SOLICIT, &["2001:db8:2::100"]).ok();
    let claim = r"
from scapy.all import *
from scapy.layers.inet6 import *
na = ICMPv6ND_NA(tgt='2001:db8:2::100', R=0, S=0, O=1)
sendp(Ether(src='02:00:c0:00:02:16', dst='33:33:00:00:00:01')
    / IPv6(src='2001:db8:2::22', dst='ff02::1', hlim=255) / na
    / ICMPv6NDOptDstLLAddr(lladdr='02:00:c0:00:02:16'), iface='eth0', verbose=0)
";
    lab.python("rs2", claim, &[]).ok();
    director.wait_for("the report", || told("2001:db8:2::100"));
    let stats = director.stats();
    assert!(stats["slow_path"]["dropped"]["ndp_conflict"].as_u64() > Some(0), "{stats}");
    director.assert_balanced();
}
