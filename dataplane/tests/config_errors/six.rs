//! The cases about IPv6.

/// As [`GOOD`], with IPv6.
pub(crate) const GOOD6: &str = r#"[[port]]
name = "lan"
vdev = "net_af_packet0,iface=veth0"
address = ["192.0.2.10/24", "2001:db8:2::10/64"]
gateway = ["2001:db8:2::1", "192.0.2.1"]
[[port]]
name = "wan"
vdev = "net_af_packet1,iface=veth1"
address = ["2001:db8:51::1/127"]
gateway = ["fe80::1"]
[[neighbor]]
port = "lan"
address = "2001:db8:2::77"
mac = "02:00:00:00:00:77"
[[service]]
protocol = "tcp"
address = "[2001:db8:2::100]:80"
[[service.real]]
address = "2001:db8:2::21"
[[service.real]]
address = "2001:db8:9::9"
forward = "ipip"
[[service.real]]
address = "10.8.0.9"
forward = "gre"
[[service]]
protocol = "udp"
address = "192.0.2.100:53"
[[service.real]]
address = "2001:db8:9::9"
forward = "ipip"
"#;

/// As [`CASES`], of [`GOOD6`].
pub(crate) const CASES6: &[(&str, &str, &str)] = &[
    // [[port]]
    (
        "2001:db8:2::10/64",
        "2001:db8:2::10/0",
        "4:29: port.address: found 2001:db8:2::10/0, allowed prefix lengths are 1 to 128",
    ),
    ("2001:db8:2::10/64", "fe80::10/64", "4:29: port.address: fe80::10 is a link-local address"),
    ("2001:db8:2::10/64", "ff02::10/64", "4:29: port.address: ff02::10 is a multicast address"),
    ("2001:db8:2::10/64", "::1/64", "4:29: port.address: ::1 is the loopback address"),
    ("2001:db8:2::10/64", "::ffff:192.0.2.9/120", "is an IPv4-mapped address"),
    (
        "2001:db8:2::10/64",
        "2001:db8:2::/64",
        "4:29: port.address: 2001:db8:2:: is the anycast address of all routers of 2001:db8:2::/64",
    ),
    ("2001:db8:51::1/127", "2001:db8:51::/127", ""),
    (
        "[\"2001:db8:51::1/127\"]",
        "[\"2001:db8:51::1/127\"]\nmtu = 1279",
        "10:1: port.mtu: found 1279, but port \"wan\" has an IPv6 address, which needs an MTU of at least 1280",
    ),
    (
        "\"2001:db8:2::1\"",
        "\"2001:db8:3::1\"",
        "5:12: port.gateway: gateway 2001:db8:3::1 is not on-link",
    ),
    (
        "\"2001:db8:2::1\"",
        "\"2001:db8:2::\"",
        "5:12: port.gateway: gateway 2001:db8:2:: is the anycast",
    ),
    ("\"2001:db8:2::1\"", "\"::\"", "5:12: port.gateway: gateway :: is the unspecified address"),
    (
        "address = [\"2001:db8:51::1/127\"]",
        "address = [\"203.0.113.1/24\"]",
        "10:12: port.gateway: gateway fe80::1 is not on-link",
    ),
    // [[neighbor]]
    ("2001:db8:2::77", "2001:db8:3::77", "13:1: neighbor.address: 2001:db8:3::77 is in no network"),
    ("2001:db8:2::77", "fe80::77", ""),
    // [[service]]
    (
        "[2001:db8:2::100]:80",
        "[2001:db8:2::10]:80",
        "17:1: service.address: VIP 2001:db8:2::10 is the director's own",
    ),
    (
        "[2001:db8:2::100]:80",
        "[2001:db8:2::1]:80",
        "17:1: service.address: VIP 2001:db8:2::1 is a gateway of",
    ),
    (
        "[2001:db8:2::100]:80",
        "[fe80::100]:80",
        "17:1: service.address: VIP fe80::100 is a link-local",
    ),
    ("[2001:db8:2::100]:80", "[2001:db8:2::100]:80-79", "expected an address and L4 port such as"),
    (
        "[2001:db8:2::100]:80\"",
        "[2001:db8:2::100]:80\"\npersistence = \"300s\"\npersistence_netmask = \"255.255.255.0\"",
        "19:1: service.persistence_netmask: virtual service tcp [2001:db8:2::100]:80: found \
         255.255.255.0, expected a prefix length from 1 to 128 such as 64",
    ),
    (
        "192.0.2.100:53\"",
        "192.0.2.100:53\"\npersistence = \"300s\"\npersistence_netmask = \"24\"",
        "found 24, expected a netmask from 128.0.0.0",
    ),
    (
        "[2001:db8:2::100]:80\"",
        "[2001:db8:2::100]:80\"\npersistence = \"300s\"\npersistence_netmask = \"129\"",
        "found \"129\", expected a netmask such as \"255.255.255.0\", or a prefix length",
    ),
    // [[service.real]]
    (
        "\"2001:db8:2::21\"",
        "\"192.0.2.21\"",
        "19:1: service.real.address: virtual service tcp [2001:db8:2::100]:80: real server \
         192.0.2.21 is not of the same family as the VIP 2001:db8:2::100: forward = \"dr\"",
    ),
    (
        "\"2001:db8:2::21\"",
        "\"2001:db8:9::21\"",
        "19:1: service.real.address: virtual service tcp [2001:db8:2::100]:80: real server \
         2001:db8:9::21 is in no port's network",
    ),
    ("\"2001:db8:2::21\"", "\"fe80::21\"", "this is a link-local address; expected a host's"),
    (
        "gateway = [\"2001:db8:2::1\", \"192.0.2.1\"]",
        "gateway = [\"2001:db8:2::1\"]",
        "real server 10.8.0.9 is in no port's network (192.0.2.10/24, 2001:db8:2::10/64, \
         2001:db8:51::1/127) and no port with an IPv4 address has an IPv4 gateway",
    ),
    (
        "address = [\"192.0.2.10/24\", ",
        "address = [",
        "real server 10.8.0.9 needs an outer IPv4 header, but no port has an IPv4 address to send \
         it from",
    ),
    (
        "name = \"lan\"",
        "name = \"lan\"\nmtu = 1319",
        "real server 2001:db8:9::9: port \"lan\" has an MTU of 1319 bytes, but IPv6 this way needs 1320",
    ),
    ("name = \"lan\"", "name = \"lan\"\nmtu = 1320", ""),
];
