//! A network of namespaces and guests, built by `scripts/lab`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Which real servers a lab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reals {
    /// All four; rs3 and rs4 are guests.
    All,
    /// rs1 and rs2 only.
    Dr,
}

/// What a command printed, and whether it succeeded.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit code; -1 when ended by a signal.
    pub code: i32,
}

impl Output {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Output {
        let output = command.stdin(Stdio::null()).output().expect("the command starts");
        Output {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Standard output of a command that succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "exit code {}\n{}\n{}", self.code, self.out, self.err);
        self.out
    }
}

/// A lab. It is taken down when dropped, or else when the process ends.
#[derive(Debug)]
pub struct Lab {
    name: String,
}

static LABS: AtomicU32 = AtomicU32::new(0);

/// The repository.
pub(crate) fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// What this machine lacks for system tests.
pub(crate) fn missing() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("system tests need root, for network namespaces".into());
    }
    let tools = [
        "ip",
        "nginx",
        "linux.uml",
        "ethtool",
        "curl",
        "tcpdump",
        "arping",
        "ipvsadm",
        "ldirectord",
        "qemu-system-x86_64",
    ];
    for tool in tools {
        let found = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        if !found.split(':').any(|dir| PathBuf::from(dir).join(tool).exists()) {
            return Some(format!("{tool} is missing; run scripts/setup --for test"));
        }
    }
    let probe = Command::new("ip").args(["netns", "list"]).output();
    (!probe.is_ok_and(|o| o.status.success())).then(|| "no network namespaces here".into())
}

impl Lab {
    /// Builds one, with so many queues on the director's interfaces.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(reals: Reals, queues: u16) -> Lab {
        Lab::with(reals, queues, &[])
    }

    /// Builds one with IPv6 beside IPv4.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up6(reals: Reals) -> Lab {
        Lab::with(reals, 1, &["--ipv6"])
    }

    /// Builds one with IPv6, and so many queues on the director's interfaces.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up6_queues(reals: Reals, queues: u16) -> Lab {
        Lab::with(reals, queues, &["--ipv6"])
    }

    /// Builds one with a whole machine for the director, node `machine`, by these options of
    /// `scripts/lab up`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up_machine(reals: Reals, options: &[&str]) -> Lab {
        Lab::with(reals, 1, options)
    }

    fn with(reals: Reals, queues: u16, options: &[&str]) -> Lab {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let lab = Lab { name: format!("t{pid}-{number}") };
        let mut args = vec!["--owner".into(), pid.to_string()];
        args.extend(["--director-queues".into(), queues.to_string()]);
        if reals == Reals::Dr {
            args.push("--no-uml".into());
        }
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(options);
        lab.script("up", &args).ok();
        lab
    }

    /// A `scripts/lab` command on this lab.
    pub fn script(&self, command: &str, args: &[&str]) -> Output {
        let mut lab = Command::new(top().join("scripts/lab"));
        Output::of(lab.arg(command).args(["--name", &self.name]).args(args))
    }

    /// Runs a command on a node.
    pub fn exec(&self, node: &str, command: &[&str]) -> Output {
        let mut args = vec![node];
        args.extend(command);
        self.script("exec", &args)
    }

    /// A command on a node that is a namespace, not yet started.
    pub fn command(&self, node: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{node}", self.name), program]);
        command
    }

    /// The same for one that the lab ends when it goes down, should it still run then: it writes
    /// its own record, as all of the lab's processes do (`scripts/lab.d/processes.sh`).
    pub(crate) fn recorded(&self, label: &str, node: &str, program: &str) -> Command {
        let become_it = "read -r stat </proc/self/stat; rest=(${stat##*) })
            echo \"${stat%% *} ${rest[19]} TERM\" >\"$1.new\" && mv \"$1.new\" \"$1\" &&
            shift && exec \"$@\"";
        let record = self.dir().join("proc").join(label);
        let mut command = self.command(node, "bash");
        command.args(["-c", become_it, "-"]).arg(record).arg(program);
        command
    }

    /// Runs a Python program on a node that is a namespace; `/usr/bin/python3` is the one that has
    /// Debian's packages.
    pub fn python(&self, node: &str, program: &str, args: &[&str]) -> Output {
        let mut python = self.command(node, "/usr/bin/python3");
        Output::of(python.args(["-c", program]).args(args))
    }

    /// The lab's directory, with logs and sockets.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from("/run/shunt-lab").join(&self.name)
    }

    /// `count` requests by the client, each by a connection of its own: who answered, or `"-"` and
    /// curl's exit code.
    pub fn fetch(&self, url: &str, count: u32) -> Vec<String> {
        self.fetch_by("", url, count)
    }

    /// The same with further options of curl.
    pub fn fetch_by(&self, options: &str, url: &str, count: u32) -> Vec<String> {
        let each = format!("{url}?[1-{count}]");
        let format = "%header{x-served-by} %{remote_ip} %{http_code} %{exitcode}\n";
        let mut curl = self.command("client", "curl");
        curl.args(options.split_whitespace()).args([
            "-s",
            "--max-time",
            "20",
            "-H",
            "Connection: close",
            "-o",
            "/dev/null",
        ]);
        curl.args(["-w", format, &each]);
        let host = url.trim_start_matches("http://");
        let vip = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next(),
            None => host.split(['/', ':']).next(),
        };
        let vip = vip.unwrap_or_default();
        let good = format!("{vip} 200 0");
        Output::of(&mut curl)
            .out
            .lines()
            .map(|line| match line.split_once(' ') {
                Some((server, rest)) if rest == good => server.to_owned(),
                _ => format!("- {line}"),
            })
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = self.script("down", &[]);
        if down.code != 0 {
            eprintln!("{}: not taken down: {}", self.name, down.err);
        }
    }
}
