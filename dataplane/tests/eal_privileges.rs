//! What a running daemon may still do, what two daemons at once do to each other, and where the
//! control socket may lie.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid};

/// Starts a daemon whose files lie in `dir`, called `name`, with its socket at `socket`.
fn start(dir: &Path, name: &str, socket: &Path, eal: &str) -> Child {
    let group = nix::unistd::Group::from_gid(getegid()).unwrap().unwrap().name;
    let text = format!(
        "[dataplane]\nworkers = [1]\nflows_per_worker = 1024\nidle = \"sleep\"\nmbufs = 4095\n\
         eal = [\"--no-pci\", \"--no-huge\", \"-m\", \"64\", {eal}]\n\
         [control]\nsocket = {socket:?}\ngroup = {group:?}\n\
         [[port]]\nname = \"p0\"\nvdev = \"net_null0\"\naddress = [\"192.0.2.1/24\"]\n"
    );
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_shuntd"))
        .arg("--config")
        .arg(file)
        .env_remove("SHUNT_LOG")
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join(format!("{name}.log"))).unwrap())
        .spawn()
        .unwrap()
}

const ALONE: &str = "\"--no-shconf\", \"--no-telemetry\"";

fn log(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(format!("{name}.log"))).unwrap()
}

/// Waits until `done` says so, or the daemon has ended, or a minute has passed.
fn wait(daemon: &mut Child, mut done: impl FnMut() -> bool) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        if let Some(status) = daemon.try_wait().unwrap() {
            return Some(status.code().unwrap_or(-1));
        }
        assert!(Instant::now() < deadline, "neither ready nor ended after a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

fn stop(mut daemon: Child) -> Option<i32> {
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
    wait(&mut daemon, || false)
}

/// The value of one line of `/proc/…/status`.
fn field<'t>(status: &'t str, key: &str) -> &'t str {
    status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).unwrap().trim()
}

#[test]
fn no_thread_of_a_running_daemon_can_gain_anything() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    // With all the threads an EAL can have: telemetry, and messages of secondary processes.
    let prefix = format!("shunt-privileges-{}", std::process::id());
    let mut daemon = start(dir.path(), "d", &socket, &format!("\"--file-prefix={prefix}\""));
    let ended = wait(&mut daemon, || UnixStream::connect(&socket).is_ok());
    assert_eq!(ended, None, "{}", log(dir.path(), "d"));

    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap() {
        // A thread that serves a connection may end meanwhile.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let name = field(&status, "Name");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set} of thread {name}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1", "of thread {name}");
        names.push(name.to_owned());
    }
    for part in ["shunt-slow", "eal-intr", "rte_mp", "telemetry", "worker", "control"] {
        assert!(names.iter().any(|name| name.contains(part)), "no thread {part} in {names:?}");
    }
    let metadata = fs::symlink_metadata(&socket).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o660, getegid().as_raw()));

    assert_eq!(stop(daemon), Some(0), "{}", log(dir.path(), "d"));
    assert!(!log(dir.path(), "d").contains("cannot drop"), "{}", log(dir.path(), "d"));
    let _ = fs::remove_dir_all(format!("/var/run/dpdk/{prefix}"));
}

#[test]
fn of_two_daemons_started_at_once_one_gives_up_before_it_starts_anything() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    for round in 0..3 {
        let names = [format!("a{round}"), format!("b{round}")];
        let mut daemons = names.each_ref().map(|name| start(dir.path(), name, &socket, ALONE));
        // Whichever it is: one ends, with an error that names the other, and no port started.
        let deadline = Instant::now() + Duration::from_secs(60);
        let loser = loop {
            let ended = daemons.iter_mut().position(|d| d.try_wait().unwrap().is_some());
            if let Some(loser) = ended {
                break loser;
            }
            assert!(Instant::now() < deadline, "both run on");
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = log(dir.path(), &names[loser]);
        let [first, second] = daemons;
        let (mut winner, mut lost) = if loser == 0 { (second, first) } else { (first, second) };
        assert_eq!(lost.wait().unwrap().code(), Some(1), "{text}");
        assert!(text.contains(&format!("another shuntd (pid {}) ", winner.id())), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let ended = wait(&mut winner, || UnixStream::connect(&socket).is_ok());
        assert_eq!(ended, None, "{}", log(dir.path(), &names[1 - loser]));
        assert_eq!(stop(winner), Some(0));
        assert!(!socket.exists());
    }
}

#[test]
fn the_socket_of_a_killed_daemon_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let mut first = start(dir.path(), "a", &socket, ALONE);
    assert_eq!(wait(&mut first, || UnixStream::connect(&socket).is_ok()), None);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(socket.exists());
    let mut second = start(dir.path(), "b", &socket, ALONE);
    let ended = wait(&mut second, || UnixStream::connect(&socket).is_ok());
    assert_eq!(ended, None, "{}", log(dir.path(), "b"));
    assert_eq!(stop(second), Some(0));
}

/// Sets a flag when the test ends, however it does.
struct Guard<'f>(&'f AtomicBool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_strangers_file_is_touched_where_strangers_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, public) = (dir.path().join("victim"), dir.path().join("public"));
    fs::write(&victim, "theirs").unwrap();
    fs::set_permissions(&victim, Permissions::from_mode(0o604)).unwrap();
    fs::create_dir(&public).unwrap();
    fs::set_permissions(&public, Permissions::from_mode(0o777)).unwrap();
    chown(&victim, Some(4242), Some(4242)).unwrap();
    let socket = public.join("control.sock");

    let stop_swapping = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _guard = Guard(&stop_swapping);
        // A stranger who puts a link where the socket is, over and over.
        scope.spawn(|| {
            while !stop_swapping.load(Ordering::Relaxed) {
                let link = public.join("link");
                if fs::symlink_metadata(&socket).is_ok_and(|m| !m.is_symlink()) {
                    let _ = symlink(&victim, &link);
                    let _ = fs::rename(&link, &socket);
                } else {
                    let _ = fs::remove_file(&socket);
                }
            }
        });
        for round in 0..20 {
            let name = format!("d{round}");
            let mut daemon = start(dir.path(), &name, &socket, ALONE);
            let mut looks = 0;
            let code = wait(&mut daemon, || {
                looks += 1;
                looks > 100 // Two seconds; it runs, so it must be stopped.
            });
            drop(daemon.kill());
            drop(daemon.wait());
            let metadata = fs::metadata(&victim).unwrap();
            let seen = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
            assert_eq!(seen, (0o604, 4242, 4242), "start {round}: {}", log(dir.path(), &name));
            assert_eq!(code, Some(1), "{}", log(dir.path(), &name));
        }
    });
    let text = log(dir.path(), "d0");
    assert!(text.contains("mode 0777") && text.contains("chmod go-w"), "{text}");
    assert!(!text.contains("port p0"), "{text}");
}
