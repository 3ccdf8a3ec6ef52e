//! Wrong configurations: each names its line and key, what was found, and what is allowed.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod six;

use dataplane::config::Config;
use six::{CASES6, GOOD6};

/// A right configuration; cases replace a part of it, so lines stay where they are.
const GOOD: &str = r#"[dataplane]
workers = [1, 2]
eal = ["--no-pci"]
[control]
socket = "/run/shunt/control.sock"
[timeouts]
tcp = "900s"
[scheduling]
maglev_size = 65537
[[port]]
name = "lan"
vdev = "net_af_packet0,iface=veth0"
address = ["192.0.2.10/24"]
gateway = ["192.0.2.1"]
[[port]]
name = "wan"
device = "0000:03:00.0"
address = ["198.51.100.1/25", "203.0.113.1/24"]
[[neighbor]]
port = "lan"
address = "192.0.2.77"
mac = "02:00:00:00:00:77"
[[service]]
protocol = "tcp"
address = "192.0.2.100:80"
scheduler = "wlc"
[[service.real]]
address = "192.0.2.21"
weight = 2
[[service.real]]
address = "10.8.0.9"
forward = "gre"
gre = { checksum = true, key = 42 }
[[service]]
protocol = "udp"
address = "192.0.2.100:53"
"#;

/// What is replaced, by what, and how the first line of the error begins or goes on.
const CASES: &[(&str, &str, &str)] = &[
    // Syntax.
    ("workers = [1, 2]", "workers = [1, 2", "4:1: "),
    ("tcp = \"900s\"", "tcp = \"900s", "7:12: "),
    ("tcp = \"900s\"", "tcp = \"900s\"\ntcp = \"1s\"", "8:1: key `tcp` is written twice"),
    ("[timeouts]", "[control]", "6:2: key `control` is written twice"),
    // Unknown keys and tables.
    (
        "workers =",
        "worker =",
        "2:1: dataplane.worker: unknown key `worker`, expected one of `workers`, `flows_per_worker`",
    ),
    ("workers =", "worker =", "did you mean `workers`?"),
    ("[timeouts]", "[timeout]", "6:2: timeout: unknown key `timeout`"),
    ("[timeouts]", "[timeout]", "did you mean `timeouts`?"),
    ("weight = 2", "wieght = 2", "29:1: service.real.wieght: unknown key `wieght`"),
    ("checksum = true", "checksums = true", "33:9: service.real.gre.checksums: unknown key"),
    ("scheduler = \"wlc\"", "schedule = \"wlc\"", "did you mean `scheduler`?"),
    ("[[service.real]]\naddress = \"192.0.2.21\"", "[[service.reel]]", "did you mean `real`?"),
    // Types.
    (
        "workers = [1, 2]",
        "workers = 2",
        "2:11: dataplane.workers: found integer `2`, expected a list in square brackets",
    ),
    (
        "workers = [1, 2]",
        "workers = [1, \"2\"]",
        "2:15: dataplane.workers: found string \"2\", expected a whole number",
    ),
    (
        "weight = 2",
        "weight = -1",
        "29:10: service.real.weight: found integer `-1`, expected a whole number from 0",
    ),
    ("weight = 2", "weight = 1.5", "found floating point `1.5`, expected a whole number"),
    ("tcp = \"900s\"", "tcp = 900", "7:7: timeouts.tcp: found integer `900`, expected a time with"),
    (
        "tcp = \"900s\"",
        "tcp = \"900\"",
        "7:7: timeouts.tcp: found \"900\", expected a time with its unit such as \"900s\"",
    ),
    ("checksum = true", "checksum = 1", "33:20: service.real.gre.checksum: found integer `1`"),
    ("[timeouts]\ntcp = \"900s\"", "\n", ""),
    ("[[port]]\nname = \"wan\"", "[[port]]", "15:1: port.name: missing key `name`"),
    ("protocol = \"udp\"\n", "", "34:1: service.protocol: missing key `protocol`"),
    (
        "protocol = \"udp\"",
        "protocol = \"sctp\"",
        "35:12: service.protocol: unknown value `sctp`, expected `tcp` or `udp`",
    ),
    (
        "scheduler = \"wlc\"",
        "scheduler = \"wcl\"",
        "26:13: service.scheduler: unknown value `wcl`, expected one of `rr`",
    ),
    ("scheduler = \"wlc\"", "scheduler = \"wcl\"", "did you mean `wlc`?"),
    (
        "forward = \"gre\"",
        "forward = \"nat\"",
        "32:11: service.real.forward: unknown value `nat`, expected one of `dr`, `ipip`, `gre`",
    ),
    (
        "[scheduling]",
        "[scheduling]\nhash_key = \"abc\"",
        "9:12: scheduling.hash_key: found 3 characters, expected 32 hexadecimal digits",
    ),
    // Options of a service, thresholds.
    (
        "scheduler = \"wlc\"",
        "scheduler = \"sh\"\nscheduler_flags = [\"mh-port\"]",
        "27:1: service.scheduler_flags: virtual service tcp 192.0.2.100:80: `mh-port` is a flag of \
         scheduler \"mh\", found \"sh\"",
    ),
    (
        "scheduler = \"wlc\"",
        "scheduler_flags = [\"mh-ports\"]",
        "unknown scheduler flag \"mh-ports\" (expected sh-fallback, sh-port, mh-fallback, mh-port)",
    ),
    (
        "scheduler = \"wlc\"",
        "one_packet = true",
        "26:1: service.one_packet: virtual service tcp 192.0.2.100:80: only udp can be scheduled",
    ),
    ("scheduler = \"wlc\"", "persistence = 300", "26:15: service.persistence: found integer `300`"),
    (
        "scheduler = \"wlc\"",
        "persistence = \"0s\"",
        "found \"0s\", allowed are \"1s\" to \"24days\"; leave it out for none",
    ),
    (
        "scheduler = \"wlc\"",
        "persistence_netmask = \"255.255.255.0\"",
        "26:1: service.persistence_netmask: virtual service tcp 192.0.2.100:80: this needs persistence",
    ),
    (
        "scheduler = \"wlc\"",
        "persistence = \"300s\"\npersistence_netmask = \"255.0.255.0\"",
        "27:1: service.persistence_netmask: virtual service tcp 192.0.2.100:80: found 255.0.255.0, \
         expected a netmask from 128.0.0.0",
    ),
    (
        "weight = 2",
        "upper_threshold = 5\nlower_threshold = 6",
        "30:1: service.real.lower_threshold: real server 192.0.2.21 of virtual service \
         tcp 192.0.2.100:80: found 6, allowed are 0 to upper_threshold, which is 5",
    ),
    // Addresses.
    (
        "\"192.0.2.100:80\"",
        "\"192.0.2.100\"",
        "25:11: service.address: found \"192.0.2.100\", expected an address and L4 port",
    ),
    ("\"192.0.2.100:80\"", "\"192.0.2.100:70000\"", "25:11: service.address: found "),
    (
        "\"192.0.2.100:80\"",
        "\"2001:db8::1:80\"",
        "such as \"192.0.2.100:80\" or \"[2001:db8::100]:80\"",
    ),
    (
        "\"192.0.2.100:80\"",
        "\"[fe80::1%1]:80\"",
        "25:11: service.address: found \"[fe80::1%1]:80\", ",
    ),
    (
        "\"192.0.2.10/24\"",
        "\"2001:db8::1/129\"",
        "13:12: port.address: found \"2001:db8::1/129\", ",
    ),
    (
        "\"192.0.2.10/24\"",
        "\"192.0.2.10/33\"",
        "13:12: port.address: found \"192.0.2.10/33\", expected an address with a prefix",
    ),
    ("\"192.0.2.10/24\"", "\"192.0.2.10\"", "13:12: port.address: found \"192.0.2.10\", expected"),
    ("\"192.0.2.1\"]", "\"192.0.2.1\", \"x\"]", "14:25: port.gateway: found \"x\", expected"),
    ("02:00:00:00:00:77", "02:00:00:00:77", "22:7: neighbor.mac: "),
    ("\"10.8.0.9\"", "\"10.8.0.256\"", "31:11: service.real.address: found \"10.8.0.256\""),
    // [dataplane]
    ("workers = [1, 2]", "workers = []", "2:1: dataplane.workers: found no lcore"),
    ("workers = [1, 2]", "workers = [1, 1]", "2:15: dataplane.workers: lcore 1 is listed twice"),
    ("workers = [1, 2]", "workers = [128]", "2:12: dataplane.workers: found 128, allowed are 0 to"),
    (
        "[1, 2]",
        "[1, 2]\nflows_per_worker = 0",
        "3:1: dataplane.flows_per_worker: found 0, allowed are 1 to 268435456",
    ),
    ("[1, 2]", "[1, 2]\nflows_per_worker = 268435457", "allowed are 1 to 268435456"),
    ("[1, 2]", "[1, 2]\nidle = \"nap\"", "3:8: dataplane.idle: unknown value `nap`"),
    (
        "[1, 2]",
        "[1, 2]\nmbufs = 4543",
        "3:1: dataplane.mbufs: found 4543, but a NIC with 1 queue pair(s), each of 1024 RX and \
         1024 TX descriptors, and what the lcores keep need 4544 at least",
    ),
    ("[1, 2]", "[1, 2]\nmbufs = 10", "3:1: dataplane.mbufs: found 10, allowed are 1024 to"),
    ("[1, 2]", "[1, 2]\nmax_services = 1", "found 1, but 2 virtual services are configured"),
    ("[1, 2]", "[1, 2]\nmax_real_servers = 1", "found 1, but 2 real servers are configured"),
    ("[1, 2]", "[1, 2]\nmax_neighbors = 0", "3:1: dataplane.max_neighbors: found 0, allowed"),
    ("\"--no-pci\"", "\"\"", "3:8: dataplane.eal: found an empty argument"),
    ("\"--no-pci\"", "\"--\"", "3:8: dataplane.eal: \"--\" would end"),
    // [control]
    (
        "\"/run/shunt/control.sock\"",
        "\"c.sock\"",
        "5:1: control.socket: found \"c.sock\", expected",
    ),
    (
        "/run/shunt/control.sock",
        "/run/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012",
        "5:1: control.socket: found a path of 108 bytes, at most 107",
    ),
    ("[control]", "[control]\ngroup = \"\"", "5:1: control.group: found \"\", expected a group's"),
    // [timeouts]
    (
        "tcp = \"900s\"",
        "tcp = \"10ms\"",
        "7:1: timeouts.tcp: found \"10ms\", allowed are \"1s\" to \"24days\"",
    ),
    ("tcp = \"900s\"", "udp = \"25days\"", "7:1: timeouts.udp: found \"25days\", allowed are"),
    // [scheduling]
    (
        "maglev_size = 65537",
        "conn_reuse_mode = 3",
        "9:1: scheduling.conn_reuse_mode: found 3, allowed are 0 to 2",
    ),
    (
        "maglev_size = 65537",
        "no_server = \"refuse\"",
        "9:13: scheduling.no_server: unknown value `refuse`, expected `reject` or `drop`",
    ),
    (
        "maglev_size = 65537",
        "maglev_size = 65536",
        "9:1: scheduling.maglev_size: maglev_size 65536 is not allowed: it must be a prime from 2 to 16777213; the \
         nearest is 65537",
    ),
    (
        "maglev_size = 65537",
        "maglev_size = 1",
        "9:1: scheduling.maglev_size: maglev_size 1 is not allowed",
    ),
    ("maglev_size = 65537", "maglev_size = 16777259", "it must be a prime from 2 to 16777213"),
    // [[port]]
    ("name = \"lan\"", "name = \"l an\"", "11:1: port.name: found \"l an\", expected 1 to 32"),
    ("name = \"wan\"", "name = \"lan\"", "16:1: port.name: port \"lan\" is configured twice"),
    (
        "name = \"wan\"",
        "name = \"wan\"\nvdev = \"net_tap0\"",
        "17:1: port.vdev: port \"wan\" has both",
    ),
    ("device = \"0000:03:00.0\"\n", "", "15:1: port.device: port \"wan\" needs device = "),
    (
        "device = \"0000:03:00.0\"",
        "vdev = \"net_af_packet0,iface=veth1\"",
        "17:1: port.vdev: net_af_packet0 is already port \"lan\"",
    ),
    (
        "vdev = \"net_af_packet0,iface=veth0\"",
        "device = \"pci:03:00.0,key=value\"",
        "17:1: port.device: 0000:03:00.0 is already port \"lan\"",
    ),
    ("\"0000:03:00.0\"", "\"03 00\"", "17:1: port.device: found \"03 00\", expected a device"),
    ("[\"192.0.2.10/24\"]", "[]", "13:1: port.address: port \"lan\" needs at least one address"),
    ("\"192.0.2.10/24\"", "\"192.0.2.10/0\"", "13:12: port.address: found 192.0.2.10/0, allowed"),
    (
        "\"192.0.2.10/24\"",
        "\"192.0.2.255/24\"",
        "13:12: port.address: 192.0.2.255 is the network or broadcast address of 192.0.2.255/24",
    ),
    ("\"203.0.113.1/24\"", "\"127.0.0.1/8\"", "18:31: port.address: 127.0.0.1 is a loopback"),
    (
        "\"203.0.113.1/24\"",
        "\"192.0.2.10/32\"",
        "18:31: port.address: 192.0.2.10 is already an address of port \"lan\"",
    ),
    (
        "\"192.0.2.1\"",
        "\"192.0.3.1\"",
        "14:12: port.gateway: gateway 192.0.3.1 is not on-link: it must be in a network of port \
         \"lan\" (192.0.2.10/24)",
    ),
    (
        "\"192.0.2.1\"",
        "\"192.0.2.10\"",
        "14:12: port.gateway: gateway 192.0.2.10 is the port's own",
    ),
    ("\"192.0.2.1\"", "\"192.0.2.0\"", "14:12: port.gateway: gateway 192.0.2.0 is the network or"),
    (
        "name = \"lan\"",
        "name = \"lan\"\nmtu = 67",
        "12:1: port.mtu: found 67, allowed are 68 to 9216",
    ),
    (
        "name = \"lan\"",
        "name = \"lan\"\nqueues = 3",
        "12:1: port.queues: found 3, allowed are 1 to 2",
    ),
    // [[neighbor]]
    (
        "port = \"lan\"",
        "port = \"lna\"",
        "20:1: neighbor.port: unknown port \"lna\" (configured are: lan, wan)",
    ),
    ("192.0.2.77", "203.0.113.77", "21:1: neighbor.address: 203.0.113.77 is in no network of port"),
    ("192.0.2.77", "192.0.2.10", "21:1: neighbor.address: 192.0.2.10 is the port's own address"),
    ("02:00:00:00:00:77", "01:00:00:00:00:77", "22:1: neighbor.mac: found 01:00:00:00:00:77"),
    (
        "[[neighbor]]",
        "[[neighbor]]\nport = \"lan\"\naddress = \"192.0.2.77\"\nmac = \"02:00:00:00:00:78\"\n[[neighbor]]",
        "25:1: neighbor.address: neighbor 192.0.2.77 of port \"lan\" is configured twice",
    ),
    // [[service]]
    (
        "protocol = \"udp\"\naddress = \"192.0.2.100:53\"",
        "protocol = \"tcp\"\naddress = \"192.0.2.100:80\"",
        "36:1: service.address: virtual service tcp 192.0.2.100:80 is configured twice",
    ),
    (
        "192.0.2.100:53",
        "192.0.2.10:53",
        "36:1: service.address: VIP 192.0.2.10 is the director's own address on port \"lan\" (DIP)",
    ),
    (
        "192.0.2.100:53",
        "192.0.2.255:53",
        "36:1: service.address: VIP 192.0.2.255 is the network or",
    ),
    ("192.0.2.100:53", "192.0.2.1:53", "36:1: service.address: VIP 192.0.2.1 is a gateway of port"),
    ("192.0.2.100:53", "224.0.0.1:53", "VIP 224.0.0.1 is a multicast address; expected a host's"),
    ("192.0.2.100:53", "192.0.2.100:0-53", "36:11: service.address: found \"192.0.2.100:0-53\", "),
    ("192.0.2.100:53", "192.0.2.100:53-52", "or 0 for all"),
    ("scheduler = \"wlc\"", "scheduler = \"mh\"", ""),
    // [[service.real]]
    (
        "\"10.8.0.9\"",
        "\"192.0.2.21\"",
        "31:1: service.real.address: real server 192.0.2.21 is configured twice in virtual service \
         tcp 192.0.2.100:80",
    ),
    (
        "\"192.0.2.21\"",
        "\"192.0.2.100\"",
        "28:1: service.real.address: real server 192.0.2.100 of virtual service tcp 192.0.2.100:80: \
         this is the VIP of virtual service tcp 192.0.2.100:80",
    ),
    (
        "\"192.0.2.21\"",
        "\"192.0.2.10\"",
        "28:1: service.real.address: virtual service tcp 192.0.2.100:80: real server 192.0.2.10 is \
         the director's own address",
    ),
    (
        "\"192.0.2.21\"",
        "\"10.0.0.1\"",
        "28:1: service.real.address: virtual service tcp 192.0.2.100:80: real server 10.0.0.1 is in \
         no port's network",
    ),
    ("gateway = [\"192.0.2.1\"]\n", "", "real server 10.8.0.9 is in no port's network"),
    ("\"192.0.2.21\"", "\"0.1.2.3\"", "this is an address of \"this network\"; expected a host's"),
    (
        "weight = 2",
        "weight = 65536",
        "29:1: service.real.weight: real server 192.0.2.21 of virtual service tcp 192.0.2.100:80: \
         found weight 65536, allowed are 0 (drain) to 65535",
    ),
    (
        "forward = \"gre\"",
        "forward = \"ipip\"",
        "33:1: service.real.gre: real server 10.8.0.9 of virtual service tcp 192.0.2.100:80: gre \
         options need forward = \"gre\", found \"ipip\"",
    ),
];

fn outcome(text: &str) -> String {
    Config::parse(text, "shunt.toml").map_or_else(|e| e.to_string(), |_| String::new())
}

#[test]
fn the_text_the_cases_start_from_is_right() {
    assert_eq!(outcome(GOOD), "");
    assert_eq!(outcome(GOOD6), "");
}

#[test]
fn every_wrong_configuration_is_refused_with_its_line_and_reason() {
    let mut failures = Vec::new();
    let cases = CASES.iter().map(|case| (GOOD, case));
    for (text, (part, replacement, expected)) in cases.chain(CASES6.iter().map(|c| (GOOD6, c))) {
        assert!(text.contains(part), "{part:?} is not in the text");
        let found = outcome(&text.replacen(part, replacement, 1));
        let fits = match *expected {
            "" => found.is_empty(),
            _ => found.lines().any(|line| {
                let line = line.strip_prefix("shunt.toml:").unwrap_or(line);
                if expected.starts_with(|c: char| c.is_ascii_digit()) {
                    line.starts_with(expected)
                } else {
                    line.contains(expected)
                }
            }),
        };
        if !fits {
            failures
                .push(format!("{part:?} -> {replacement:?}\n  want {expected}\n  got  {found}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let wrong = GOOD
        .replacen("workers = [1, 2]", "workers = [1, 1]", 1)
        .replacen("192.0.2.1\"", "192.0.3.1\"", 1)
        .replacen("weight = 2", "weight = 70000", 1)
        .replacen("192.0.2.100:53", "192.0.2.10:53", 1);
    let found = outcome(&wrong);
    let keys: Vec<_> = found.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(
        keys,
        ["dataplane.workers", "port.gateway", "service.real.weight", "service.address"],
        "{found}"
    );
}

#[test]
fn each_table_reports_its_own_mistake() {
    let wrong = GOOD
        .replacen("tcp = \"900s\"", "tcp = 900", 1)
        .replacen("weight = 2", "weight = \"2\"", 1)
        .replacen("\"10.8.0.9\"", "\"10.8.0\"", 1)
        .replacen("scheduler = \"wlc\"", "scheduler = \"best\"", 1);
    let lines: Vec<_> = Config::parse(&wrong, "shunt.toml")
        .unwrap_err()
        .issues()
        .iter()
        .filter_map(|issue| issue.line)
        .collect();
    assert_eq!(lines, [7, 26, 29, 31]);
}

#[test]
fn a_text_without_ports_says_so() {
    assert_eq!(outcome(""), "shunt.toml:1:1: port: found no [[port]], at least one is needed");
    assert!(outcome("port = 1").contains("1:1: port: found integer port, expected one [[port]]"));
    assert!(
        outcome("dataplane = 1").contains("1:13: dataplane: found integer `1`, expected a table")
    );
}

#[test]
fn thousands_of_mistakes_are_cut_short() {
    let services = "[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.10:0\"\n".repeat(3000);
    let error = Config::parse(&format!("{GOOD}{services}"), "shunt.toml").unwrap_err();
    assert_eq!(error.issues().len(), 100);
}

#[test]
fn a_missing_file_is_named() {
    let error = dataplane::config::load("/nonexistent/shunt.toml".as_ref()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nonexistent/shunt.toml: "), "{error}");
}

/// Services of these addresses, each with the same real server.
fn of_addresses(addresses: &[&str]) -> String {
    let port = "[[port]]\nname = \"lan\"\nvdev = \"net_null0\"\naddress = [\"192.0.2.10/24\"]\n";
    let service = |address: &&str| {
        let (protocol, address) = address.split_once(' ').unwrap();
        format!("[[service]]\nprotocol = {protocol:?}\naddress = {address:?}\n")
    };
    port.to_owned() + &addresses.iter().map(service).collect::<String>()
}

#[test]
fn ranges_of_ports_do_not_overlap() {
    for good in [
        &["tcp 192.0.2.100:8000-8999", "tcp 192.0.2.100:9000-9999"][..],
        &["tcp 192.0.2.100:8000-8999", "tcp 192.0.2.100:8000", "tcp 192.0.2.100:8999"],
        &["tcp 192.0.2.100:8000-8999", "udp 192.0.2.100:8000-8999"],
        &["tcp 192.0.2.100:8000-8999", "tcp 192.0.2.101:8500-9500"],
        &["tcp 192.0.2.100:0", "tcp 192.0.2.100:8000-8999", "tcp 192.0.2.100:1-7999"],
    ] {
        let parsed = Config::parse(&of_addresses(good), "f");
        let config = parsed.unwrap_or_else(|error| panic!("{good:?}: {error}"));
        assert_eq!(Config::parse(&config.to_toml(), "f").unwrap(), config);
    }
    let overlap = |addresses: &[&str], expected: &[&str]| {
        let error = Config::parse(&of_addresses(addresses), "f").unwrap_err().to_string();
        assert_eq!(error.lines().collect::<Vec<_>>(), expected, "{addresses:?}");
    };
    let message = "service.address: virtual service tcp 192.0.2.100:8500-9500 overlaps virtual \
                   service tcp 192.0.2.100:8000-8999; ranges of L4 ports must not";
    overlap(
        &["tcp 192.0.2.100:8000-8999", "tcp 192.0.2.100:8500-9500"],
        &[&format!("f:10:1: {message}")],
    );
    // The later one is to blame, and each with one that it overlaps.
    overlap(
        &["tcp 192.0.2.100:8999-9500", "tcp 192.0.2.100:1-9000", "tcp 192.0.2.100:5-6"],
        &[
            "f:10:1: service.address: virtual service tcp 192.0.2.100:1-9000 overlaps virtual \
             service tcp 192.0.2.100:8999-9500; ranges of L4 ports must not",
            "f:13:1: service.address: virtual service tcp 192.0.2.100:5-6 overlaps virtual \
             service tcp 192.0.2.100:1-9000; ranges of L4 ports must not",
        ],
    );
    overlap(
        &["tcp 192.0.2.100:0", "tcp 192.0.2.100:0"],
        &["f:10:1: service.address: virtual service tcp 192.0.2.100:0 is configured twice"],
    );
}
