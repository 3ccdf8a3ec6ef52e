//! Many operations of the control socket as one change.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod control_support;

use control_support::Fixture;

#[test]
fn a_batch_is_one_change_or_none() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let applied = || fixture.plane.applied.lock().unwrap().len();
    let before = (applied(), fixture.config());
    let add = |n: u32| {
        format!(
            r#"{{"op":"server.add","protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.{n}"}}"#
        )
    };
    let ops: Vec<_> = (30..100).map(add).chain([
        r#"{"op":"service.add","protocol":"udp","address":"[2001:db8::1]:53","scheduler":"rr"}"#.into(),
        r#"{"op":"server.add","protocol":"udp","address":"[2001:db8::1]:53","real":"10.8.0.1","forward":"gre"}"#.into(),
        r#"{"op":"server.del","protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.21"}"#.into(),
        r#"{"op":"timeouts.set","udp":"30s"}"#.into(),
    ]).collect();
    let ok = client.ok(&format!(r#"{{"op":"batch","ops":[{}]}}"#, ops.join(",")));
    assert_eq!(ok["done"], 74);
    assert_eq!(applied(), before.0 + 1, "published once");
    let config = fixture.config();
    assert_eq!(config.services[0].reals.len(), 70);
    assert_eq!(config.services[1].reals.len(), 1);
    assert_eq!(config.timeouts.udp.as_secs(), 30);
    config.validate().unwrap();

    // One that is refused is the end of all, and says which it is.
    for (op, code, why) in [
        (add(30), "exists", "virtual service tcp 192.0.2.100:80 has real server 192.0.2.30"),
        (add(30).replace("100:80", "100:81"), "not_found", "no virtual service tcp 192.0.2.100:81"),
        (add(10), "invalid", "is the director's own address"),
        (r#"{"op":"timeouts.set","tcp":"0s"}"#.into(), "invalid", "timeouts.tcp: found"),
        (r#"{"op":"batch","ops":[]}"#.into(), "invalid", "batch cannot be part of a batch"),
        (r#"{"op":"flow.flush","filter":{}}"#.into(), "invalid", "flow.flush cannot be part of"),
    ] {
        let (found, message) =
            client.error(&format!(r#"{{"op":"batch","ops":[{},{op},{}]}}"#, add(200), add(201)));
        assert_eq!(found, code, "{message}");
        assert!(message.starts_with("nothing was changed, for operation 1 ("), "{message}");
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(*fixture.config(), *config);
    assert_eq!(applied(), before.0 + 1);
    // What cannot be read is refused as a whole too.
    let (code, message) = client.error(r#"{"op":"batch","ops":[{"op":"pong"}]}"#);
    assert!(code == "invalid" && message.starts_with("batch: "), "{message}");
}

#[test]
fn a_partial_batch_leaves_out_what_is_refused() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let server = |op: &str, real: &str, rest: &str| {
        format!(
            r#"{{"op":"server.{op}","protocol":"tcp","address":"192.0.2.100:80","real":"{real}"{rest}}}"#
        )
    };
    let ops = [
        server("add", "192.0.2.21", ""),
        server("add", "192.0.2.22", ""),
        server("add", "10.9.9.9", ""),
        server("edit", "192.0.2.22", r#","weight":70000"#),
        server("edit", "192.0.2.22", r#","weight":7"#),
        server("del", "192.0.2.99", ""),
        r#"{"op":"service.add","protocol":"tcp","address":"192.0.2.22:80"}"#.into(),
        r#"{"op":"service.add","protocol":"tcp","address":"192.0.2.100:90-99","scheduler":"rr","persistence":"60s"}"#.into(),
        r#"{"op":"service.add","protocol":"tcp","address":"192.0.2.100:95-120","scheduler":"rr","persistence":"60s"}"#.into(),
        r#"{"op":"service.edit","protocol":"tcp","address":"192.0.2.100:80","scheduler_flags":["mh-port"]}"#.into(),
        r#"{"op":"timeouts.set","tcp":"0s"}"#.into(),
    ];
    let batch = format!(r#"{{"op":"batch","partial":true,"ops":[{}]}}"#, ops.join(","));
    let ok = client.ok(&batch);
    assert_eq!((&ok["done"], &ok["generation"]), (&3.into(), &2.into()));
    let errors = ok["errors"].as_array().unwrap();
    let told: Vec<_> = errors.iter().map(|e| (e["op"].as_u64().unwrap(), &e["code"])).collect();
    let codes = [
        (0, "exists"),
        (2, "invalid"),
        (3, "invalid"),
        (5, "not_found"),
        (6, "invalid"),
        (8, "invalid"),
        (9, "invalid"),
        (10, "invalid"),
    ];
    assert_eq!(told.len(), codes.len(), "{errors:?}");
    for ((op, code), (wanted, named)) in told.iter().zip(codes) {
        assert_eq!((*op, code.as_str()), (wanted, Some(named)), "{errors:?}");
    }
    // Each is told what it would have been told alone.
    for error in errors {
        let op = &ops[error["op"].as_u64().unwrap() as usize];
        assert_eq!(client.error(op).1, error["message"].as_str().unwrap(), "{op}");
    }
    let config = fixture.config();
    let reals: Vec<_> =
        config.services[0].reals.iter().map(|r| (r.address.to_string(), r.weight)).collect();
    assert_eq!(reals, [("192.0.2.21".to_owned(), 2), ("192.0.2.22".to_owned(), 7)]);
    assert_eq!(config.services.len(), 2);
    config.validate().unwrap();
}
