//! `shunt` called as `ipvsadm`, against a control socket. What the real one does is compared in
//! `pktgen-tests/tests/ipvsadm.rs`; here is what that does not reach.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod control_support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use control_support::Fixture;
use dataplane::snapshot::learned::{Cause, Effect, News, RealName, Standing};

const SHUNT: &str = env!("CARGO_BIN_EXE_shunt");

/// Exit status, standard output, standard error.
type Ran = (i32, String, String);

fn run(mut command: Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without reading.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn named(directory: &Path, socket: &Path, arguments: &str) -> Command {
    let program = directory.join("ipvsadm");
    drop(std::os::unix::fs::symlink(SHUNT, &program));
    let mut command = Command::new(program);
    command.env("SHUNT_SOCKET", socket).args(arguments.split_whitespace());
    command
}

impl Fixture {
    fn ipvsadm(&self, arguments: &str) -> Ran {
        self.fed(arguments, "")
    }

    fn fed(&self, arguments: &str, input: &str) -> Ran {
        run(named(self.directory.path(), &self.settings.socket, arguments), input)
    }
}

fn refusal(message: &str) -> Ran {
    (255, String::new(), format!("{message}\n"))
}

const DONE: Ran = (0, String::new(), String::new());

#[test]
fn it_is_called_by_its_name_or_as_a_subcommand() {
    let fixture = Fixture::new();
    let listed = fixture.ipvsadm("-Ln");
    assert_eq!(
        listed.1,
        "\
IP Virtual Server version 1.2.1 (size=1000000)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.0.2.100:80 wrr
  -> 192.0.2.21:80                Route   2      4          5         
"
    );
    let mut subcommand = Command::new(SHUNT);
    subcommand.arg("--socket").arg(&fixture.settings.socket).args(["ipvsadm", "-Ln"]);
    assert_eq!(run(subcommand, ""), listed);
    let mut help = Command::new(SHUNT);
    help.args(["ipvsadm", "-h"]);
    assert!(run(help, "").1.starts_with("Usage: ipvsadm COMMAND"));
    let version = fixture.ipvsadm("--version").1;
    assert!(version.starts_with("ipvsadm v1.31 (shunt "), "{version}");
}

#[test]
fn what_shunt_has_not_got_is_refused_on_one_line() {
    let fixture = Fixture::new();
    for arguments in [
        "-A -f 5",
        "-A -f 5 -6",
        "-A --sctp-service 192.0.2.100:80",
        "-a -t 192.0.2.100:80 -r 192.0.2.22 -m",
        "-a -t 192.0.2.100:80 -r 192.0.2.22 -i --tun-type gue --tun-port 6080",
        "-e -t 192.0.2.100:80 -r 192.0.2.21 -m",
        "--start-daemon master",
        "--stop-daemon backup",
    ] {
        let (status, out, err) = fixture.ipvsadm(arguments);
        assert_eq!((status, out.as_str()), (255, ""), "{arguments}");
        assert!(err.starts_with("Shunt has no ") && err.lines().count() == 1, "{arguments}: {err}");
    }
    assert_eq!(
        fixture.ipvsadm("-a -t 192.0.2.100:80 -r 192.0.2.22 -w 65536").2,
        "service.real.weight: real server 192.0.2.22 of virtual service tcp 192.0.2.100:80: found \
         weight 65536, allowed are 0 (drain) to 65535\n"
    );
}

#[test]
fn a_range_of_ports_takes_the_place_of_a_firewall_mark() {
    let fixture = Fixture::new();
    let (_, _, hint) = fixture.ipvsadm("-A -f 5");
    assert_eq!(hint.lines().count(), 1);
    assert!(hint.contains("-t VIP:8000-8999") && hint.contains("-t VIP:0 -p"), "{hint}");

    fixture.ipvsadm("-C");
    assert_eq!(fixture.ipvsadm("-A -t 192.0.2.101:8000-8999 -s rr -p 60"), DONE);
    assert_eq!(fixture.ipvsadm("-a -t 192.0.2.101:8000-8999 -r 192.0.2.21"), DONE);
    assert_eq!(fixture.ipvsadm("-A -u 192.0.2.101:0 -s rr -p 60"), DONE);
    assert_eq!(
        fixture.ipvsadm("-A -t 192.0.2.101:0 -s rr").2,
        "Zero port specified for non-persistent service\n"
    );
    let listed = fixture.ipvsadm("-Ln").1;
    assert_eq!(
        listed.lines().skip(3).collect::<Vec<_>>(),
        [
            "TCP  192.0.2.101:8000-8999 rr persistent 60",
            "  -> 192.0.2.21:8000-8999         Route   1      4          5         ",
            "UDP  192.0.2.101:0 rr persistent 60",
        ]
    );
    // What is saved can be restored here; the original does not know ranges.
    let saved = fixture.ipvsadm("-S -n").1;
    assert_eq!(
        saved,
        "-A -t 192.0.2.101:8000-8999 -s rr -p 60\n\
         -a -t 192.0.2.101:8000-8999 -r 192.0.2.21 -g -w 1\n\
         -A -u 192.0.2.101:0 -s rr -p 60\n"
    );
    fixture.ipvsadm("-C");
    assert_eq!(fixture.fed("-R", &saved), DONE);
    assert_eq!(fixture.ipvsadm("-S -n").1, saved);
    let (status, _, refused) = fixture.ipvsadm("-A -t 192.0.2.101:8500-9500");
    assert_eq!(status, 255);
    assert!(
        refused.contains("192.0.2.101:8500-9500 overlaps")
            && refused.contains("tcp 192.0.2.101:8000-8999; ranges"),
        "{refused}"
    );
    assert_eq!(fixture.ipvsadm("-d -t 192.0.2.101:8000-8999 -r 192.0.2.21"), DONE);
    assert_eq!(fixture.ipvsadm("-D -t 192.0.2.101:8000-8999"), DONE);
    assert_eq!(fixture.ipvsadm("-D -t 192.0.2.101:8000"), refusal("No such service"));
}

#[test]
fn a_restore_goes_on_and_says_that_lines_are_missing() {
    let fixture = Fixture::new();
    let lines = "\
-A -f 1 -s rr
-A -t 192.0.2.101:80 -s rr
-a -t 192.0.2.101:80 -r 192.0.2.22:80 -m -w 1
-a -t 192.0.2.101:80 -r 192.0.2.21:80 -g -w 1
";
    let (status, out, err) = fixture.fed("-R", lines);
    assert_eq!((status, out.as_str(), err.lines().count()), (255, "", 5));
    assert!(err.contains("  left out: line 1, -A -f 1 -s rr\n"), "{err}");
    assert!(err.contains("  left out: line 3, -a -t 192.0.2.101:80 -r 192.0.2.22:80 -m"), "{err}");
    assert!(err.ends_with("2 lines were left out\n"), "{err}");
    assert_eq!(fixture.plane.last().services[1].reals.len(), 1);
    assert_eq!(fixture.ipvsadm("-C"), DONE);
    assert!(fixture.plane.last().services.is_empty());
    assert_eq!(fixture.fed("-R", "-A -t 192.0.2.101:80\n-A -t 192.0.2.101:80\n").0, 0);
    // What LVS takes and the director does not, and what was for something left out.
    for (lines, missed) in [
        ("-A -t 192.0.2.102:80\n-a -t 192.0.2.102:80 -r 192.0.2.21 -w 70000\n", 1),
        ("-A -t 192.0.2.103:80 -p 2600000\n-a -t 192.0.2.103:80 -r 192.0.2.21\n", 2),
        ("-A -f 7\n-a -f 7 -r 192.0.2.21\n-A -t 192.0.2.104:80\n", 2),
    ] {
        let (status, _, err) = fixture.fed("-R", lines);
        assert_eq!((status, err.matches("left out: line").count()), (255, missed), "{err}");
    }
    // Without anything left out, LVS's own refusals are no more than told, and what nobody can read.
    assert_eq!(fixture.fed("-R", "-A -t 192.0.2.104:81 -q foo\n-A -t 192.0.2.105:80\n").0, 0);
    assert_eq!(fixture.fed("-R", "-a -t 192.0.2.109:80 -r 192.0.2.21\n").0, 0);
}

#[test]
fn a_service_of_all_ports_without_persistence_can_be_restored() {
    let fixture = Fixture::new();
    let saved = "-A -t 192.0.2.101:0 -s rr\n";
    assert_eq!(fixture.ipvsadm("-A -t 192.0.2.101:0 -s rr").0, 2);
    fixture.ipvsadm("-C");
    assert_eq!(fixture.fed("-R", saved), DONE);
    assert_eq!(fixture.ipvsadm("-S -n").1, saved);
}

#[test]
fn connections_are_listed_page_by_page() {
    let fixture = Fixture::new();
    fixture.plane.flows.store(10_000, Ordering::SeqCst);
    let (status, out, err) = fixture.ipvsadm("-Lcn");
    assert_eq!((status, err.as_str(), out.lines().count()), (0, "", 10_002));
    assert_eq!(
        out.lines().nth(2).unwrap(),
        "TCP 14:59  ESTABLISHED 198.51.100.0:0     192.0.2.100:80     192.0.2.21:80"
    );
}

#[test]
fn errors_have_the_originals_words() {
    let fixture = Fixture::new();
    assert_eq!(fixture.ipvsadm("-A -t 192.0.2.100:80"), refusal("Service already exists"));
    assert_eq!(
        fixture.ipvsadm("-a -t 192.0.2.100:80 -r 192.0.2.21"),
        refusal("Destination already exists")
    );
    let full = dataplane::control::plane::ApplyError::Full("no room".to_owned());
    *fixture.plane.refuse.lock().unwrap() = Some(full);
    assert_eq!(
        fixture.ipvsadm("-A -t 192.0.2.101:80"),
        refusal("Memory allocation problem: no room")
    );
}

#[test]
fn without_a_director_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("none.sock");
    for arguments in ["-Ln", "-Lnc", "-A -t 192.0.2.100:80", "-S", "-C"] {
        let (status, out, err) = run(named(directory.path(), &nowhere, arguments), "");
        assert_eq!((status, out.as_str()), (255, ""), "{arguments}");
        assert!(err.starts_with("Can't initialize ipvs: no shuntd answers on "), "{err}");
    }
    assert_eq!(run(named(directory.path(), &nowhere, "-A -t"), "").0, 255);
    assert_eq!(run(named(directory.path(), &nowhere, "-A"), "").0, 2);
}

#[test]
fn a_restore_is_one_change() {
    let fixture = Fixture::new();
    let applied = || fixture.plane.applied.lock().unwrap().len();
    let before = applied();
    let mut lines = String::from("-C\n");
    for (n, vip) in (0..40).map(|n| (n, format!("198.18.0.{}:443", n + 1))) {
        lines += &format!("-A -t {vip} -s wlc\n");
        for real in 0..10 {
            let real = format!("192.0.2.{}", 20 + (n * 10 + real) % 200);
            lines += &format!("-a -t {vip} -r {real}:443 -g -w {}\n", real.len());
        }
    }
    assert_eq!(fixture.fed("-R", &lines), DONE);
    assert_eq!(applied(), before + 1);
    let config = fixture.config();
    assert_eq!(config.services.len(), 40);
    assert!(config.services.iter().all(|service| service.reals.len() == 10));
    // What a listing shows is what the lines before it have done.
    let (status, out, _) =
        fixture.fed("-R", "-C\n-A -t 198.18.0.9:80 -s rr\n-L -n\n-A -t 198.18.0.8:80 -s rr\n");
    assert_eq!(status, 0);
    assert!(out.contains("198.18.0.9:80 rr") && !out.contains("198.18.0.8"), "{out}");
    assert_eq!(applied(), before + 3);
    // And what comes before a line that cannot be read.
    let (status, _, err) = fixture
        .fed("-R", "-A -t 198.18.0.7:80 -s rr\n-A -t 198.18.0.6:80 -w 3\n-A -t 198.18.0.5:80\n");
    assert_eq!(status, 2, "{err}");
    let all: Vec<_> = fixture.config().services.iter().map(|s| s.address.to_string()).collect();
    assert_eq!(all, ["198.18.0.9:80", "198.18.0.8:80", "198.18.0.7:80"]);
}

#[test]
fn what_there_is_room_for_is_restored() {
    let fixture = Fixture::new();
    fixture.plane.room.store(5, Ordering::SeqCst);
    let mut lines = String::from("-C\n-A -t 198.18.0.1:80 -s rr\n");
    for real in 21..=28 {
        lines += &format!("-a -t 198.18.0.1:80 -r 192.0.2.{real} -g\n");
    }
    lines += "-A -t 198.18.0.2:80 -s rr\n";
    let (status, _, err) = fixture.fed("-R", &lines);
    assert_eq!(status, 255, "{err}");
    assert_eq!(err.matches("Memory allocation problem: no room").count(), 3, "{err}");
    assert!(
        err.contains("left out: line 10, ") && err.ends_with("3 lines were left out\n"),
        "{err}"
    );
    let config = fixture.config();
    let reals: Vec<_> = config.services.iter().map(|service| service.reals.len()).collect();
    assert_eq!(reals, [5, 0]);
}

#[test]
fn what_is_said_of_each_line_is_as_if_it_were_alone() {
    let lines = [
        "-A -t 192.0.2.100:80 -s rr",
        "-A -t 192.0.2.100:80 -s foo",
        "-E -t 192.0.2.99:80 -s rr",
        "-D -t 192.0.2.99:80",
        "-a -t 192.0.2.99:80 -r 192.0.2.22",
        "-a -t 192.0.2.100:80 -r 192.0.2.21",
        "-a -t 192.0.2.100:80 -r 10.9.9.9 -g",
        "-e -t 192.0.2.100:80 -r 10.9.9.9 -g",
        "-a -t 192.0.2.100:80 -r 192.0.2.22 -i --tun-type gre --tun-csum",
        "-e -t 192.0.2.100:80 -r 192.0.2.22 -g -w 70000",
        "-e -t 192.0.2.100:80 -r 192.0.2.22 -g -x 3 -y 5",
        "-e -t 192.0.2.100:80 -r 192.0.2.22 -i --tun-type gre",
        "-d -t 192.0.2.100:80 -r 192.0.2.22:81",
        "-d -t 192.0.2.100:80 -r 192.0.2.23",
        "-d -t 192.0.2.100:80 -r 192.0.2.22",
        "-d -t 192.0.2.100:80 -r 192.0.2.22",
        "-A -t 192.0.2.10:80 -s rr",
        "-a -t 192.0.2.10:80 -r 192.0.2.22",
        "-A -u 192.0.2.101:53 -s foo",
        "-A -f 5",
        "-a -f 5 -r 192.0.2.22",
        "-A -t 192.0.2.102:80 -s rr",
        "-a -t 192.0.2.102:80 -r 192.0.2.22 -m",
        "-D -t 192.0.2.102:80",
        "-a -t 192.0.2.102:80 -r 192.0.2.22",
    ];
    let (alone, together) = (Fixture::new(), Fixture::new());
    let expected: String = lines.iter().map(|line| alone.ipvsadm(line).2).collect();
    let (status, _, err) = together.fed("-R", &(lines.join("\n") + "\n"));
    assert_eq!(status, 255);
    let said: String = err
        .lines()
        .filter(|line| !line.starts_with("  left out: ") && !line.ends_with("were left out"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(said, expected);
    assert_eq!(*alone.config(), *together.config());
}

#[test]
fn a_real_server_that_is_down_is_listed_with_weight_0_and_saved_with_its_own() {
    let fixture = Fixture::new();
    let name =
        RealName { service: fixture.config().services[0].key(), real: [192, 0, 2, 21].into() };
    let effect = Effect { standing: Standing::Draining, weight: None };
    fixture.controller.learn(&[News::Real { name, cause: Cause::Health, effect }]).unwrap();
    let (status, listed, _) = fixture.ipvsadm("-Ln");
    assert_eq!(status, 0);
    let line = listed.lines().find(|line| line.contains("192.0.2.21")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("0"), "{listed}");
    let (_, saved, _) = fixture.ipvsadm("-Sn");
    assert!(saved.contains("-r 192.0.2.21:80 -g -w 2\n"), "{saved}");
}
