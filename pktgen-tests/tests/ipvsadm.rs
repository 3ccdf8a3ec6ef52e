//! `shunt` called as `ipvsadm`, side by side with the real one on a real LVS.
//!
//! The lines of `ipvsadm/commands.txt` are run on both, and outputs and exit codes compared byte by
//! byte. The real LVS is the kernel of a guest, where packets leave by a dummy interface. Excepted:
//!
//! - The size of the connection table, in the first line of a listing.
//! - Times of connections, which are compared to the nearest minute.
//!
//! What prepares a listing must succeed on both, and the listings of the real one must have what
//! was sent: `ipvsadm/transcript` says how a line asks for that.

use std::path::PathBuf;
use std::process::Command;

use pktgen_tests::{Config, Director, Lab, Output, Reals, binary, can_run};

fn file(name: &str) -> String {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm");
    tests.join(name).to_string_lossy().into_owned()
}

/// Real servers that never answer, so that both see the client's packets alone.
const NEIGHBORS: &str = r#"
[[neighbor]]
port = "lan"
address = "192.0.2.201"
mac = "02:00:00:00:02:01"
[[neighbor]]
port = "lan"
address = "192.0.2.202"
mac = "02:00:00:00:02:02"
"#;
const NEIGHBORS6: &str = r#"
[[neighbor]]
port = "lan"
address = "2001:db8:2::201"
mac = "02:00:00:00:02:01"
[[neighbor]]
port = "lan"
address = "2001:db8:2::202"
mac = "02:00:00:00:02:02"
"#;

/// Makes an LVS director of a guest.
const LVS: &str = "
    set -e
    modprobe dummy && modprobe ip_vs
    for scheduler in rr wrr lc wlc sh mh dh sed nq lblc lblcr fo ovf; do
        modprobe ip_vs_$scheduler
    done
    ip link add lan type dummy
    ip link set lan arp off up
    ip address add 192.0.2.10/24 dev lan
    ip route replace default dev lan
    if grep -qs 0 /proc/sys/net/ipv6/conf/lan/disable_ipv6; then
        ip address add 2001:db8:2::10/64 dev lan nodad
        ip -6 route replace default dev lan
    fi
    sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.lan.rp_filter=0
";

/// A line with what it printed and returned.
type Block = (String, Vec<String>);

fn blocks(transcript: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("$ "), blocks.last_mut()) {
            (Some(command), _) => blocks.push((command.to_owned(), Vec::new())),
            (None, Some((_, printed))) => printed.push(compared(line)),
            (None, None) => panic!("not a transcript: {line}"),
        }
    }
    blocks
}

/// A line without what may differ.
fn compared(line: &str) -> String {
    if let Some(head) = line.strip_prefix("IP Virtual Server version 1.2.1 (size=") {
        assert!(head.trim_end_matches(')').parse::<u64>().is_ok(), "{line}");
        return "IP Virtual Server version 1.2.1 (size=…)".to_owned();
    }
    // `TCP 14:59  ESTABLISHED …`
    let time = line.get(4..9).and_then(|time| time.split_once(':'));
    if let Some((Ok(minutes), Ok(seconds))) =
        time.map(|(minutes, seconds)| (minutes.parse::<u32>(), seconds.parse::<u32>()))
    {
        return format!("{}~{:2} m{}", &line[..4], minutes + (seconds + 30) / 60, &line[9..]);
    }
    line.to_owned()
}

fn of_lvs(lab: &Lab, lines: &str, sysctls: &str) -> String {
    lab.exec("rs3", &["sh", "-c", &format!("{LVS}\n{sysctls}")]).ok();
    let transcript = file("transcript");
    lab.exec("rs3", &["unshare", "--mount", &transcript, "-", &file(lines)]).ok()
}

fn of_shunt(lab: &Lab, lines: &str, config: &Config) -> String {
    let director = Director::start(lab, config);
    let dir = lab.dir().join("ipvsadm");
    std::fs::create_dir(&dir).expect("a directory");
    std::os::unix::fs::symlink(binary("shunt"), dir.join("ipvsadm")).expect("a link");
    let mut run = lab.command("client", "unshare");
    run.env("SHUNT_SOCKET", director.socket()).args(["--mount", &file("transcript")]);
    Output::of(run.arg(dir).arg(file(lines))).ok()
}

/// Runs the lines of a file on both.
fn compare(lines: &str) {
    compare_with(lines, "", "");
}

/// The same, with these settings of LVS, and these of `[scheduling]`.
fn compare_with(lines: &str, sysctls: &str, scheduling: &str) {
    if can_run() {
        let config = Config::new().with(NEIGHBORS).with(&format!("[scheduling]\n{scheduling}"));
        compare_in(&Lab::up(Reals::All, 1), lines, sysctls, &config);
    }
}

fn compare_in(lab: &Lab, lines: &str, sysctls: &str, config: &Config) {
    let lvs = blocks(&of_lvs(lab, lines, sysctls));
    let shunt = blocks(&of_shunt(lab, lines, config));
    assert!(!lvs.is_empty());
    for (command, printed) in &lvs {
        assert!(!printed.iter().any(|line| line.starts_with("? ")), "{command}: {printed:#?}");
    }
    assert_eq!(lvs.len(), shunt.len());
    let mut differences = String::new();
    for ((command, expected), (_, found)) in lvs.iter().zip(&shunt) {
        if expected != found {
            let (expected, found) = (expected.join("\n"), found.join("\n"));
            differences += &format!("\n$ {command}\n--- LVS\n{expected}\n--- Shunt\n{found}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// What the transcript runner makes of these lines.
fn transcript_of(lines: &str) -> Output {
    let path = std::env::temp_dir().join(format!("shunt-transcript-{}", std::process::id()));
    std::fs::write(&path, lines).expect("a file");
    let run = ["--mount", &file("transcript"), "-"];
    let output = Output::of(Command::new("unshare").args(run).arg(&path));
    std::fs::remove_file(path).expect("the file");
    output
}

#[test]
fn a_transcript_fails_with_what_it_prepares_and_tells_what_is_missing() {
    if !can_run() {
        return;
    }
    let printed = transcript_of("# silent\ntrue; echo b a >$out/x\n# has a c\ncat $out/x\n").ok();
    assert_eq!(printed, "$ cat $out/x\nb a\n? lacks c\n= 0\n");
    for failing in ["false; true", "false | true", "echo $nothing_of_that_name; true"] {
        let output = transcript_of(&format!("echo\n# silent\n{failing}\n"));
        assert_eq!(output.code, 1, "{failing}: {output:?}");
        assert!(output.err.contains(failing), "{failing}: {output:?}");
    }
    let send = "# silent\n: send.py\n";
    for unseen in [send.to_owned(), format!("{send}true\n{send}# has a\necho a\n")] {
        let output = transcript_of(&unseen);
        assert_eq!(output.code, 1, "{unseen}: {output:?}");
    }
    transcript_of(&format!("{send}# has a\necho a\n")).ok();
}

#[test]
fn it_prints_and_returns_what_the_real_one_does() {
    compare("commands.txt");
}

#[test]
fn so_it_does_about_ipv6() {
    if can_run() {
        let config = Config::new().ipv6().with(NEIGHBORS).with(NEIGHBORS6);
        compare_in(&Lab::up6(Reals::All), "ipv6.txt", "", &config);
    }
}

#[test]
fn persistence_is_printed_as_by_the_real_one() {
    compare("persistence.txt");
}

/// With what becomes of flows: `expire_nodest_conn`, `conn_reuse_mode`, `sloppy_tcp`.
fn compare_switches(nodest: bool, reuse: u8, sloppy: bool) {
    let vs = "sysctl -qw net.ipv4.vs";
    let (on, lax) = (u8::from(nodest), u8::from(sloppy));
    compare_with(
        "switches.txt",
        &format!(
            "{vs}.expire_nodest_conn={on}\n{vs}.conn_reuse_mode={reuse}\n{vs}.sloppy_tcp={lax}"
        ),
        &format!("expire_nodest_conn = {nodest}\nconn_reuse_mode = {reuse}\nsloppy_tcp = {sloppy}"),
    );
}

#[test]
fn flows_fare_as_by_default_here() {
    compare_switches(true, 2, false);
}

#[test]
fn flows_fare_as_by_default_there() {
    compare_switches(false, 1, false);
}

#[test]
fn flows_fare_as_with_all_the_other_way() {
    compare_switches(true, 0, true);
}

/// A drained real server keeps its flows here as it does there with `expire_nodest_conn = 0`,
/// whatever that is set to here.
fn compare_drained(nodest: bool, reuse: u8) {
    let vs = "sysctl -qw net.ipv4.vs";
    compare_with(
        "drained.txt",
        &format!("{vs}.expire_nodest_conn=0\n{vs}.conn_reuse_mode={reuse}"),
        &format!("expire_nodest_conn = {nodest}\nconn_reuse_mode = {reuse}"),
    );
}

#[test]
fn flows_stay_with_a_real_server_that_drains() {
    compare_drained(true, 2);
}

#[test]
fn flows_stay_with_a_real_server_that_drains_and_waits() {
    compare_drained(false, 1);
}

#[test]
fn sloppy_takes_up_what_it_does_there() {
    compare_with("sloppy.txt", "sysctl -qw net.ipv4.vs.sloppy_tcp=1", "sloppy_tcp = true");
}
