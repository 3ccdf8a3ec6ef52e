//! The daemon itself, on virtual devices: what it does when it cannot start as configured.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::sched_getaffinity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn start(dir: &Path, workers: &str, ports: &[&str]) -> Child {
    let socket = format!("socket = {:?}", dir.join("control.sock"));
    start_large(dir, workers, ports, &socket, 1024)
}

/// With room for so many flows a worker.
fn start_large(dir: &Path, workers: &str, ports: &[&str], control: &str, flows: u32) -> Child {
    configure(dir, workers, ports, control, flows);
    run(dir)
}

fn configure(dir: &Path, workers: &str, ports: &[&str], control: &str, flows: u32) {
    let mut text = format!(
        "[dataplane]\nworkers = {workers}\nflows_per_worker = {flows}\nidle = \"sleep\"\n\
         mbufs = 4095\n\
         eal = [\"--no-pci\", \"--no-huge\", \"-m\", \"64\", \"--no-shconf\", \"--no-telemetry\"]\n\
         [control]\n{control}\n"
    );
    for (i, vdev) in ports.iter().enumerate() {
        text += &format!(
            "[[port]]\nname = \"p{i}\"\nvdev = \"{vdev}\"\naddress = [\"192.0.{i}.1/24\"]\n"
        );
    }
    fs::write(dir.join("shunt.toml"), text).unwrap();
}

fn run(dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_shuntd"))
        .arg("--config")
        .arg(dir.join("shunt.toml"))
        .env_remove("SHUNT_LOG")
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("log")).unwrap())
        .spawn()
        .unwrap()
}

/// Waits for it to end; its exit code and log.
fn end(dir: &Path, mut daemon: Child) -> (Option<i32>, String) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let log = fs::read_to_string(dir.join("log")).unwrap();
        if let Some(status) = daemon.try_wait().unwrap() {
            return (status.code(), log);
        }
        if Instant::now() > deadline {
            drop(daemon.kill());
            drop(daemon.wait());
            panic!("it runs on:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until it answers.
fn await_ready(dir: &Path, daemon: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while UnixStream::connect(dir.join("control.sock")).is_err() {
        let log = fs::read_to_string(dir.join("log")).unwrap();
        assert_eq!(daemon.try_wait().unwrap(), None, "{log}");
        assert!(Instant::now() < deadline, "{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_that_became_a_pipe_holds_up_no_signal() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = start(dir.path(), "[1]", &["net_null0"]);
    await_ready(dir.path(), &mut daemon);
    let file = dir.path().join("shunt.toml");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let daemon_pid = Pid::from_raw(daemon.id() as i32);
    let deadline = Instant::now() + Duration::from_secs(60);
    kill(daemon_pid, Signal::SIGHUP).unwrap();
    while !fs::read_to_string(dir.path().join("log")).unwrap().contains("reload: ") {
        if Instant::now() > deadline {
            drop(daemon.kill());
            panic!("the reload waits for the pipe");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(daemon_pid, Signal::SIGTERM).unwrap();
    let (code, log) = end(dir.path(), daemon);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("it is a named pipe, expected a regular file"), "{log}");
}

#[test]
fn a_start_by_a_pipe_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shunt.toml");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let daemon = Command::new(env!("CARGO_BIN_EXE_shuntd"))
        .arg("--config")
        .arg(&file)
        .stderr(fs::File::create(dir.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let (code, log) = end(dir.path(), daemon);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("it is a named pipe, expected a regular file"), "{log}");
}

#[test]
fn the_poorest_port_may_come_last() {
    let dir = tempfile::tempdir().unwrap();
    // net_null has as many queues as one likes, a net_pcap device one for each file.
    let pcap = format!("net_pcap0,tx_pcap={},rx_iface=lo", dir.path().join("x").display());
    let mut daemon = start(dir.path(), "[0, 1]", &["net_null0", &pcap]);
    await_ready(dir.path(), &mut daemon);
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
    let (code, log) = end(dir.path(), daemon);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("1 of 2 workers run"), "{log}");
    assert!(log.contains("port p1: link up"), "{log}");
    assert!(!log.contains("EAL not cleaned up"), "{log}");
}

#[test]
fn a_second_daemon_ends_before_it_starts_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let _first = UnixListener::bind(dir.path().join("control.sock")).unwrap();
    let (code, log) = end(dir.path(), start(dir.path(), "[1]", &["net_null0"]));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("has the control socket"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn a_start_that_fails_at_the_end_stops_all_threads_and_says_why_once() {
    let dir = tempfile::tempdir().unwrap();
    // The EAL is told to start without the worker's lcore, which shows when that is to start.
    let control = format!("socket = {:?}", dir.path().join("control.sock"));
    configure(dir.path(), "[1]", &["net_null0"], &control, 1024);
    let file = dir.path().join("shunt.toml");
    let text = fs::read_to_string(&file).unwrap().replace("eal = [", "eal = [\"--lcores=0@0\", ");
    fs::write(&file, text).unwrap();
    let (code, log) = end(dir.path(), run(dir.path()));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("port p0: net_null0"), "{log}");
    assert_eq!(log.matches("is not among the EAL's").count(), 1, "{log}");
    assert!(!log.contains("EAL not cleaned up"), "{log}");
}

#[test]
fn a_worker_without_a_processor_is_an_error_of_the_configuration() {
    let usable = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let lcore = (0..128).rev().find(|n| !usable.is_set(*n).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (code, log) = end(dir.path(), start(dir.path(), &format!("[{lcore}]"), &["net_null0"]));
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("dataplane.workers: lcore {lcore}")), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
}

/// The socket is being taken, and nobody looks for signals yet.
#[test]
fn a_signal_in_the_first_moments_ends_the_start() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let control = format!("socket = {:?}", dir.path().join("control.sock"));
        let daemon = start_large(dir.path(), "[1]", &["net_null0"], &control, 1 << 20);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !dir.path().join("control.sock.lock").exists() {
            assert!(Instant::now() < deadline, "no lock after a minute");
        }
        kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
        let (code, log) = end(dir.path(), daemon);
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("ready") && log.contains("stopping"), "{log}");
    }
}

#[test]
fn a_start_that_takes_long_heeds_a_signal() {
    // Nearly 4 GB, of which little is touched before the signal comes.
    const FLOWS: u32 = 60_000_000;
    let dir = tempfile::tempdir().unwrap();
    let control = format!("socket = {:?}", dir.path().join("control.sock"));
    let mut daemon = start_large(dir.path(), "[1]", &["net_null0"], &control, FLOWS);
    let log = || fs::read_to_string(dir.path().join("log")).unwrap();
    while !log().contains("port p0: net_null0") {
        assert_eq!(daemon.try_wait().unwrap(), None, "{}", log());
        std::thread::sleep(Duration::from_millis(2));
    }
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
    let (code, log) = end(dir.path(), daemon);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopping"), "{log}");
    assert!(!log.contains("ready"), "it started all the same: {log}");
    assert!(!log.contains("EAL not cleaned up"), "{log}");
}
