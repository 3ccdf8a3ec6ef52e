//! `docs/control-api.md` against the operations there are: each is in it, and each example is true.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod control_support;

use std::sync::atomic::Ordering;

use control_support::Fixture;
use dataplane::control::protocol::Request;

#[test]
fn the_reference_has_every_operation_and_error_code() {
    let reference =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/control-api.md"))
            .unwrap();
    for op in Request::OPS {
        assert!(reference.contains(&format!("\n### {op}\n")), "docs/control-api.md lacks {op}");
    }
    for code in dataplane::control::protocol::ErrorCode::ALL {
        let name = serde_json::to_value(code).unwrap();
        let row = format!("| `{}` |", name.as_str().unwrap());
        assert!(reference.contains(&row), "docs/control-api.md lacks {row}");
    }
}

/// Runs the reference's requests, in its order, and compares the shape of the answers.
#[test]
fn the_examples_of_the_reference_are_true() {
    let reference =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/control-api.md"))
            .unwrap();
    let fixture = Fixture::new();
    fixture.plane.flows.store(300, Ordering::SeqCst);
    let mut client = fixture.connect();
    let mut examples = 0;
    let mut lines =
        reference.lines().filter(|line| line.starts_with("> ") || line.starts_with("< "));
    while let Some(request) = lines.next() {
        let request = request.strip_prefix("> ").expect("a request before each answer");
        let expected: serde_json::Value = serde_json::from_str(&lines.next().unwrap()[2..])
            .unwrap_or_else(|e| panic!("{request}: {e}"));
        let found = client.ask(request);
        assert_eq!(keys(&found), keys(&expected), "{request}\n{found}");
        assert_eq!(found["id"], expected["id"], "{request}");
        if let Some(code) = expected["error"]["code"].as_str() {
            assert_eq!(found["error"]["code"], code, "{request}");
        }
        examples += 1;
    }
    assert!(examples >= Request::OPS.len(), "{examples}");
}

/// The keys an answer has, but for those under names of counters.
fn keys(value: &serde_json::Value) -> Vec<String> {
    let mut all = Vec::new();
    collect(value, "", &mut all);
    all.sort();
    all.dedup();
    all
}

fn collect(value: &serde_json::Value, prefix: &str, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                let path = format!("{prefix}.{key}");
                if !["events", "dropped", "config"].contains(&key.as_str()) {
                    collect(value, &path, into);
                }
                into.push(path);
            }
        }
        serde_json::Value::Array(array) => array.iter().for_each(|v| collect(v, prefix, into)),
        _ => {}
    }
}
