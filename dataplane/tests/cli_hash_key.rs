//! The key of the hash schedulers: the warning of the public one, and the command that mends it.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::path::Path;
use std::process::Command;

use dataplane::config::Config;

const SHUNT: &str = env!("CARGO_BIN_EXE_shunt");
const SHUNTD_TEXT: &str = r#"
[[port]]
name = "lan"
vdev = "net_null0"
address = ["192.0.2.10/24", "2001:db8:2::10/64"]
[[service]]
protocol = "tcp"
address = "VIP"
scheduler = "mh"
[[service.real]]
address = "192.0.2.21"
forward = "ipip"
"#;

fn text(vip: &str, scheduler: &str, rest: &str) -> String {
    SHUNTD_TEXT.replace("VIP", vip).replace("mh", scheduler) + rest
}

/// Standard output and standard error of what succeeds, without a daemon.
fn shunt(arguments: &[&str]) -> (String, String) {
    let output = Command::new(SHUNT).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{err}");
    (out, err)
}

fn check(options: &[&str], file: &Path) -> (String, String) {
    shunt(&[options, &["config", "check", file.to_str().unwrap()]].concat())
}

#[test]
fn the_public_key_is_warned_of_where_strangers_are_clients_and_the_command_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shunt.toml");
    std::fs::write(&file, text("9.9.9.9:443", "mh", "")).unwrap();
    let (out, err) = check(&[], &file);
    assert!(out.contains(": right;"), "{out}");
    assert!(err.contains("warning: virtual service tcp 9.9.9.9:443 is scheduled by"), "{err}");
    assert!(err.contains("`shunt config key`"), "{err}");
    let json: serde_json::Value = serde_json::from_str(&check(&["--json"], &file).0).unwrap();
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1);

    let (key, err) = shunt(&["config", "key"]);
    assert!(key.starts_with("hash_key = \"") && err.is_empty(), "{key}{err}");
    assert_ne!(shunt(&["config", "key"]).0, key);
    std::fs::write(&file, text("9.9.9.9:443", "mh", &format!("[scheduling]\n{key}"))).unwrap();
    assert_eq!(check(&[], &file).1, "");
    assert!(!check(&["--json"], &file).0.contains("warnings"));
}

#[test]
fn only_services_that_a_stranger_can_aim_through_are_warned_of() {
    let public = "[scheduling]\nhash_key = \"7368756e742f686173682d6b65792f31\"\n";
    for (vip, scheduler, rest, warned) in [
        ("9.9.9.9:443", "mh", "", true),
        ("9.9.9.9:443", "sh", "", true),
        // The default, written out.
        ("9.9.9.9:443", "sh", public, true),
        ("100.64.0.9:443", "mh", "", true),
        ("[2a00:1450::9]:443", "mh", "", true),
        ("9.9.9.9:443", "dh", "", false),
        ("9.9.9.9:443", "wlc", "", false),
        ("10.1.2.3:443", "mh", "", false),
        ("203.0.113.80:443", "mh", "", false),
        ("[fd00::80]:443", "mh", "", false),
        ("[2001:db8:9::80]:443", "mh", "", false),
    ] {
        let config = Config::parse(&text(vip, scheduler, rest), "f").unwrap();
        assert_eq!(!config.warnings().is_empty(), warned, "{vip} {scheduler}");
    }
}
