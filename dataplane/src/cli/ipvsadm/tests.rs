//! Command lines in, text out, without a director.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::list::{Columns, View};
use super::names::tests::Few;
use super::options::{Command, KNOWN};
use super::parse::{Line, Wrong, parse};
use super::popt::Takes;
use super::requests::{self, Known, service, target};
use super::save::save;
use super::{connections, names};
use crate::config::Gre;
use crate::control::plane::{FlowRow, Reachability};
use crate::control::protocol::{Rate, RealRow, Request, ServiceRef, ServiceRow};
use crate::stats::Traffic;
use crate::types::{Netmask, Protocol};
use crate::vocabulary::{ForwardMethod, SchedulerFlags, SchedulerKind};

fn words(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

fn read(line: &str) -> Result<Line, Wrong> {
    parse(&words(line), &Few)
}

/// The request of a line about a real server of this virtual service.
fn server(line: &Line, row: &ServiceRow) -> Result<Request, Wrong> {
    let there = line.real.and_then(|(real, _)| row.reals.iter().find(|row| row.real == real));
    let of = ServiceRef { protocol: row.protocol, address: row.address };
    requests::server(line, of, Known { gre: there.and_then(|row| row.gre) })
}

fn real(last: u8, forward: ForwardMethod) -> RealRow {
    RealRow {
        real: IpAddr::from([192, 0, 2, last]),
        forward,
        gre: None,
        weight: 1,
        effective_weight: None,
        standing: Default::default(),
        upper_threshold: 0,
        lower_threshold: 0,
        state: Reachability::Reachable,
        path_mtu: None,
        templates: None,
        traffic: Traffic {
            connections: 9,
            packets: 12,
            bytes: 999_999_999,
            active: 3,
            inactive: 4,
        },
        rate: Rate { connections: 1, packets: 2, bytes: 3 },
    }
}

fn rows() -> Vec<ServiceRow> {
    let row = |protocol, address: &str, scheduler| ServiceRow {
        protocol,
        address: address.parse().unwrap(),
        scheduler,
        scheduler_flags: SchedulerFlags::NONE,
        one_packet: false,
        persistence: None,
        persistence_netmask: None,
        traffic: Traffic {
            connections: 18,
            packets: 99_999_999,
            bytes: 123_456_789_012,
            active: 6,
            inactive: 8,
        },
        rate: Rate { connections: 100, packets: 1000, bytes: 100_000_000 },
        reals: Vec::new(),
    };
    let dns = ServiceRow {
        one_packet: true,
        scheduler_flags: SchedulerFlags::SH_PORT,
        persistence: Some(Duration::from_secs(300)),
        persistence_netmask: Some(Netmask::V4([255, 255, 255, 0].into())),
        ..row(Protocol::Udp, "192.0.2.100:53", SchedulerKind::Sh)
    };
    let gre = Some(Gre { checksum: true, key: None });
    let web = ServiceRow {
        reals: vec![
            RealRow { weight: 65_535, ..real(22, ForwardMethod::Gre) },
            RealRow { gre, upper_threshold: 9, lower_threshold: 3, ..real(21, ForwardMethod::Gre) },
            real(31, ForwardMethod::Ipip),
            real(23, ForwardMethod::Dr),
        ],
        ..row(Protocol::Tcp, "192.0.2.100:80", SchedulerKind::Wlc)
    };
    vec![dns, web]
}

fn listing(columns: Columns, exact: bool, names: Option<&dyn names::Names>) -> String {
    View { columns, exact, sorted: true, names }.all(&rows(), 4096)
}

#[test]
fn listings_have_the_columns_of_the_original() {
    assert_eq!(
        listing(Columns::Connections, false, None),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.0.2.100:80 wlc
  -> 192.0.2.21:80                Tunnel  1      3          4         \n  \
  -> 192.0.2.22:80                Tunnel  65535  3          4         \n  \
  -> 192.0.2.23:80                Route   1      3          4         \n  \
  -> 192.0.2.31:80                Tunnel  1      3          4         \n\
UDP  192.0.2.100:53 sh (sh-port) persistent 300 mask 255.255.255.0 ops
"
    );
    assert_eq!(
        listing(Columns::Stats, false, None).lines().skip(3).take(2).collect::<Vec<_>>(),
        [
            "TCP  192.0.2.100:80                     18 99999999        0     123G        0",
            "  -> 192.0.2.21:80                       9       12        0  999999K        0",
        ]
    );
    assert_eq!(
        listing(Columns::Stats, true, None).lines().nth(3).unwrap(),
        "TCP  192.0.2.100:80                     18 99999999        0 123456789012        0"
    );
    assert_eq!(
        listing(Columns::Rate, false, None).lines().nth(3).unwrap(),
        "TCP  192.0.2.100:80                    100     1000        0  100000K        0"
    );
    assert_eq!(
        listing(Columns::Thresholds, false, None).lines().nth(4).unwrap(),
        "  -> 192.0.2.21:80                9          3          3          4         "
    );
    assert_eq!(
        listing(Columns::TunnelInfo, false, None).lines().nth(4).unwrap(),
        "  -> 192.0.2.21:80                Tunnel  gre:+c        1      3          4         "
    );
}

#[test]
fn names_are_cut_to_their_column() {
    let text = listing(Columns::Connections, false, Some(&Few));
    let lines: Vec<_> = text.lines().skip(3).take(2).collect();
    assert_eq!(lines[0], "TCP  www.example.com:http wlc");
    assert_eq!(lines[1], "  -> a-very-long-host-name-of-a-r Tunnel  1      3          4         ");
}

#[test]
fn what_is_saved_is_what_is_read() {
    let saved = save(&rows(), None);
    assert_eq!(
        saved,
        "\
-A -t 192.0.2.100:80 -s wlc
-a -t 192.0.2.100:80 -r 192.0.2.21:80 -i -w 1 -x 9 -y 3 --tun-type gre --tun-csum
-a -t 192.0.2.100:80 -r 192.0.2.22:80 -i -w 65535 --tun-type gre --tun-nocsum
-a -t 192.0.2.100:80 -r 192.0.2.23:80 -g -w 1
-a -t 192.0.2.100:80 -r 192.0.2.31:80 -i -w 1 --tun-type ipip
-A -u 192.0.2.100:53 -s sh -p 300 -M 255.255.255.0 -o -b sh-port
"
    );
    assert!(save(&rows(), Some(&Few)).starts_with("-A -t www.example.com:http -s wlc\n"));
    let empty = ServiceRow { reals: Vec::new(), ..rows().remove(1) };
    let request = |line: &str| {
        let line = read(line).unwrap();
        match line.command {
            Command::AddService => service(&line, target(&line).unwrap()),
            _ => server(&line, &empty),
        }
        .unwrap()
    };
    let requests: Vec<_> = saved.lines().map(request).collect();
    let Request::ServerAdd(add) = requests[1] else { panic!("{:?}", requests[1]) };
    assert_eq!((add.upper_threshold, add.lower_threshold), (9, 3));
    assert_eq!(add.gre, Some(Gre { checksum: true, key: None }));
    let Request::ServiceAdd(add) = requests[5] else { panic!("{:?}", requests[5]) };
    assert_eq!(add.persistence, rows()[0].persistence);
    assert_eq!(add.persistence_netmask, rows()[0].persistence_netmask);
    assert!(add.one_packet && add.scheduler_flags == SchedulerFlags::SH_PORT);
}

#[test]
fn an_edit_sets_back_what_it_does_not_name() {
    let line = read("-E -t 192.0.2.100:80").unwrap();
    let Request::ServiceEdit(edit) = service(&line, target(&line).unwrap()).unwrap() else {
        panic!("no edit")
    };
    assert_eq!(edit.scheduler, Some(SchedulerKind::Wlc));
    assert_eq!(edit.scheduler_flags, Some(SchedulerFlags::NONE));
    assert_eq!((edit.one_packet, edit.persistence), (Some(false), Some(Duration::ZERO)));
    let line = read("-E -t 192.0.2.100:80 -p 9").unwrap();
    let Request::ServiceEdit(edit) = service(&line, target(&line).unwrap()).unwrap() else {
        panic!("no edit")
    };
    assert_eq!(edit.persistence_netmask, Some(Netmask::V4([255; 4].into())));

    let mut row = rows().remove(1);
    row.reals[1].gre = Some(Gre { checksum: true, key: Some(42) });
    let line = read("-e -t 192.0.2.100:80 -r 192.0.2.21:8080 -i --tun-type gre").unwrap();
    let Request::ServerEdit(edit) = server(&line, &row).unwrap() else { panic!("no edit") };
    assert_eq!((edit.weight, edit.upper_threshold), (Some(1), Some(0)));
    assert_eq!(edit.gre, Some(Gre { checksum: false, key: Some(42) }), "there are no keys in LVS");
}

#[test]
fn connections_have_the_columns_of_the_original() {
    let row = |port, expires_ms, real: Option<IpAddr>, replica| FlowRow {
        protocol: Protocol::Tcp,
        state: "ESTABLISHED".to_owned(),
        expires_ms,
        client: SocketAddr::from(([198, 51, 100, 10], port)),
        vip: "192.0.2.100:80".parse().unwrap(),
        real,
        worker: 0,
        template: false,
        replica,
    };
    let rs = Some(IpAddr::from([192, 0, 2, 22]));
    let rows = [
        row(1001, 899_999, rs, false),
        row(1, 1, rs, true),
        row(2, 1, None, false),
        row(65_535, 6_000_000, rs, false),
    ];
    assert_eq!(
        connections::heading(false) + &connections::lines(&rows, None),
        "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:59  ESTABLISHED 198.51.100.10:1001 192.0.2.100:80     192.0.2.22:80
TCP 100:00 ESTABLISHED 198.51.100.10:65535 192.0.2.100:80     192.0.2.22:80
"
    );
}

#[test]
fn ipv6_stands_in_brackets() {
    let rip = |text: &str, forward| RealRow { real: text.parse().unwrap(), ..real(0, forward) };
    let mut all = rows();
    let six = ServiceRow {
        address: "[2001:db8::100]:80".parse().unwrap(),
        persistence: Some(Duration::from_secs(60)),
        persistence_netmask: Some(Netmask::V6(64)),
        reals: vec![
            rip("2001:db8:3:1111:2222:3333:4444:5555", ForwardMethod::Ipip),
            rip("2001:db8::22", ForwardMethod::Dr),
            rip("fd00::1", ForwardMethod::Gre),
            rip("192.0.2.21", ForwardMethod::Gre),
        ],
        ..all[1].clone()
    };
    all.insert(0, six);
    let view = View { columns: Columns::Connections, exact: false, sorted: true, names: None };
    let listed = view.all(&all, 4096);
    let text: Vec<_> = listed.lines().skip(8).collect();
    // Where an address is longer than its column, the others move.
    assert_eq!(
        text,
        [
            "UDP  192.0.2.100:53 sh (sh-port) persistent 300 mask 255.255.255.0 ops",
            "TCP  [2001:db8::100]:80 wlc persistent 60 mask 64",
            "  -> 192.0.2.21:80                Tunnel  1      3          4         ",
            "  -> [fd00::1]:80                 Tunnel  1      3          4         ",
            "  -> [2001:db8::22]:80            Route   1      3          4         ",
            "  -> [2001:db8:3:1111:2222:3333:4444:5555]:80 Tunnel  1      3          4         ",
        ]
    );
    let saved = save(&all[..1], None);
    assert!(saved.starts_with("-A -t [2001:db8::100]:80 -s wlc -p 60 -M 64\n"), "{saved}");
    assert!(saved.contains(" -r [fd00::1]:80 -i -w 1 --tun-type gre"), "{saved}");
    assert!(save(&all[..1], Some(&Few)).starts_with("-A -t [www.example.com]:http -s wlc"));
    let lines: Vec<_> = saved.lines().map(|line| read(line).unwrap()).collect();
    let Request::ServiceAdd(add) = service(&lines[0], target(&lines[0]).unwrap()).unwrap() else {
        panic!("no service")
    };
    assert_eq!((add.address, add.persistence_netmask), (all[0].address, Some(Netmask::V6(64))));
    let none = ServiceRow { reals: Vec::new(), ..all[0].clone() };
    for (line, row) in lines[1..].iter().zip(["192.0.2.21", "fd00::1"]) {
        let Request::ServerAdd(add) = server(line, &none).unwrap() else { panic!("no server") };
        assert_eq!(add.real.to_string(), row);
    }
}

#[test]
fn netmasks_and_families_fit_together() {
    let mask = |line: &str| read(line).map(|line| line.netmask);
    let prefix = |length| Ok(Some(Netmask::V6(length)));
    assert_eq!(mask("-A -t [2001:db8::1]:80 -p 9 -M 48"), prefix(48));
    assert_eq!(mask("-A -t [2001:db8::1]:80 -p 9 -M 48x"), prefix(48), "as atoi(3)");
    assert_eq!(mask("-A -M 64 -t [2001:db8::1]:80 -p 9"), Ok(None), "lost, as in the original");
    for wrong in ["0", "129", "255.255.255.0", "x", "-1", "300"] {
        let wrong = mask(&format!("-A -t [2001:db8::1]:80 -p 9 -M {wrong}")).unwrap_err();
        assert_eq!((wrong.message.as_str(), wrong.status), ("illegal ipv6 netmask specified", 2));
    }
    let mixed = |line: &str| read(line).map_err(|wrong| (wrong.message, wrong.status)).map(|_| ());
    let only = "Different address family is allowed only for tunneling servers".to_owned();
    for line in [
        "-a -t [2001:db8::1]:80 -r 192.0.2.21",
        "-e -t 192.0.2.100:80 -r 2001:db8::21 -g",
        "-a -r 192.0.2.21 -t [2001:db8::1]:80 -m",
    ] {
        assert_eq!(mixed(line), Err((only.clone(), 2)), "{line}");
    }
    assert_eq!(mixed("-a -t [2001:db8::1]:80 -r 192.0.2.21 -i"), Ok(()));
    assert_eq!(mixed("-d -t [2001:db8::1]:80 -r 192.0.2.21"), Ok(()), "there is none: said later");
}

#[test]
fn what_shunt_has_not_got_is_said() {
    let row = rows().remove(1);
    for (line, what) in [
        ("-a -t 192.0.2.100:80 -r 192.0.2.99 -m", "masquerading"),
        ("-a -t 192.0.2.100:80 -r 192.0.2.99 -i --tun-type gue --tun-port 6080", "GUE"),
    ] {
        let wrong = server(&read(line).unwrap(), &row).unwrap_err();
        assert!(wrong.message.starts_with("Shunt has no "), "{}", wrong.message);
        assert!(wrong.message.contains(what), "{}", wrong.message);
        assert_eq!((wrong.status, wrong.stops), (255, false));
    }
}

/// A word that might stand on a command line.
fn word() -> impl Strategy<Value = String> {
    let option = (0..KNOWN.len(), any::<bool>(), "[0-9a-z.:=]{0,6}").prop_map(|(i, long, tail)| {
        let known = &KNOWN[i];
        match known.short.filter(|_| !long) {
            Some(short) => format!("-{short}{tail}"),
            None if known.takes == Takes::Nothing => format!("--{}", known.long),
            None => format!("--{}={tail}", known.long),
        }
    });
    prop_oneof![
        4 => option,
        2 => "192\\.0\\.2\\.[0-9]{1,3}(:[0-9]{1,6})?",
        1 => "\\[?(2001:db8|192)[:.]{1,2}[0-9a-f:]{1,4}\\]?(:[0-9]{1,6})?",
        1 => "[0-9]{1,12}",
        1 => "\\PC{0,8}",
        1 => "-{0,2}\\PC{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_command_line_is_too_odd(words in proptest::collection::vec(word(), 0..8)) {
        if let Err(wrong) = parse(&words, &Few) {
            prop_assert!(!wrong.message.is_empty());
            prop_assert!(wrong.status == 2 || wrong.status == 255);
        }
    }

    #[test]
    fn what_is_read_becomes_a_request_or_a_message(
        command in prop_oneof![Just("-A"), Just("-E"), Just("-a"), Just("-e"), Just("-d")],
        words in proptest::collection::vec(word(), 0..6),
    ) {
        let mut all = vec![command.to_owned(), "-t192.0.2.100:80".to_owned()];
        if command.starts_with(|c| "-aed".contains(c)) && !command.contains(['A', 'E']) {
            all.push("-r192.0.2.21".to_owned());
        }
        all.extend(words);
        if let Ok(line) = parse(&all, &Few) {
            let row = rows().remove(1);
            let made = match target(&line) {
                Some(of) if line.command == Command::AddService => service(&line, of),
                _ => server(&line, &row),
            };
            prop_assert!(made.is_ok() || made.is_err_and(|wrong| !wrong.message.is_empty()));
        }
    }
}
