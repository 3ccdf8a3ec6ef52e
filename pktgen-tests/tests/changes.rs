//! What stays as it is while an operator changes things.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::signal::Signal;
use pktgen_tests::{Config, Director, Lab, RS1, RS2, Reals, can_run};

fn lab() -> Option<MutexGuard<'static, Lab>> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    can_run().then(|| {
        let lab = LAB.get_or_init(|| Mutex::new(Lab::up(Reals::Dr, 1)));
        lab.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

const BOTH: &[(&str, u32, &str)] = &[(RS1, 1, "dr"), (RS2, 1, "dr")];

fn count(served: &[String], server: &str) -> usize {
    served.iter().filter(|s| *s == server).count()
}

#[test]
fn weights_four_to_two_give_two_to_one() {
    let Some(lab) = lab() else { return };
    for scheduler in ["wrr", "wlc"] {
        let reals = [(RS1, 4, "dr"), (RS2, 2, "dr")];
        let config = Config::new().service("tcp", "192.0.2.100:80", scheduler, &reals);
        let director = Director::start(&lab, &config);
        let served = lab.fetch("http://192.0.2.100/", 600);
        let (one, two) = (count(&served, "rs1"), count(&served, "rs2"));
        assert_eq!(one + two, 600, "{scheduler}: {served:?}");
        let ratio = one as f64 / two as f64;
        assert!((1.9..=2.1).contains(&ratio), "{scheduler}: {one} to {two}");
        drop(director);
    }
}

/// Who serves each of the client's addresses.
fn served_by_address(lab: &Lab) -> Vec<String> {
    (10..20)
        .map(|host| {
            let source = format!("198.51.100.{host}");
            let curl = ["curl", "-s", "--max-time", "10", "--interface", &source];
            let mut curl = curl.to_vec();
            curl.push("http://192.0.2.100/");
            lab.exec("client", &curl).ok().trim().to_owned()
        })
        .collect()
}

#[test]
fn maglev_picks_the_same_real_servers_after_a_restart() {
    let Some(lab) = lab() else { return };
    let config = Config::new().service("tcp", "192.0.2.100:80", "mh", BOTH);
    let director = Director::start(&lab, &config);
    let before = served_by_address(&lab);
    assert_eq!(served_by_address(&lab), before, "the same while it runs");
    assert_eq!(director.stop().code(), Some(0));
    let director = Director::start(&lab, &config);
    assert_eq!(served_by_address(&lab), before, "and after a restart");
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 2, "both serve: {before:?}");
    drop(director);
}

/// A download of 4 MiB at 512 KiB/s: eight seconds.
fn download(lab: &Lab) -> Child {
    let mut curl = lab.command("client", "curl");
    curl.args(["-s", "--max-time", "60", "-r", "0-4194303", "-o", "/dev/null"]);
    curl.args(["-w", "%header{x-served-by} %{size_download} %{exitcode}"]);
    curl.arg("http://192.0.2.100/slow").stdin(Stdio::null()).stdout(Stdio::piped());
    curl.spawn().expect("curl starts")
}

#[test]
fn downloads_survive_adding_draining_and_removing_others() {
    let Some(lab) = lab() else { return };
    let service = ["tcp", "192.0.2.100:80"];
    let run = |director: &Director<'_>, verb: &str, rest: &[&str]| {
        let mut args = vec!["server", verb];
        args.extend(service);
        args.extend(rest);
        director.shunt(&args).ok();
    };
    let config = Config::new().service("tcp", "192.0.2.100:80", "rr", &[(RS1, 1, "dr")]);
    let director = Director::start(&lab, &config);

    let mut downloads: Vec<Child> = (0..10).map(|_| download(&lab)).collect();
    director.wait_for("ten flows", || established(&director) >= 10);
    run(&director, "add", &[RS2, "--weight", "1", "--forward", "dr"]);
    downloads.extend((0..40).map(|_| download(&lab)));
    director.wait_for("fifty flows", || established(&director) >= 50);
    // Drained, it keeps its downloads and gets no new connection.
    run(&director, "edit", &[RS2, "--weight", "0"]);
    let served = lab.fetch("http://192.0.2.100/", 50);
    assert_eq!(count(&served, "rs1"), 50, "{served:?}");
    // Removed, it loses them; everything else goes on, through a reload too.
    run(&director, "del", &[RS2]);
    director.write(&config);
    director.shunt(&["config", "apply"]).ok();
    director.signal(Signal::SIGHUP);

    let (mut one, mut two) = (0, 0);
    for child in downloads {
        let output = child.wait_with_output().expect("curl ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split(' ');
        match words.next() {
            Some("rs1") => {
                assert_eq!(text, "rs1 4194304 0", "a download on a surviving server broke");
                one += 1;
            }
            Some("rs2") => two += 1,
            _ => panic!("a download did not start: {text:?}"),
        }
    }
    assert!(one >= 10 && two >= 10 && one + two == 50, "{one} on rs1, {two} on rs2");
    director.assert_balanced();
}

fn established(director: &Director<'_>) -> usize {
    let flows = director.json(&["flow", "list"]);
    let flows = flows["flows"].as_array().cloned().unwrap_or_default();
    flows.iter().filter(|f| f["state"] == "ESTABLISHED").count()
}

#[test]
fn a_drained_service_still_serves_its_flows() {
    let Some(lab) = lab() else { return };
    let config = Config::new().service("tcp", "192.0.2.100:80", "wlc", BOTH);
    let director = Director::start(&lab, &config);
    let downloads: Vec<Child> = (0..4).map(|_| download(&lab)).collect();
    director.wait_for("four flows", || established(&director) >= 4);
    for real in [RS1, RS2] {
        director.shunt(&["server", "edit", "tcp", "192.0.2.100:80", real, "--weight", "0"]).ok();
    }
    let refused = lab.exec("client", &["curl", "-s", "--max-time", "9", "http://192.0.2.100/"]);
    assert_eq!(refused.code, 7, "curl could not connect, and did not have to wait: {refused:?}");
    for child in downloads {
        let output = child.wait_with_output().expect("curl ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.ends_with(" 4194304 0"), "{text:?}");
    }
    let stats = director.stats();
    assert!(stats["slow_path"]["events"]["icmp_errors"].as_u64() > Some(0), "{stats}");
}

#[test]
fn a_dead_real_server_is_shown_as_unreachable() {
    let Some(lab) = lab() else { return };
    let reals = [(RS1, 1, "dr"), ("192.0.2.77", 1, "dr")];
    let config = Config::new().service("tcp", "192.0.2.100:80", "rr", &reals);
    let director = Director::start(&lab, &config);
    director.wait_for("the neighbor's failure", || {
        let rows = director.json(&["neighbor", "list"]);
        rows.as_array().is_some_and(|rows| {
            rows.iter().any(|r| r["address"] == "192.0.2.77" && r["state"] == "failed")
        })
    });
    let listing = director.shunt(&["service", "list"]).ok();
    assert!(listing.contains("unreachable"), "{listing}");
}

#[test]
fn it_stops_cleanly_and_starts_again() {
    let Some(lab) = lab() else { return };
    let config = Config::new().service("tcp", "192.0.2.100:80", "rr", BOTH);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let director = Director::start(&lab, &config);
        assert_eq!(
            lab.fetch("http://192.0.2.100/", 20).iter().filter(|s| s.starts_with('-')).count(),
            0
        );
        director.signal(signal);
        let (socket, log) = (director.socket(), lab.dir().join("shuntd.log"));
        assert_eq!(director.stop().code(), Some(0));
        assert!(!socket.exists(), "the socket is gone");
        let log = std::fs::read_to_string(log).expect("a log");
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    }
}

#[test]
fn a_restart_resets_connections_the_director_no_longer_knows() {
    let Some(lab) = lab() else { return };
    let config = Config::new().service("tcp", "192.0.2.100:80", "rr", BOTH);
    let director = Director::start(&lab, &config);
    let child = download(&lab);
    director.wait_for("a flow", || established(&director) >= 1);
    assert_eq!(director.stop().code(), Some(0));
    let director = Director::start(&lab, &config);
    let output = child.wait_with_output().expect("curl ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.ends_with(" 56") || text.ends_with(" 18"), "reset, not hung: {text:?}");
    assert!(director.stats()["slow_path"]["events"]["tcp_resets"].as_u64() > Some(0));
}
