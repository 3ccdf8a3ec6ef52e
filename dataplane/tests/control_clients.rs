//! Clients that misbehave: slow, silent, endless, senseless, too many, or not allowed.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod control_support;

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use control_support::{Client, Fixture};
use dataplane::control::{Server, ServerError};
use proptest::prelude::*;

const PING: &str = r#"{"id":1,"op":"ping"}"#;

#[test]
fn garbage_is_answered_and_the_connection_goes_on() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let deep_array = "[".repeat(100_000);
    let deep_object = r#"{"a":"#.repeat(100_000);
    let deep_id = format!(r#"{{"op":"ping","id":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    let long_id = format!(r#"{{"op":"ping","id":"{}"}}"#, "x".repeat(1000));
    let lines: [&[u8]; 14] = [
        b"hello",
        b"{",
        b"null",
        b"[]",
        b"\"op\"",
        b"\xff\xfe\x00",
        b"{\"op\":\"ping\",\"id\":\"\xff\"}",
        br#"{"op":1}"#,
        br#"{"op":"ping","id":{}}"#,
        br#"{"op":"flow.list","limit":-1}"#,
        deep_array.as_bytes(),
        deep_object.as_bytes(),
        deep_id.as_bytes(),
        long_id.as_bytes(),
    ];
    for line in lines {
        client.send(line);
        let answer = client.answer().unwrap();
        assert_eq!(answer["error"]["code"], "invalid", "{}", String::from_utf8_lossy(line));
        assert!(answer["id"].is_null());
    }
    client.send(b"\n  \n\r");
    assert_eq!(client.ask(PING)["id"], 1, "empty lines are nothing");
}

#[test]
fn several_requests_may_come_in_one_piece_and_the_last_without_end() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client
        .0
        .get_mut()
        .write_all(
            br#"{"id":1,"op":"ping"}
{"id":2,"op":"stats"}
{"id":3,"op":"ping"}"#,
        )
        .unwrap();
    client.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    for id in 1..=3 {
        assert_eq!(client.answer().unwrap()["id"], id);
    }
    assert!(client.answer().is_none());
}

#[test]
fn a_line_of_ten_megabytes_is_refused_and_the_connection_closed() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send(&vec![b'x'; 10 << 20]);
    assert_eq!(client.answer().unwrap()["error"]["code"], "too_large");
    assert!(client.answer().is_none());
    // A whole configuration of some megabytes is taken.
    let comment = "# ten bytes\\n".repeat(300_000);
    let mut client = fixture.connect();
    let (code, message) = client.error(&format!(r#"{{"op":"config.check","text":"{comment}"}}"#));
    assert!(code == "invalid" && message.contains("found no [[port]]"), "{message}");
}

#[test]
fn half_open_connections_do_not_shut_others_out_for_long() {
    let fixture = Fixture::with(|settings| {
        settings.idle = Duration::from_secs(3);
        settings.line = Duration::from_secs(2);
    });
    let half_open: Vec<_> = (0..100)
        .map(|i| {
            let mut stream = UnixStream::connect(&fixture.settings.socket).unwrap();
            if i % 2 == 0 {
                let _ = stream.write_all(br#"{"op":"#);
            }
            stream
        })
        .collect();
    // The last of them are told so at once.
    let mut last = Client::new(half_open.last().unwrap().try_clone().unwrap());
    let refusal = last.answer().unwrap();
    assert_eq!(refusal["error"]["code"], "busy");
    assert_eq!(refusal["error"]["message"], "64 connections are open already; try again");
    assert!(last.answer().is_none());

    let start = Instant::now();
    while fixture.connect().ask(PING).get("ok").is_none() {
        assert!(start.elapsed() < Duration::from_secs(10), "they hold their places");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut slow = Client::new(half_open[0].try_clone().unwrap());
    let answer = slow.answer().unwrap();
    assert_eq!(answer["error"]["message"], "the line was not finished within 2 s");
    assert!(slow.answer().is_none());
    let mut silent = Client::new(half_open[1].try_clone().unwrap());
    assert!(silent.answer().is_none());
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let fixture = Fixture::with(|settings| {
        settings.answer = Duration::from_millis(300);
        settings.connections = 1;
    });
    fixture.plane.flows.store(100_000, Ordering::SeqCst);
    let mut deaf = fixture.connect();
    let many = r#"{"op":"flow.list","limit":4096}"#;
    let start = Instant::now();
    for _ in 0..20 {
        // Ends in a broken pipe once the server has given up.
        if deaf.0.get_mut().write_all(format!("{many}\n").as_bytes()).is_err() {
            break;
        }
    }
    loop {
        assert!(start.elapsed() < Duration::from_secs(10), "the only connection stays taken");
        if fixture.connect().ask(PING).get("ok").is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() >= Duration::from_millis(100), "it was given no time");
}

#[test]
fn the_socket_is_for_owner_and_group_and_gone_after_shutdown() {
    let mut fixture = Fixture::new();
    let socket = fixture.settings.socket.clone();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&socket) & 0o777, 0o660);
    assert_eq!(mode(socket.parent().unwrap()) & 0o777, 0o755);

    let mut open = fixture.connect();
    open.ok(PING);
    let start = Instant::now();
    fixture.server.take().unwrap().shutdown();
    assert!(start.elapsed() < Duration::from_secs(5), "an idle connection holds nothing up");
    assert!(open.answer().is_none());
    assert!(!socket.exists());
}

#[test]
fn shutdown_waits_for_a_change_in_progress() {
    let mut fixture = Fixture::new();
    *fixture.plane.apply_time.lock().unwrap() = Duration::from_millis(500);
    let mut client = fixture.connect();
    client.send(br#"{"op":"service.add","protocol":"udp","address":"192.0.2.100:53"}"#);
    while !fixture.plane.applying.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    fixture.server.take().unwrap().shutdown();
    assert_eq!(fixture.config().services.len(), 2);
    assert_eq!(fixture.plane.last().services.len(), 2);
}

#[test]
fn the_socket_of_a_dead_daemon_is_replaced_and_that_of_a_live_one_is_not() {
    let mut fixture = Fixture::new();
    let start = || Server::start(Arc::clone(&fixture.controller), fixture.settings.clone());
    assert!(matches!(start(), Err(ServerError::InUse { .. })));
    fixture.connect().ok(PING);

    drop(fixture.server.take());
    drop(UnixListener::bind(&fixture.settings.socket).unwrap());
    assert!(std::fs::metadata(&fixture.settings.socket).unwrap().file_type().is_socket());
    let server = Server::start(Arc::clone(&fixture.controller), fixture.settings.clone()).unwrap();
    fixture.connect().ok(PING);

    // Its path has been given to something else meanwhile: shutdown leaves that alone.
    std::fs::remove_file(&fixture.settings.socket).unwrap();
    std::fs::write(&fixture.settings.socket, "mine").unwrap();
    server.shutdown();
    assert_eq!(std::fs::read(&fixture.settings.socket).unwrap(), b"mine");
    let refused = Server::start(Arc::clone(&fixture.controller), fixture.settings.clone());
    assert!(matches!(refused, Err(ServerError::NotASocket(_))));
}

#[test]
fn a_group_that_does_not_exist_is_an_error_before_anything_is_bound() {
    let fixture = Fixture::new();
    let mut settings = fixture.settings.clone();
    settings.socket = fixture.directory.path().join("other.sock");
    settings.group = Some("no-such-group-here".to_owned());
    let error = Server::start(Arc::clone(&fixture.controller), settings.clone()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("group \"no-such-group-here\" does not exist"), "{text}");
    assert!(!settings.socket.exists());
}

#[test]
fn the_socket_belongs_to_the_configured_group() {
    let Ok(Some(own)) = nix::unistd::Group::from_gid(nix::unistd::getegid()) else {
        panic!("the group that runs the tests has no name");
    };
    let fixture = Fixture::with(|settings| settings.group = Some(own.name.clone()));
    let owner =
        std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&fixture.settings.socket).unwrap());
    assert_eq!(owner, own.gid.as_raw());
    fixture.connect().ok(PING);
}

#[test]
fn many_clients_at_once_all_get_their_own_answers() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for number in 0..32 {
            let mut client = fixture.connect();
            scope.spawn(move || {
                for i in 0..50 {
                    let id = number * 1000 + i;
                    let answer = client.ask(&format!(r#"{{"id":{id},"op":"service.list"}}"#));
                    assert_eq!(answer["id"], id);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes come, each line that is not blank has one answer, and the daemon lives.
    #[test]
    fn any_bytes_are_answered_line_by_line(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
    ) {
        let fixture = Fixture::new();
        let mut client = fixture.connect();
        let mut expected = 0;
        for line in &lines {
            let line: Vec<u8> = line.iter().copied().filter(|b| *b != b'\n').collect();
            expected += usize::from(!line.trim_ascii().is_empty());
            client.send(&line);
        }
        client.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = String::new();
        client.0.read_to_string(&mut answers).unwrap();
        prop_assert_eq!(answers.lines().count(), expected);
        for answer in answers.lines() {
            let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
            prop_assert!(answer["error"]["code"].is_string());
        }
    }

    /// Requests that are nearly right neither panic nor change anything they should not.
    #[test]
    fn any_arguments_are_answered(
        op in prop::sample::select(dataplane::control::protocol::Request::OPS),
        key in "(protocol|address|real|weight|filter|text|limit|cursor|gre|forward)",
        value in "(null|true|-1|1e99|\"\"|\"tcp\"|\"192[.]0[.]2[.]100:80\"|\\[\\]|\\{\\}|18446744073709551616)",
    ) {
        let fixture = Fixture::new();
        let answer = fixture.connect().ask(&format!(r#"{{"id":5,"op":"{op}","{key}":{value}}}"#));
        prop_assert_eq!(&answer["id"], 5);
        prop_assert!(answer.get("ok").is_some() != answer.get("error").is_some());
        prop_assert_eq!(fixture.config().services.len(), 1);
    }
}
