//! Configuration files that are none, and input that is too long or not to be shown as it is.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod control_support;

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use control_support::{Fixture, TEXT};
use nix::sys::stat::Mode;
use serde_json::json;

const LONG: Duration = Duration::from_secs(60);

/// Puts a named pipe that nobody writes to in a file's place.
fn into_pipe(file: &Path) {
    std::fs::remove_file(file).unwrap();
    nix::unistd::mkfifo(file, Mode::S_IRWXU).unwrap();
}

#[test]
fn a_named_pipe_in_the_place_of_the_file_holds_nobody_up() {
    let fixture = Fixture::new();
    into_pipe(&fixture.file);
    let (sender, done) = channel();
    let controller = std::sync::Arc::clone(&fixture.controller);
    std::thread::spawn(move || sender.send(controller.reload()).unwrap());
    let error = done.recv_timeout(LONG).expect("a reload that waits for a writer").unwrap_err();
    assert!(error.message.ends_with("it is a named pipe, expected a regular file"), "{error}");
    let mut client = fixture.connect();
    for op in ["apply", "check", "diff", "save"] {
        let (code, message) = client.error(&json!({"op": format!("config.{op}")}).to_string());
        assert_eq!(code, "invalid", "{op}");
        assert!(message.contains("a named pipe"), "{op}: {message}");
    }
    assert!(!std::fs::metadata(&fixture.file).unwrap().is_file(), "it is left where it was");
    // All other changes go on.
    client.ok(r#"{"op":"service.add","protocol":"udp","address":"192.0.2.100:53"}"#);
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let fixture = Fixture::new();
    std::fs::File::create(&fixture.file).unwrap().set_len(65 << 20).unwrap();
    let (code, message) = fixture.connect().error(r#"{"op":"config.apply"}"#);
    assert_eq!(code, "too_large");
    assert!(message.ends_with("it is longer than the 64 MiB allowed"), "{message}");
}

#[test]
fn who_waits_for_the_file_is_let_go_when_the_daemon_stops() {
    let fixture = Fixture::new();
    fixture.controller.stop();
    let error = fixture.controller.reload().unwrap_err();
    assert!(error.message.contains("shuntd is stopping"), "{error}");
}

#[test]
fn the_name_of_a_text_is_short_and_on_one_line() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let wrong = TEXT.replace("wrr", "xrr");
    for (name, length) in [("n".repeat(5_000_000), 5_000_000), ("a\nb".to_owned(), 3)] {
        for op in ["config.check", "config.diff", "config.apply"] {
            let request = json!({"op": op, "text": wrong, "name": name}).to_string();
            let (code, message) = client.error(&request);
            assert_eq!(code, "invalid");
            let expected =
                format!("name: found {length} bytes, allowed are 255, without control characters");
            assert_eq!(message, expected);
        }
    }
}

/// Each mistake quotes what it found.
#[test]
fn what_a_text_holds_is_cut_short_in_errors_and_has_no_lines_of_its_own() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let long = "x".repeat(1_000_000);
    let texts = [
        TEXT.replace("\"lan\"", &format!("\"{long}\"")),
        TEXT.replace("veth0", &long),
        TEXT.replace("wrr", &long),
        TEXT.replace("weight", &long),
        TEXT.replace("[[service]]", &format!("[[{long}]]")),
        TEXT.replace("\"192.0.2.1\"", &format!("\"{long}\"")),
        TEXT.replace("\"lan\"", "\"lan\\nshuntd: all is well\""),
        TEXT.replace("wrr", "wrr\\nshuntd: all is well\\u001b[2J"),
        TEXT.replace("veth0", "veth0\\nshuntd: all is well"),
        format!("{TEXT}[control]\ngroup = \"{long}\"\n"),
        format!("{TEXT}[control]\ngroup = \"a\\nb\"\n"),
        format!("{TEXT}[control]\nsocket = \"/run/a\\nb\"\n"),
        format!("{TEXT}[dataplane]\neal = [\"{long}\"]\n"),
        format!("{TEXT}[dataplane]\neal = [\"--a\\nb\"]\n"),
    ];
    for text in texts {
        let (code, message) =
            client.error(&json!({"op": "config.check", "text": text}).to_string());
        assert_eq!(code, "invalid", "{}", &text[..text.len().min(300)]);
        let start = &message[..message.len().min(300)];
        assert!(message.lines().all(|line| line.starts_with("request:")), "{start}");
        assert!(!message.contains('\u{1b}') && message.len() < 5000, "{start}");
    }
}

#[test]
fn thousands_of_long_mistakes_make_a_short_answer() {
    let fixture = Fixture::new();
    let name = "y".repeat(500_000);
    let addresses = "\"192.0.2.10/24\",".repeat(100_000);
    let texts = [
        TEXT.replace("\"lan\"", &format!("\"{name}\"")).replace("\"192.0.2.10/24\"", &addresses),
        (0..100_000).map(|n| format!("unknown{n} = 1\n")).collect(),
        (0..20_000).map(|_| "[[service]]\nx = 1\n").collect(),
    ];
    for text in texts {
        let request = json!({"op": "config.check", "text": text}).to_string();
        let (_, message) = fixture.connect().error(&request);
        assert!(message.lines().count() <= 100 && message.len() < 200_000, "{}", message.len());
    }
}

#[test]
fn what_a_line_holds_is_cut_short_in_its_answer() {
    let fixture = Fixture::new();
    let long = "z".repeat(2_000_000);
    for request in [
        json!({"op": long}),
        json!({"op": "ping", "v": long}),
        json!({"op": "ping", long.as_str(): 1}),
        json!({"op": "service.del", "protocol": long, "address": "192.0.2.1:80"}),
        json!({"op": "service.del", "protocol": "tcp", "address": long}),
        json!({"op": "service.del", "protocol": "tcp", "address": "a\nb\u{1b}[2J"}),
    ] {
        let (_, message) = fixture.connect().error(&request.to_string());
        assert!(message.len() < 3000, "{} bytes", message.len());
        assert!(!message.contains(char::is_control), "{message}");
    }
}
