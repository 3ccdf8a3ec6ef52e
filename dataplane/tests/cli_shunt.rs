//! The `shunt` program against a control socket.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod control_support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use control_support::{Fixture, TEXT};
use dataplane::vocabulary::{ForwardMethod, SchedulerKind};

const SHUNT: &str = env!("CARGO_BIN_EXE_shunt");

struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn command(socket: &Path, arguments: &str) -> Command {
    let mut command = Command::new(SHUNT);
    command.env("SHUNT_SOCKET", socket).args(arguments.split_whitespace());
    command
}

impl Fixture {
    fn run(&self, arguments: &str) -> Ran {
        ran(command(&self.settings.socket, arguments).output().unwrap())
    }

    /// Standard output of what must succeed and be silent otherwise.
    fn ok(&self, arguments: &str) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "shunt {arguments}");
        ran.out
    }

    fn json(&self, arguments: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("--json {arguments}"))).unwrap()
    }

    /// Standard error of what must be refused.
    fn refused(&self, arguments: &str) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.status, ran.out.as_str()), (1, ""), "shunt {arguments}\n{}", ran.err);
        ran.err
    }
}

#[test]
fn services_and_servers_are_changed_in_silence() {
    let fixture = Fixture::new();
    assert_eq!(fixture.ok("service add udp 192.0.2.100:53 --scheduler mh"), "");
    assert_eq!(fixture.ok("service edit udp 192.0.2.100:53 -s sh"), "");
    assert_eq!(fixture.plane.last().services[1].scheduler, SchedulerKind::Sh);
    assert_eq!(fixture.ok("service del udp 192.0.2.100:53"), "");
    assert_eq!(fixture.ok("service add tcp 192.0.2.100:443"), "");
    assert_eq!(fixture.plane.last().services[1].scheduler, SchedulerKind::Wlc);

    let of = "tcp 192.0.2.100:80 10.8.0.9";
    assert_eq!(fixture.ok(&format!("server add {of} --weight 2 --forward gre --gre-key 42")), "");
    let real = || fixture.plane.last().services[0].reals[1].clone();
    assert_eq!((real().weight, real().method, real().gre.key), (2, ForwardMethod::Gre, Some(42)));
    assert_eq!(fixture.ok(&format!("server edit {of} -w 0")), "");
    assert_eq!((real().weight, real().gre.key), (0, Some(42)));
    assert_eq!(fixture.ok(&format!("server edit {of} -f ipip")), "");
    assert_eq!(real().method, ForwardMethod::Ipip);
    assert_eq!(fixture.json(&format!("server del {of}"))["generation"], 9);
    assert_eq!(fixture.plane.last().services[0].reals.len(), 1);
}

#[test]
fn options_are_set_and_listed() {
    let fixture = Fixture::new();
    fixture.ok("service edit tcp 192.0.2.100:80 -s mh -b mh-port,mh-fallback --persistence 5min");
    fixture.ok("service edit tcp 192.0.2.100:80 --persistence-netmask 255.255.255.0");
    fixture.ok("server edit tcp 192.0.2.100:80 192.0.2.21 -x 1000 -y 800");
    let listed = fixture.ok("service list");
    let mut lines = listed.lines().skip(1);
    let service = lines.next().unwrap();
    let scheduler = "mh (mh-fallback, mh-port, persistence 300s 255.255.255.0)";
    assert!(service.contains(scheduler), "{service}");
    assert!(lines.next().unwrap().contains("2 (at most 1000, again below 800)"));
    fixture.ok("service edit tcp 192.0.2.100:80 -b none --persistence 0s");
    fixture.ok("server edit tcp 192.0.2.100:80 192.0.2.21 --upper-threshold 0");
    let row = fixture.json("service list")[0].clone();
    assert_eq!((row.get("scheduler_flags"), row.get("persistence")), (None, None));
    assert_eq!(row["reals"][0].get("upper_threshold"), None);

    fixture.ok("service add udp 192.0.2.100:53 --one-packet");
    assert_eq!(fixture.json("service list udp")[0]["one_packet"], true);
    fixture.ok("service edit udp 192.0.2.100:53 --one-packet=false");
    assert_eq!(fixture.json("service list udp")[0].get("one_packet"), None);
    let refused = fixture.refused("service add tcp 192.0.2.101:80 --one-packet");
    assert!(refused.contains("only udp"), "{refused}");
}

#[test]
fn services_are_listed_with_their_real_servers_below_them() {
    let fixture = Fixture::new();
    fixture.ok("server add tcp 192.0.2.100:80 10.8.0.9 -f gre --gre-key 42 --gre-checksum");
    assert_eq!(
        fixture.ok("service list"),
        "\
SERVICE             SCHEDULER  REAL SERVER  FORWARD                 WEIGHT  STATE      ACTIVE  INACTIVE  CONNECTIONS  PACKETS  BYTES
tcp 192.0.2.100:80  wrr                                                                     4         5           11      222  33333
                               192.0.2.21   dr                           2  reachable       4         5           11      222  33333
                               10.8.0.9     gre (key 42, checksum)       1  reachable       4         5           11      222  33333
"
    );
    assert_eq!(
        fixture.ok("server list tcp 192.0.2.100:80").lines().nth(1).unwrap(),
        "tcp 192.0.2.100:80  192.0.2.21   dr                           2  reachable       4         5           11      222  33333"
    );
    assert_eq!(fixture.ok("service list udp"), "no virtual services\n");
    let rows = fixture.json("service list");
    assert_eq!(rows[0]["reals"][1]["gre"]["key"], 42);
    assert_eq!(rows[0]["reals"][1].get("path_mtu"), None);
    fixture.ok("server add tcp 192.0.2.100:80 10.8.0.7 -f ipip");
    assert!(fixture.ok("service list").contains("10.8.0.7     ipip (path MTU 1400) "));
    assert_eq!(fixture.json("server list")[2]["path_mtu"], 1400);
}

#[test]
fn flows_are_listed_as_far_as_asked_shown_and_flushed() {
    let fixture = Fixture::new();
    fixture.plane.flows.store(10_000, Ordering::SeqCst);
    let listed = fixture.run("flow list --limit 3");
    assert_eq!(listed.status, 0);
    assert_eq!(
        listed.out.lines().nth(1).unwrap(),
        "tcp    ESTABLISHED  14m 59s       198.51.100.0:0         192.0.2.100:80         192.0.2.21            0"
    );
    assert_eq!(listed.out.lines().count(), 4);
    assert_eq!(listed.err, "there may be more flows; --limit 0 lists all\n");
    assert_eq!(fixture.ok("flow list --limit 0").lines().count(), 10_001);

    // Found on a page that is empty otherwise.
    let found = fixture.ok("flow list --client-port 9999 --vip 192.0.2.100 -n 0");
    assert_eq!(found.lines().count(), 2);
    assert_eq!(fixture.json("flow list -n 5000")["flows"].as_array().unwrap().len(), 5000);
    assert_eq!(fixture.json("flow list -n 5000")["next"], 5000);
    assert_eq!(fixture.json("flow list --client 203.0.113.1").get("next"), None);

    let shown = fixture.ok("flow show tcp 198.51.100.0:9999 192.0.2.100:80");
    assert!(shown.lines().nth(1).unwrap().contains("198.51.100.0:9999"), "{shown}");
    let missing = fixture.refused("flow show udp 198.51.100.0:9999 192.0.2.100:80");
    assert!(missing.starts_with("shunt: no worker has a flow udp 198.51.100.0:9999"), "{missing}");

    let nothing_named = fixture.run("flow flush");
    assert_eq!(nothing_named.status, 2);
    assert!(nothing_named.err.contains("--all"), "{}", nothing_named.err);
    assert!(fixture.plane.flushed.lock().unwrap().is_empty());
    assert_eq!(fixture.ok("flow flush --real 192.0.2.21"), "10000 flows removed\n");
    assert_eq!(fixture.ok("flow flush --all"), "0 flows removed\n");
}

#[test]
fn neighbors_ports_and_counters_are_listed() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.ok("neighbor list"),
        "\
PORT  ADDRESS     MAC                STATE      CONFIRMED  WAITING
lan   192.0.2.21  02:00:00:00:00:21  reachable   1.2s ago        0
"
    );
    let ports = fixture.ok("port list");
    assert!(
        ports.contains(
            "lan   up     10000  1500  02:00:00:00:00:01  \
             192.0.2.10/24, 2001:db8:2::10/64 (duplicate), fe80::ff:fe00:1  "
        ),
        "{ports}"
    );
    assert_eq!(fixture.json("port list")[0]["rx_missed"], 1);

    let stats = fixture.ok("stats");
    assert!(stats.contains("packet buffers in use: 512 of 65536"), "{stats}");
    let row = stats.lines().find(|l| l.starts_with("no_service")).unwrap();
    let words: Vec<_> = row.split_whitespace().take(5).collect();
    assert_eq!(words, ["no_service", "3", "3", "0", "To"], "total, worker, slow path, meaning");
    assert!(!stats.contains("not_our_mac"), "{stats}");
    assert!(fixture.ok("stats --all").contains("not_our_mac"));
    assert_eq!(fixture.json("stats")["total"]["dropped"]["no_service"], 3);
}

#[test]
fn watching_goes_on_until_its_reader_goes() {
    let fixture = Fixture::new();
    let mut watching = command(&fixture.settings.socket, "stats --watch 0.1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = String::new();
    let mut out = watching.stdout.take().unwrap();
    while seen.matches("PER SECOND").count() < 2 {
        let mut bytes = [0; 1024];
        let read = out.read(&mut bytes).unwrap();
        assert!(read > 0, "it ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    drop(out);
    let ended = ran(watching.wait_with_output().unwrap());
    assert_eq!((ended.status, ended.err.as_str()), (0, ""), "a broken pipe is no panic");
    assert!(!seen.contains('\x1b'), "no terminal, no escape codes");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let fixture = Fixture::new();
    fixture.plane.flows.store(50_000, Ordering::SeqCst);
    let mut listing = command(&fixture.settings.socket, "flow list --limit 0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    listing.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = ran(listing.wait_with_output().unwrap());
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
}

#[test]
fn configurations_are_shown_compared_applied_and_saved() {
    let fixture = Fixture::new();
    let shown = fixture.ok("config show");
    assert_eq!(dataplane::config::Config::parse(&shown, "").unwrap(), *fixture.config());

    let new = fixture.directory.path().join("new.toml");
    let text = TEXT.replace("weight = 2", "weight = 5") + "[timeouts]\nudp = \"60s\"\n";
    std::fs::write(&new, &text).unwrap();
    let new = new.display();
    let changes = "~ timeouts.udp: \"300s\" -> \"60s\"\n\
                   ~ real server 192.0.2.21 of tcp 192.0.2.100:80: weight 2 -> 5\n";
    assert_eq!(fixture.ok(&format!("config diff {new}")), changes);
    assert_eq!(fixture.ok(&format!("config apply {new}")), format!("{changes}generation 2\n"));
    assert_eq!(fixture.ok(&format!("config diff {new}")), "no changes\n");
    assert_eq!(fixture.ok("config diff").lines().count(), 2, "against the daemon's file");
    assert_eq!(
        fixture.ok("config apply").lines().last(),
        Some("generation 3"),
        "the daemon's file"
    );

    let restart = fixture.directory.path().join("restart.toml");
    std::fs::write(&restart, TEXT.replace("[[port]]", "[[port]]\nmtu = 9000")).unwrap();
    let refusal = fixture.refused(&format!("config apply {}", restart.display()));
    assert!(refusal.contains("~ port lan: mtu 1500 -> 9000 (needs a restart)"), "{refusal}");

    fixture.ok("service add udp 192.0.2.100:53");
    let file = fixture.file.display();
    assert_eq!(
        fixture.ok("config save"),
        format!("wrote {file}; its earlier text is in {file}.bak\n")
    );
    assert_eq!(dataplane::config::load(&fixture.file).unwrap(), *fixture.config());
    let copy = fixture.directory.path().join("copy.toml");
    assert_eq!(
        fixture.ok(&format!("config save {}", copy.display())),
        format!("wrote {}\n", copy.display())
    );
    assert_eq!(fixture.ok("config save -"), fixture.ok("config show"));
}

#[test]
fn a_file_is_checked_without_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("no.sock");
    let file = directory.path().join("shunt.toml");
    let check = |options: &str| {
        ran(command(&nowhere, &format!("{options} config check {}", file.display()))
            .output()
            .unwrap())
    };
    std::fs::write(&file, TEXT).unwrap();
    let right = check("");
    assert_eq!(right.status, 0);
    assert_eq!(
        right.out,
        format!("{}: right; virtual services: 1, real servers: 1\n", file.display())
    );
    assert_eq!(check("--json").out, "{\"services\":1,\"real_servers\":1}\n");

    std::fs::write(&file, TEXT.replace("wrr", "xrr")).unwrap();
    let wrong = check("");
    assert_eq!((wrong.status, wrong.out.as_str()), (1, ""));
    let place = format!("shunt: {}:11:13: service.scheduler: unknown value `xrr`", file.display());
    assert!(wrong.err.starts_with(&place), "{}", wrong.err);
    let issues: serde_json::Value = serde_json::from_str(&check("--json").out).unwrap();
    assert_eq!(issues["issues"][0]["line"], 11);
    assert_eq!(issues["issues"][0]["key"], "service.scheduler");

    std::fs::remove_file(&file).unwrap();
    assert_eq!(check("").status, 1);
    let mut piped = command(&nowhere, "config check -")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(TEXT.as_bytes()).unwrap();
    assert!(ran(piped.wait_with_output().unwrap()).out.starts_with("standard input: right;"));
}

#[test]
fn a_refusal_is_one_message_and_status_one() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.refused("service add tcp 192.0.2.100:80"),
        "shunt: virtual service tcp 192.0.2.100:80 exists\n"
    );
    let message = fixture.refused("server add tcp 192.0.2.100:80 10.8.0.9");
    assert!(message.contains("forward = \"dr\" needs it on-link"), "{message}");
}

#[test]
fn a_wrong_command_line_is_status_two() {
    let fixture = Fixture::new();
    for (arguments, expected) in [
        ("", "Usage: shunt"),
        ("service", "Usage: shunt service"),
        ("service add sctp 192.0.2.100:80", "[possible values: tcp, udp]"),
        ("service add tcp 192.0.2.100", "expected an address and L4 port"),
        ("service add tcp 2001:db8::1:80", "such as \"192.0.2.100:80\" or \"[2001:db8::100]:80\""),
        ("service add tcp 192.0.2.100:80 -s best", "[possible values: rr, wrr, lc, wlc, lblc, "),
        ("server add tcp 192.0.2.100:80 192.0.2.300", "expected an address"),
        ("stats --watch 0", "allowed are 0.1 to 86400"),
        ("frobnicate", "unrecognized subcommand"),
    ] {
        let ran = fixture.run(arguments);
        assert_eq!(ran.status, 2, "{arguments}");
        assert!(ran.err.contains(expected), "{arguments}: {}", ran.err);
    }
}

#[test]
fn without_a_daemon_it_says_how_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    for arguments in ["service list", "stats", "--json flow list", "config apply"] {
        let ran = ran(command(&socket, arguments).output().unwrap());
        assert_eq!((ran.status, ran.out.as_str()), (1, ""), "{arguments}");
        assert!(ran.err.starts_with("shunt: no shuntd answers on "), "{}", ran.err);
        assert!(ran.err.contains("shuntd --config") && ran.err.contains("--socket"), "{}", ran.err);
    }
}

#[test]
fn without_permission_it_says_how_to_get_it() {
    let fixture = Fixture::new();
    let socket = &fixture.settings.socket;
    let strangers = |fixture: &Fixture| -> Command {
        // Root may always connect, so as root another user tries.
        let program = fixture.directory.path().join("shunt");
        std::fs::copy(SHUNT, &program).unwrap();
        std::fs::set_permissions(fixture.directory.path(), PermissionsExt::from_mode(0o755))
            .unwrap();
        let mut command = Command::new(program);
        command.env("SHUNT_SOCKET", socket).args(["service", "list"]).current_dir("/");
        if nix::unistd::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        command
    };
    if !nix::unistd::geteuid().is_root() {
        std::fs::set_permissions(socket, PermissionsExt::from_mode(0o000)).unwrap();
    }
    let refused = ran(strangers(&fixture).output().unwrap());
    assert_eq!(refused.status, 1);
    assert!(refused.err.starts_with("shunt: no permission to use "), "{}", refused.err);
    assert!(refused.err.contains("control.group"), "{}", refused.err);

    // Where the mode lets them in, the daemon still asks who they are.
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
    let asked = ran(strangers(&fixture).output().unwrap());
    if nix::unistd::geteuid().is_root() {
        assert_eq!(asked.status, 1);
        assert!(
            asked.err.starts_with("shunt: uid 65534 may not use the control socket: only root may"),
            "{}",
            asked.err
        );
    } else {
        assert_eq!(asked.status, 0, "the daemon's own user may");
    }
}

#[test]
fn version_completions_and_manual_pages() {
    let fixture = Fixture::new();
    let version = fixture.ok("version");
    let expected =
        format!("shunt {0}\nshuntd {0}, up 1h 2m 3s, generation 1, ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected), "{version}");
    assert_eq!(fixture.json("version")["daemon"]["protocol"], 1);
    assert_eq!(fixture.ok("--version"), format!("shunt {}\n", env!("CARGO_PKG_VERSION")));

    for shell in ["bash", "zsh", "fish"] {
        let script = fixture.ok(&format!("completions {shell}"));
        assert!(script.contains("neighbor") && script.contains("wlc"), "{shell}");
    }
    let manual = fixture.directory.path().join("man");
    assert_eq!(fixture.ok(&format!("man {}", manual.display())), "");
    let page = std::fs::read_to_string(manual.join("shunt-server-add.1")).unwrap();
    assert!(page.contains("Add a real server to a virtual service"), "{page}");
    assert!(manual.join("shunt.1").exists());
}

/// What goes to the daemon comes from the environment or the option, the option first.
#[test]
fn the_socket_is_named_by_option_or_environment() {
    let fixture = Fixture::new();
    let socket = fixture.settings.socket.display();
    let output = Command::new(SHUNT)
        .env("SHUNT_SOCKET", "/nonexistent.sock")
        .args(format!("service list --socket {socket}").split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success());
}
