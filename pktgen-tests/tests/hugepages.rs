//! `scripts/hugepages` against a made-up system: what it refuses, writes and prints.
//!
//! A folder plays `/sys`, `/proc` and `/etc`. What a kernel makes of a number is not shown here.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const GIB: u64 = 1024 * 1024;

/// A machine of so many GiB, half of them free, with `nodes` NUMA nodes and pages of both sizes.
fn system(gib: u64, nodes: u64) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: String, text: String| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let (total, free) = (gib * GIB, gib * GIB / 2);
    write(
        "proc/meminfo".to_owned(),
        format!("MemTotal: {total} kB\nMemFree: 9 kB\nMemAvailable:   {free} kB\n"),
    );
    let mut pools = vec!["sys/kernel/mm".to_owned()];
    for node in 0..nodes {
        let at = format!("sys/devices/system/node/node{node}");
        let (total, free) = (total / nodes, free / nodes);
        write(
            format!("{at}/meminfo"),
            format!(
                "Node {node} MemTotal:  {total} kB\nNode {node} MemFree: {} kB\n\
                 Node {node} FilePages: {} kB\nNode {node} Shmem: 1024 kB\n",
                free / 2,
                free / 2 + 1024
            ),
        );
        pools.push(at);
    }
    for pool in pools {
        for size in [2048, GIB] {
            for file in ["nr_hugepages", "free_hugepages"] {
                write(format!("{pool}/hugepages/hugepages-{size}kB/{file}"), "0\n".to_owned());
            }
        }
    }
    root
}

fn run(root: &TempDir, words: &[&str]) -> Output {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/hugepages"))
        .args(words)
        .env("SHUNT_SYSTEM_ROOT", root.path())
        .output()
        .unwrap()
}

fn does(root: &TempDir, words: &[&str]) -> String {
    let output = run(root, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refuses(root: &TempDir, words: &[&str]) -> String {
    let output = run(root, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains("Traceback"), "{told}");
    told
}

fn pages(root: &TempDir, of: &str, kib: u64) -> PathBuf {
    root.path().join(of).join(format!("hugepages/hugepages-{kib}kB/nr_hugepages"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn reserves_and_shows() {
    let system = system(8, 1);
    let told = does(&system, &["512"]);
    assert!(told.contains("2 MiB hugepages: 512 reserved, 0 free"), "{told}");
    assert!(told.contains("1 GiB hugepages: 0 reserved"), "{told}");
    does(&system, &["1", "--size", "1G"]);
    assert_eq!(read(&pages(&system, "sys/kernel/mm", GIB)), "1");
    assert!(!does(&system, &[]).contains("node"));
}

#[test]
fn leaves_room_for_the_system() {
    // Of 3 GiB with a half free, 384 MiB have to be left.
    let small = system(3, 1);
    let told = refuses(&small, &["5000"]);
    assert!(told.contains("are 10000 MiB; 1536 MiB of 3072 are to be had"), "{told}");
    assert!(told.contains("At most 576 pages"), "{told}");
    assert_eq!(read(&pages(&small, "sys/kernel/mm", 2048)), "0");
    refuses(&small, &["577"]);
    does(&small, &["576"]);
    // What is reserved already may be kept, or given back, however little is left.
    does(&small, &["576"]);
    does(&small, &["10"]);
}

#[test]
fn a_node_has_memory_of_its_own() {
    let system = system(8, 2);
    assert!(refuses(&system, &["1000", "--node", "0"]).contains("to be had on node 0"));
    does(&system, &["512", "--node", "1"]);
    assert_eq!(read(&pages(&system, "sys/devices/system/node/node1", 2048)), "512");
    assert!(does(&system, &[]).contains("  node 1: 512 reserved"));
    assert!(refuses(&system, &["1", "--node", "2"]).contains("no NUMA node 2; there is 0, 1"));
}

#[test]
fn boot_remembers_each_size_and_node_once() {
    let system = system(16, 2);
    let old = system.path().join("etc/sysctl.d/60-shunt-hugepages.conf");
    fs::create_dir_all(old.parent().unwrap()).unwrap();
    fs::write(&old, "vm.nr_hugepages = 7\n").unwrap();
    does(&system, &["512", "--boot"]);
    does(&system, &["64", "--node", "1", "--boot"]);
    assert!(does(&system, &["1", "--size", "1G", "--boot"]).contains("hugepagesz=1G hugepages=1"));
    does(&system, &["256", "--boot"]);
    let text =
        fs::read_to_string(system.path().join("etc/tmpfiles.d/shunt-hugepages.conf")).unwrap();
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "w /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages - - - - 64",
            "w /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages - - - - 1",
            "w /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages - - - - 256",
        ]
    );
    // The line of an earlier version would say something else.
    assert!(!old.exists());
}

#[test]
fn the_command_line_is_checked() {
    let system = system(8, 1);
    for words in
        [&["-5"][..], &["many"], &["1", "--size", "3M"], &["--boot"], &["1", "2"], &["99999999999"]]
    {
        assert!(refuses(&system, words).contains("--help"), "{words:?}");
    }
    fs::remove_dir_all(pages(&system, "sys/kernel/mm", GIB).parent().unwrap()).unwrap();
    assert!(refuses(&system, &["1", "--size", "1G"]).contains("no hugepages of 1G"));
}
