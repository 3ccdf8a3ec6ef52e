//! Real servers as `scripts/real-server` sets them up, without a director: packets are wrapped here
//! as one would, and must be answered from the VIP, straight to the client.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pktgen_tests::{Lab, Output, Reals, can_run};

/// Sends SYNs through tunnels from the director's place: `METHOD,OUTER SOURCE,RIP,CIP,VIP,PORT`.
const WRAP: &str = r"
import sys
from scapy.all import *
conf.verb = 0
for argument in sys.argv[1:]:
    method, source, rip, client, vip, port = argument.split(',')
    ip = lambda src, dst, **k: (IPv6(src=src, dst=dst, **{'nh': k['proto']} if k else {})
        if ':' in dst else IP(src=src, dst=dst, **k))
    packet = ip(client, vip) / TCP(sport=int(port), dport=80, flags='S', seq=1)
    six = ':' in vip
    if method == 'gre':
        packet = ip(source, rip, proto=47) / GRE(proto=0x86dd if six else 0x800) / packet
    elif method == 'ipip':
        packet = ip(source, rip, proto=41 if six else 4) / packet
    mac = '02:00:c0:00:02:01' if method != 'dr' else '02:00:c0:00:02:%02x' % int(rip[-2:])
    sendp(Ether(src='02:00:c0:00:02:0a', dst=mac) / packet, iface='lan0')
";

/// `scripts/real-server` on a node.
fn real_server(lab: &Lab, node: &str, arguments: &[&str]) -> Output {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/real-server");
    let script = script.canonicalize().expect("the script").to_string_lossy().into_owned();
    let mut command = vec![script.as_str()];
    command.extend(arguments);
    lab.exec(node, &command)
}

/// A capture, by its label.
struct Seen<'l>(&'l Lab, &'static str);

impl<'l> Seen<'l> {
    /// From now on, segments that reach the client from L4 port 80.
    fn start(lab: &'l Lab, label: &'static str) -> Seen<'l> {
        let tcpdump = [label, "client", "tcpdump", "-lnni", "eth0", "src port 80"];
        lab.script("spawn", &tcpdump).ok();
        let seen = Seen(lab, label);
        seen.wait_for(|log| log.contains("listening on"));
        seen
    }

    fn wait_for(&self, holds: impl Fn(&str) -> bool) {
        for _ in 0..200 {
            if holds(&self.log()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{}", self.log());
    }

    fn log(&self) -> String {
        let file = self.0.dir().join(format!("{}.log", self.1));
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// The client's L4 ports to which SYN-ACKs came, and from which VIP; once there is one to the
    /// last that was asked for.
    fn end(self, last: u16) -> BTreeSet<(u16, String)> {
        let port = |line: &str| -> Option<(u16, String)> {
            let (from, rest) = line.split_once(" > ")?;
            let (to, rest) = rest.split_once(": ")?;
            rest.starts_with("Flags [S.]").then_some(())?;
            let vip = from.rsplit(' ').next()?.strip_suffix(".80")?;
            Some((to.rsplit('.').next()?.parse().ok()?, vip.to_owned()))
        };
        self.wait_for(|log| log.lines().filter_map(port).any(|(port, _)| port == last));
        self.0.script("stop", &[self.1]).ok();
        self.log().lines().filter_map(port).collect()
    }
}

#[test]
fn each_answers_from_the_vip_whatever_wraps_the_request() {
    if !can_run() {
        return;
    }
    let lab = Lab::up6(Reals::All);
    let ways: Vec<String> = ["ipip", "gre"]
        .into_iter()
        .flat_map(|method| {
            let last = if method == "ipip" { 31 } else { 32 };
            [
                format!("{method},192.0.2.10,203.0.113.{last}"),
                format!("{method},2001:db8:2::10,2001:db8:3::{last}"),
            ]
        })
        .chain(["dr,-,21".to_owned(), "dr,-,22".to_owned()])
        .flat_map(|way| {
            ["198.51.100.10,192.0.2.105", "2001:db8:1::10,2001:db8:2::105"]
                .map(|inner| format!("{way},{inner}"))
        })
        .collect();
    let numbered = ways.iter().zip(40_001u16..);
    let arguments: Vec<_> = numbered.clone().map(|(way, port)| format!("{way},{port}")).collect();
    let expected: BTreeSet<_> = numbered
        .map(|(way, port)| (port, way.rsplit(',').next().unwrap_or_default().to_owned()))
        .collect();
    let seen = Seen::start(&lab, "seen");
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    lab.python("director", WRAP, &arguments).ok();
    let last = expected.last().expect("some").0;
    assert_eq!(seen.end(last), expected);
}

#[test]
fn with_a_director_named_others_are_not_served_and_undo_leaves_nothing() {
    if !can_run() {
        return;
    }
    let lab = Lab::up6(Reals::All);
    let vips = ["--vip", "192.0.2.150", "--vip", "2001:db8:2::150"];
    for (node, method, devices) in [
        ("rs3", "ipip", &["shunt-ipip", "shunt-sit", "shunt-ip6tnl"][..]),
        ("rs4", "gre", &["shunt-gre", "shunt-ip6gre"]),
    ] {
        // What the lab has set up takes packets from anybody.
        for device in ["tunl0", "sit0", "ip6tnl0", "gre0", "ip6gre0"] {
            drop(lab.exec(node, &["ip", "link", "set", device, "down"]));
        }
        let set_up = |more: &[&str]| {
            let directors = ["--director", "192.0.2.10", "--director", "2001:db8:2::10"];
            let mut arguments = vec!["--method", method];
            arguments.extend(vips.iter().chain(&directors).chain(more));
            real_server(&lab, node, &arguments).ok()
        };
        // Twice is as good as once.
        set_up(&["--apply"]);
        set_up(&["--apply"]);
        let last = if method == "ipip" { 31 } else { 32 };
        let mut arguments = Vec::new();
        // The director's come last, so that the others have had their time.
        for (port, dip) in [(41_000, 99), (42_000, 10)] {
            let outer = [
                format!("192.0.2.{dip},203.0.113.{last}"),
                format!("2001:db8:2::{dip},2001:db8:3::{last}"),
            ];
            for (i, outer) in outer.iter().enumerate() {
                arguments
                    .push(format!("{method},{outer},198.51.100.10,192.0.2.150,{}", port + 2 * i));
                arguments.push(format!(
                    "{method},{outer},2001:db8:1::10,2001:db8:2::150,{}",
                    port + 2 * i + 1
                ));
            }
        }
        let seen = Seen::start(&lab, method);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        lab.python("director", WRAP, &arguments).ok();
        let served: Vec<_> = seen.end(42_003).into_iter().map(|(port, _)| port).collect();
        assert_eq!(served, [42_000, 42_001, 42_002, 42_003], "{method}");

        let links = || lab.exec(node, &["ip", "-o", "link"]).ok();
        assert!(devices.iter().all(|device| links().contains(device)), "{}", links());
        set_up(&["--undo"]);
        assert!(!links().contains("shunt-"), "{}", links());
        let left = lab.exec(node, &["ip", "-o", "address"]).ok();
        assert!(!left.contains("192.0.2.150") && !left.contains("2001:db8:2::150"), "{left}");
    }
}

#[test]
fn undo_needs_no_option_of_the_set_up_and_says_what_it_did() {
    if !can_run() {
        return;
    }
    let lab = Lab::up6(Reals::All);
    let (four, six) = (["--vip", "192.0.2.150"], ["--vip", "2001:db8:2::150"]);
    let both = [&four[..], &six].concat();
    let undo = |node: &str, arguments: &[&str]| {
        real_server(&lab, node, &[&["--undo"], arguments].concat()).ok()
    };
    let on = |node: &str, command: &[&str]| lab.exec(node, &[&["ip"], command].concat()).ok();
    let state = |node: &str| {
        let default = |family| on(node, &[family, "route", "show", "default"]);
        // The lab's VIPs and their devices are to stay as they are.
        let links = on(node, &["-o", "link", "show", "up"]);
        (on(node, &["-o", "address"]), links, default("-4"), default("-6"))
    };
    for (node, options) in [
        ("rs3", "--method ipip --director 192.0.2.10 --mss 1440"),
        ("rs3", "--method ipip --director 192.0.2.10 --director 2001:db8:2::10 --mss 1420"),
        ("rs4", "--method gre --director 2001:db8:2::10 --key 7 --checksum --mss 1400"),
        ("rs4", "--method gre --over ipv4,ipv6"),
        ("rs1", "--method dr"),
    ] {
        let before = state(node);
        let mut set_up: Vec<_> = options.split(' ').collect();
        set_up.extend(both.iter().chain(&["--apply"]));
        real_server(&lab, node, &set_up).ok();
        let with_mss = options.contains("--mss");
        let (_, _, v4, v6) = state(node);
        assert_eq!(v4.contains("advmss"), with_mss, "{options}: {v4}");
        assert_eq!(v6.contains("advmss"), with_mss, "{options}: {v6}");

        // The devices and the segment size are there until the last VIP goes.
        let said = undo(node, &six);
        assert!(said.contains("removed 2001:db8:2::150/128 from"), "{options}: {said}");
        assert!(!said.contains("device") && !said.contains("segment"), "{options}: {said}");
        // Printing changes nothing, and tells all that is then done.
        let printed = undo(node, &[&four[..], &["--print"]].concat());
        let said = undo(node, &four);
        assert!(said.contains("removed 192.0.2.150/32 from"), "{options}: {said}");
        assert_eq!(printed.lines().count(), said.lines().count(), "{printed}\n{said}");
        assert_eq!(said.contains("removed the device"), options.contains("--director"), "{said}");
        assert_eq!(said.matches("segment size").count(), 2 * usize::from(with_mss), "{said}");
        assert_eq!(state(node), before, "{options}");
        let said = undo(node, &both);
        assert_eq!(said, "Nothing to undo for 192.0.2.150 2001:db8:2::150.\n", "{options}");
    }

    // Nor does a wrong option keep it from anything.
    let set_up = [&["--method", "dr", "--apply"], &four[..]].concat();
    real_server(&lab, "rs1", &set_up).ok();
    let said = undo("rs1", &[&["--method", "ipip"], &four[..]].concat());
    assert!(said.contains("removed 192.0.2.150/32 from lo"), "{said}");

    // An address that is the server's own is not a VIP of this script.
    let said = undo("rs1", &["--vip", "192.0.2.21"]);
    assert!(said.contains("Left alone: 192.0.2.21/24 on eth0"), "{said}");
    assert!(on("rs1", &["-o", "address"]).contains("192.0.2.21/24"));
}

#[test]
fn a_segment_size_without_a_route_to_set_it_on_is_refused() {
    if !can_run() {
        return;
    }
    let lab = Lab::up6(Reals::All);
    let state = || lab.exec("rs3", &["ip", "-o", "address"]).ok();
    let before = state();
    for (family, vip, size) in
        [("-4", "192.0.2.150", "advmss 1440"), ("-6", "2001:db8:2::150", "advmss 1420")]
    {
        lab.exec("rs3", &["ip", family, "route", "del", "default"]).ok();
        let set_up = ["--method", "ipip", "--director", "192.0.2.10", "--mss", "1440", "--apply"];
        let refused = real_server(&lab, "rs3", &[&set_up[..], &["--vip", vip]].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        for word in ["default route by eth0", family, size] {
            assert!(refused.err.contains(word), "{refused:?}");
        }
        assert_eq!(state(), before, "{family}");
    }
}
