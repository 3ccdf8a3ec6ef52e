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
        assert!(!devices.iter().any(|device| links().contains(device)), "{}", links());
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

/// Takes away what the lab has set up, so that the devices that Linux makes are down.
fn bare(lab: &Lab, node: &str) {
    let addresses = lab.exec(node, &["ip", "-o", "address"]).ok();
    let vips = addresses.lines().filter_map(|line| {
        let address = line.split_whitespace().nth(3)?;
        let host = address.strip_suffix("/32").or_else(|| address.strip_suffix("/128"))?;
        (host != "::1").then_some(["--vip", host])
    });
    let arguments: Vec<_> = ["--undo"].into_iter().chain(vips.flatten()).collect();
    real_server(lab, node, &arguments).ok();
    let up = up(lab, node);
    assert!(up.iter().all(|device| ["lo", "eth0"].contains(&device.as_str())), "{up:?}");
}

/// The devices that are up.
fn up(lab: &Lab, node: &str) -> BTreeSet<String> {
    let links = lab.exec(node, &["ip", "-o", "link", "show", "up"]).ok();
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    links.lines().filter_map(name).collect()
}

#[test]
fn undo_leaves_what_others_use() {
    if !can_run() {
        return;
    }
    let lab = Lab::up6(Reals::All);
    bare(&lab, "rs3");
    let on = |command: &str| {
        let command: Vec<_> = command.split(' ').collect();
        lab.exec("rs3", &command).ok()
    };
    let script = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        real_server(&lab, "rs3", &arguments).ok()
    };
    let is_up = |device: &str| up(&lab, "rs3").contains(device);

    // A device of the same method that somebody else took up, for another address.
    script("--method ipip --vip 192.0.2.150 --apply");
    on("ip link set sit0 up alias uplink");
    on("ip address add 10.9.9.1/30 dev sit0");
    let said = script("--undo --vip 192.0.2.150");
    assert!(said.contains("took the device tunl0 down"), "{said}");
    assert!(said.contains("Left as it is: sit0, which was up before"), "{said}");
    assert!(!is_up("tunl0") && is_up("sit0"));

    // The same without an address, with a VIP on it, and with the method named for a VIP of another.
    on("ip address del 10.9.9.1/30 dev sit0");
    script("--method ipip --vip 2001:db8:2::150 --apply");
    script("--undo --vip 2001:db8:2::150");
    script("--method dr --vip 192.0.2.150 --apply");
    script("--undo --method ipip --vip 192.0.2.150");
    assert!(is_up("sit0"));
    assert!(on("ip link show sit0").contains("alias uplink\n"));

    // What set-up took up, and others have come to use: until they no longer do.
    on("ip link set sit0 down");
    for (add, delete) in [
        ("ip address add 10.9.9.1/30 dev sit0", "ip address del 10.9.9.1/30 dev sit0"),
        ("ip route add 10.9.8.0/24 table 9 dev sit0", "ip route del 10.9.8.0/24 table 9 dev sit0"),
    ] {
        script("--method ipip --vip 2001:db8:2::150 --mss 1440 --apply");
        on(add);
        let said = script("--undo --vip 2001:db8:2::150");
        assert!(said.contains("sit0, which has other addresses or routes"), "{add}: {said}");
        assert!(is_up("sit0"), "{add}");
        assert!(!on("ip -6 route show default").contains("advmss"), "{add}");
        on(delete);
        script("--undo --method ipip --vip 2001:db8:2::150");
        assert!(!is_up("sit0"), "{add}");
        assert!(on("ip link show sit0").contains("alias uplink\n"), "{add}");
    }

    // A segment size that was there before, on the routes of the other family.
    for (own, vip, others) in [("-4", "192.0.2.150", "-6"), ("-6", "2001:db8:2::150", "-4")] {
        let before = on(&format!("ip {others} route show default"));
        let route = before.trim_end();
        on(&format!("ip {others} route change {route} advmss 1400"));
        script(&format!("--method ipip --vip {vip} --mss 1440 --apply"));
        assert!(on(&format!("ip {own} route show default")).contains("advmss 14"), "{own}");
        let said = script(&format!("--undo --vip {vip}"));
        assert_eq!(said.matches("segment size").count(), 1, "{said}");
        assert!(!on(&format!("ip {own} route show default")).contains("advmss"), "{own}");
        assert!(on(&format!("ip {others} route show default")).contains("advmss 1400"), "{others}");
        on(&format!("ip {others} route change {route}"));
    }
}

#[test]
fn what_is_printed_can_be_pasted() {
    if !can_run() {
        return;
    }
    let lab = Lab::up6(Reals::All);
    let vips = ["--vip", "192.0.2.150", "--vip", "2001:db8:2::150"];
    let paste = |node: &str, text: &str| {
        let pasted = lab.exec(node, &["bash", "-c", text]);
        assert!(pasted.code == 0 && pasted.err.is_empty(), "{pasted:?} of {text}");
        pasted.out
    };
    let state = |node: &str| {
        paste(
            node,
            r#"
            for device in /sys/class/net/*; do
                echo "${device##*/} $(cat $device/flags) $(cat $device/ifalias)"
                cat /proc/sys/net/ipv4/conf/${device##*/}/{arp_ignore,arp_announce,rp_filter}
            done
            ip -o address | awk '$4 !~ "^fe80" { print $2, $4 }'
            ip -4 route
            ip -6 route show default
            "#,
        )
    };
    bare(&lab, "rs3");
    // Each look into a guest takes seconds: one method with all that it can print.
    for (node, options) in
        [("rs1", "--method dr"), ("rs3", "--method ipip --over ipv4,ipv6 --mss 1420")]
    {
        let set_up = [&options.split(' ').collect::<Vec<_>>()[..], &vips].concat();
        let apply = || real_server(&lab, node, &[&set_up[..], &["--apply"]].concat()).ok();
        let undo = || real_server(&lab, node, &[&["--undo"], &vips[..]].concat()).ok();
        // The settings stay after an undo; those of these devices are there since the lab came up.
        let before = state(node);
        apply();
        let applied = state(node);
        undo();
        paste(node, &real_server(&lab, node, &set_up).ok());
        assert_eq!(state(node), applied, "{options}");
        let printed = real_server(&lab, node, &[&["--undo", "--print"], &vips[..]].concat()).ok();
        paste(node, &printed);
        assert_eq!(state(node), before, "{options}: {printed}");
    }
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
