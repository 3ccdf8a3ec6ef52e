//! Every operation of the control socket, over a data plane that forwards nothing.
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod control_support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use control_support::{Client, Fixture, TEXT};
use dataplane::control::Rates;
use dataplane::control::plane::ApplyError;
use dataplane::snapshot::learned::{Cause, Effect, News, RealName, Standing};
use dataplane::types::Netmask;
use dataplane::vocabulary::{ForwardMethod, SchedulerKind};
use serde_json::json;

#[test]
fn ping_and_version() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let answer = client.ask(r#"{"v":1,"id":7,"op":"ping"}"#);
    assert_eq!(answer, json!({"id": 7, "ok": {"generation": 1}}));
    let answer = client.ask(r#"{"id":"seven","op":"version"}"#);
    assert_eq!(answer["id"], "seven");
    assert_eq!(answer["ok"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(answer["ok"]["protocol"], 1);
    assert_eq!(answer["ok"]["config"], fixture.file.to_str().unwrap());
}

#[test]
fn what_the_data_plane_learns_is_taken_up_once() {
    let fixture = Fixture::new();
    let rates = Rates::start(Arc::clone(&fixture.controller)).unwrap();
    let before = fixture.plane.last();
    fixture.plane.learned.store(true, Ordering::SeqCst);
    let generation = || fixture.plane.applied.lock().unwrap().len();
    while generation() == 1 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((generation(), fixture.plane.last()), (2, before));
    drop(rates);
    assert_eq!(generation(), 2, "the same configuration, once");
}

#[test]
fn what_is_learned_is_shown_beside_the_configuration_and_saved_nowhere() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.ok(
        r#"{"op":"server.add","protocol":"tcp","address":"192.0.2.100:80","real":"10.8.0.7","forward":"ipip","weight":4}"#,
    );
    let saved = |client: &mut Client| {
        client.ok(r#"{"op":"config.save"}"#);
        let shown = client.ok(r#"{"op":"config.show"}"#);
        (std::fs::read_to_string(&fixture.file).unwrap(), shown["toml"].clone(), fixture.config())
    };
    let before = saved(&mut client);
    let service = fixture.config().services[0].key();
    let says = |real: [u8; 4], standing, weight| News::Real {
        name: RealName { service, real: real.into() },
        cause: Cause::Health,
        effect: Effect { standing, weight },
    };
    let news = [
        says([192, 0, 2, 21], Standing::Removed, None),
        says([10, 8, 0, 7], Standing::Up, Some(1)),
        News::PathMtus([([10, 8, 0, 7].into(), 1400)].into()),
    ];
    let applied = fixture.plane.applied.lock().unwrap().len();
    fixture.controller.learn(&news).unwrap();
    assert_eq!(fixture.plane.applied.lock().unwrap().len(), applied + 1, "as one change");
    let rows = client.ok(r#"{"op":"server.list"}"#);
    let of = |row: usize, key: &str| rows[row][key].clone();
    assert_eq!((of(0, "weight"), of(0, "effective_weight")), (json!(2), json!(0)));
    assert_eq!(of(0, "standing"), "removed");
    assert_eq!((of(1, "weight"), of(1, "effective_weight")), (json!(4), json!(1)));
    assert_eq!((of(1, "standing"), of(1, "path_mtu")), (json!(null), json!(1400)));
    assert_eq!(saved(&mut client), before);
    // An edit of the configured weight is one of that, whatever is learned.
    client.ok(
        r#"{"op":"server.edit","protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.21","weight":5}"#,
    );
    let rows = client.ok(r#"{"op":"server.list"}"#);
    assert_eq!((&rows[0]["weight"], &rows[0]["effective_weight"]), (&json!(5), &json!(0)));
    assert_eq!(fixture.plane.last().services[0].reals[0].weight, 5);
}

#[test]
fn services_are_added_edited_listed_and_removed() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let add =
        r#"{"op":"service.add","protocol":"udp","address":"192.0.2.100:53","scheduler":"mh"}"#;
    assert_eq!(client.ok(add), json!({"generation": 2}));
    assert_eq!(fixture.plane.last().services.len(), 2);
    assert_eq!(client.error(add).0, "exists");

    client.ok(
        r#"{"op":"service.edit","protocol":"udp","address":"192.0.2.100:53","scheduler":"sh"}"#,
    );
    assert_eq!(fixture.plane.last().services[1].scheduler, SchedulerKind::Sh);

    let all = client.ok(r#"{"op":"service.list"}"#);
    assert_eq!(all.as_array().unwrap().len(), 2);
    let tcp = client.ok(r#"{"op":"service.list","protocol":"tcp"}"#);
    let traffic = json!({"connections": 11, "packets": 222, "bytes": 33333, "active": 4, "inactive": 5,
               "rate": {"connections": 0, "packets": 0, "bytes": 0}});
    let mut real =
        json!({"real": "192.0.2.21", "forward": "dr", "weight": 2, "state": "reachable"});
    real.as_object_mut().unwrap().extend(traffic.as_object().unwrap().clone());
    let mut service = json!({"protocol": "tcp", "address": "192.0.2.100:80", "scheduler": "wrr", "reals": [real]});
    service.as_object_mut().unwrap().extend(traffic.as_object().unwrap().clone());
    assert_eq!(tcp, json!([service]));

    client.ok(r#"{"op":"service.del","protocol":"udp","address":"192.0.2.100:53"}"#);
    assert_eq!(fixture.plane.last().services.len(), 1);
    for op in ["del", "edit"] {
        let line = format!(
            r#"{{"op":"service.{op}","protocol":"udp","address":"192.0.2.100:53"{}}}"#,
            if op == "edit" { r#","scheduler":"rr""# } else { "" }
        );
        let (code, message) = client.error(&line);
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("not_found", "no virtual service udp 192.0.2.100:53")
        );
    }
}

#[test]
fn counters_start_at_zero_again_and_the_planes_go_on() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let unknown =
        client.error(r#"{"op":"service.zero","protocol":"udp","address":"192.0.2.100:53"}"#);
    assert_eq!(unknown.0, "not_found");
    client.ok(r#"{"op":"service.zero","protocol":"tcp","address":"192.0.2.100:80"}"#);
    let rows = client.ok(r#"{"op":"service.list"}"#);
    for row in [&rows[0], &rows[0]["reals"][0]] {
        let counts = ["connections", "packets", "bytes", "active", "inactive"];
        assert_eq!(counts.map(|key| row[key].as_u64().unwrap()), [0, 0, 0, 4, 5]);
    }
    client.ok(r#"{"op":"service.clear"}"#);
    assert_eq!(client.ok(r#"{"op":"service.list"}"#), json!([]));
    client.ok(r#"{"op":"service.add","protocol":"tcp","address":"192.0.2.100:80"}"#);
    assert_eq!(client.ok(r#"{"op":"service.list"}"#)[0]["packets"], 222, "configured anew");
    client.ok(r#"{"op":"service.zero"}"#);
    assert_eq!(client.ok(r#"{"op":"service.list"}"#)[0]["packets"], 0);
}

#[test]
fn timeouts_are_shown_and_set_one_by_one() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.ok(r#"{"op":"timeouts.set","tcp_fin":"30s"}"#);
    let timeouts = json!({"tcp": "900s", "tcp_fin": "30s", "udp": "300s"});
    assert_eq!(client.ok(r#"{"op":"timeouts.show"}"#), timeouts);
    assert_eq!(fixture.plane.last().timeouts.tcp_fin, Duration::from_secs(30));
    let (code, message) = client.error(r#"{"op":"timeouts.set","udp":"0s"}"#);
    assert_eq!(code, "invalid");
    assert!(message.starts_with("timeouts.udp: "), "{message}");
}

#[test]
fn real_servers_are_added_edited_listed_and_removed() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let of = r#""protocol":"tcp","address":"192.0.2.100:80","real":"10.8.0.9""#;
    let add =
        format!(r#"{{"op":"server.add",{of},"weight":3,"forward":"gre","gre":{{"key":42}}}}"#);
    assert_eq!(client.ok(&add), json!({"generation": 2}));
    let real = |index: usize| fixture.plane.last().services[0].reals[index].clone();
    assert_eq!(
        (real(1).weight, real(1).method, real(1).gre.key),
        (3, ForwardMethod::Gre, Some(42))
    );
    assert_eq!(client.error(&add).0, "exists");

    client.ok(&format!(r#"{{"op":"server.edit",{of},"weight":0}}"#));
    assert_eq!((real(1).weight, real(1).gre.key), (0, Some(42)), "what is not said stays");
    client.ok(&format!(r#"{{"op":"server.edit",{of},"forward":"ipip"}}"#));
    assert_eq!((real(1).method, real(1).gre.key), (ForwardMethod::Ipip, None));
    let (code, message) = client.error(&format!(r#"{{"op":"server.edit",{of},"forward":"dr"}}"#));
    assert_eq!(code, "invalid");
    assert!(message.contains("is in no port's network"), "{message}");
    assert_eq!(real(1).method, ForwardMethod::Ipip, "a refused change leaves no trace");

    let rows = client.ok(r#"{"op":"server.list","protocol":"tcp","address":"192.0.2.100:80"}"#);
    assert_eq!(rows[1]["real"], "10.8.0.9");
    assert_eq!(rows[1]["address"], "192.0.2.100:80");

    client.ok(&format!(r#"{{"op":"server.del",{of}}}"#));
    assert_eq!(fixture.plane.last().services[0].reals.len(), 1);
    for op in ["del", "edit"] {
        let (code, message) = client.error(&format!(r#"{{"op":"server.{op}",{of}}}"#));
        assert_eq!(code, "not_found");
        assert_eq!(message, "virtual service tcp 192.0.2.100:80 has no real server 10.8.0.9");
    }
}

#[test]
fn a_service_of_several_ports_is_named_by_all_of_them() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let op = |op: &str, address: &str| {
        format!(r#"{{"op":"service.{op}","protocol":"tcp","address":"{address}"}}"#)
    };
    client.ok(&op("add", "192.0.2.100:0"));
    client.ok(&op("add", "192.0.2.100:8000-8999"));
    let (code, message) = client.error(&op("add", "192.0.2.100:8999-9000"));
    assert_eq!(code, "invalid");
    assert_eq!(
        message,
        "service.address: virtual service tcp 192.0.2.100:8999-9000 overlaps virtual service tcp \
         192.0.2.100:8000-8999; ranges of L4 ports must not"
    );
    assert_eq!(client.error(&op("add", "192.0.2.100:8000-8999")).0, "exists");
    let rows = client.ok(&op("list", "192.0.2.100:8000-8999"));
    assert_eq!(
        (rows.as_array().unwrap().len(), &rows[0]["address"]),
        (1, &json!("192.0.2.100:8000-8999"))
    );
    assert_eq!(client.ok(r#"{"op":"service.list"}"#).as_array().unwrap().len(), 3);
    assert_eq!(client.error(&op("del", "192.0.2.100:8000")).0, "not_found");
    client.ok(&op("del", "192.0.2.100:8000-8999"));
    client.ok(&op("del", "192.0.2.100:0"));
    assert_eq!(fixture.plane.last().services.len(), 1);
}

#[test]
fn templates_are_shown_where_there_may_be_some() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let first = |client: &mut Client| client.ok(r#"{"op":"service.list"}"#)[0]["reals"][0].clone();
    assert_eq!(first(&mut client).get("templates"), None);
    let of = r#""protocol":"tcp","address":"192.0.2.100:80""#;
    client.ok(&format!(r#"{{"op":"service.edit",{of},"persistence":"60s"}}"#));
    assert_eq!(first(&mut client)["templates"], 6);
    assert_eq!(client.ok(r#"{"op":"server.list"}"#)[0]["templates"], 6);
}

#[test]
fn options_of_services_are_edited_one_by_one() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let of = r#""protocol":"udp","address":"192.0.2.100:53""#;
    client.ok(&format!(
        r#"{{"op":"service.add",{of},"scheduler":"mh","scheduler_flags":["mh-port"],"one_packet":true,"persistence":"5min"}}"#
    ));
    let listed = |client: &mut Client| {
        let mut row = client.ok(r#"{"op":"service.list","protocol":"udp"}"#)[0].clone();
        let row = row.as_object_mut().unwrap();
        let settings = ["scheduler", "scheduler_flags", "one_packet", "persistence"];
        row.retain(|k, _| settings.contains(&k.as_str()) || k == "persistence_netmask");
        json!(row)
    };
    assert_eq!(
        listed(&mut client),
        json!({"scheduler":"mh","scheduler_flags":["mh-port"],"one_packet":true,"persistence":"300s"})
    );
    let mut edit = |change: &str| {
        client.ok(&format!(r#"{{"op":"service.edit",{of},{change}}}"#));
        listed(&mut client)
    };
    assert_eq!(
        edit(r#""persistence_netmask":"255.255.255.0","one_packet":false"#),
        json!({"scheduler":"mh","scheduler_flags":["mh-port"],"persistence":"300s","persistence_netmask":"255.255.255.0"})
    );
    let sh = json!({"scheduler":"sh"});
    assert_eq!(edit(r#""scheduler":"sh","persistence":"0s""#), sh, "what cannot stay goes");
    assert_eq!(
        edit(r#""scheduler_flags":["sh-fallback"]"#)["scheduler_flags"],
        json!(["sh-fallback"])
    );
    assert_eq!(edit(r#""scheduler_flags":[]"#), sh);

    let error = client.error(&format!(r#"{{"op":"service.edit",{of},"scheduler_flags":["x"]}}"#));
    assert!(error.1.contains("unknown scheduler flag \"x\""), "{}", error.1);
}

#[test]
fn thresholds_of_real_servers_are_edited() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let of = r#""protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.22""#;
    client.ok(&format!(r#"{{"op":"server.add",{of},"upper_threshold":100,"lower_threshold":50}}"#));
    let listed = |client: &mut Client| {
        let row = client.ok(r#"{"op":"server.list"}"#)[1].clone();
        (row["upper_threshold"].clone(), row["lower_threshold"].clone())
    };
    assert_eq!(listed(&mut client), (json!(100), json!(50)));
    let thresholds = fixture.plane.last().services[0].reals[1].thresholds;
    assert_eq!((thresholds.upper, thresholds.lower), (100, 50));
    client.ok(&format!(r#"{{"op":"server.edit",{of},"lower_threshold":0}}"#));
    assert_eq!(listed(&mut client), (json!(100), json!(null)));
    client.ok(&format!(r#"{{"op":"server.edit",{of},"lower_threshold":100}}"#));
    let error = client.error(&format!(r#"{{"op":"server.edit",{of},"upper_threshold":99}}"#));
    assert!(error.1.contains("found 100, allowed are 0 to upper_threshold"), "{}", error.1);
    client.ok(&format!(r#"{{"op":"server.edit",{of},"upper_threshold":0}}"#));
    assert_eq!(listed(&mut client), (json!(null), json!(null)));
}

#[test]
fn what_a_file_may_not_say_the_socket_may_not_say_either() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    for (line, expected) in [
        (
            r#"{"op":"service.add","protocol":"tcp","address":"192.0.2.10:80"}"#,
            "the director's own",
        ),
        (
            r#"{"op":"service.add","protocol":"tcp","address":"[fe80::1]:80"}"#,
            "VIP fe80::1 is a link-local address",
        ),
        (
            r#"{"op":"server.add","protocol":"tcp","address":"192.0.2.100:80","real":"2001:db8::1"}"#,
            "is not of the same family as the VIP",
        ),
        (r#"{"op":"service.add","protocol":"sctp","address":"192.0.2.9:80"}"#, "unknown variant"),
        (
            r#"{"op":"server.add","protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.22","weight":65536}"#,
            "allowed are 0 (drain) to 65535",
        ),
        (
            r#"{"op":"server.add","protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.100"}"#,
            "this is the VIP",
        ),
        (
            r#"{"op":"server.add","protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.22","gre":{"key":1}}"#,
            "gre options need forward = \"gre\"",
        ),
    ] {
        let (code, message) = client.error(line);
        assert_eq!(code, "invalid", "{line}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(fixture.plane.applied.lock().unwrap().len(), 1);
}

#[test]
fn a_change_the_plane_refuses_leaves_everything_as_it_was() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let before = fixture.config();
    let add = r#"{"op":"service.add","protocol":"udp","address":"192.0.2.100:53"}"#;
    for (refusal, code) in [
        (ApplyError::Invalid("no".to_owned()), "invalid"),
        (ApplyError::Full("no room".to_owned()), "too_large"),
    ] {
        *fixture.plane.refuse.lock().unwrap() = Some(refusal);
        assert_eq!(client.error(add).0, code);
        assert_eq!(*fixture.config(), *before);
    }
    *fixture.plane.refuse.lock().unwrap() = None;
    client.ok(add);
}

#[test]
fn ipv6_is_said_and_taken_as_it_is_in_the_file() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let of = r#""protocol":"tcp","address":"[2001:db8::100]:80""#;
    client.ok(&format!(
        r#"{{"op":"service.add",{of},"persistence":"60s","persistence_netmask":"64"}}"#
    ));
    client.ok(&format!(r#"{{"op":"server.add",{of},"real":"10.8.0.9","forward":"ipip"}}"#));
    let spec = fixture.plane.last();
    let service = spec.services.last().unwrap();
    assert_eq!(service.key.to_string(), "tcp [2001:db8::100]:80");
    assert_eq!(service.options.persistence.unwrap().netmask, Netmask::V6(64));
    assert_eq!(service.reals[0].address.to_string(), "10.8.0.9");
    let listed = client.ok(&format!(r#"{{"op":"service.list",{of}}}"#));
    assert_eq!(listed[0]["address"], "[2001:db8::100]:80");
    assert_eq!(listed[0]["persistence_netmask"], "64");
    client.ok(&format!(r#"{{"op":"server.del",{of},"real":"10.8.0.9"}}"#));
    client.ok(&format!(r#"{{"op":"service.del",{of}}}"#));
}

#[test]
fn a_change_that_a_worker_is_late_for_is_the_running_configuration_all_the_same() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let late = ApplyError::Late { generation: 2, who: "worker 1".to_owned(), millis: 5000 };
    *fixture.plane.refuse.lock().unwrap() = Some(late);
    let add = r#"{"op":"service.add","protocol":"udp","address":"192.0.2.100:53"}"#;
    let (code, message) = client.error(add);
    assert_eq!(code, "busy");
    assert!(message.contains("generation 2 is published, but worker 1 has not"), "{message}");
    assert_eq!(fixture.config().services.len(), 2, "as the workers have it");
    *fixture.plane.refuse.lock().unwrap() = None;
    assert_eq!(client.error(add).0, "exists");
}

#[test]
fn flows_are_listed_by_pages_shown_and_flushed() {
    let fixture = Fixture::new();
    fixture.plane.flows.store(10_000, Ordering::SeqCst);
    let mut client = fixture.connect();
    let page = client.ok(r#"{"op":"flow.list"}"#);
    assert_eq!((page["flows"].as_array().unwrap().len(), &page["next"]), (100, &json!(100)));
    let page = client.ok(r#"{"op":"flow.list","cursor":9000,"limit":4096}"#);
    assert_eq!(page["flows"].as_array().unwrap().len(), 1000);
    assert_eq!(page.get("next"), None);
    let page = client.ok(r#"{"op":"flow.list","filter":{"client_port":5},"limit":10}"#);
    assert_eq!(page["flows"][0]["client"], "198.51.100.0:5");
    for limit in [0, 4097] {
        let (code, _) = client.error(&format!(r#"{{"op":"flow.list","limit":{limit}}}"#));
        assert_eq!(code, "invalid");
    }

    let show = |port: u16| {
        format!(
            r#"{{"op":"flow.show","protocol":"tcp","client":"198.51.100.0:{port}","vip":"192.0.2.100:80"}}"#
        )
    };
    assert_eq!(client.ok(&show(9999))["real"], "192.0.2.21", "found on a later page");
    assert_eq!(client.error(&show(10_001)).0, "not_found");

    let flushed = client.ok(r#"{"op":"flow.flush","filter":{"real":"192.0.2.21"}}"#);
    assert_eq!(flushed, json!({"flows": 10_000}));
    assert_eq!(client.error(r#"{"op":"flow.flush"}"#).0, "invalid", "no filter is a mistake");
}

#[test]
fn what_the_plane_reports_is_passed_on() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    assert_eq!(client.ok(r#"{"op":"neighbor.list"}"#)[0]["state"], "reachable");
    assert_eq!(client.ok(r#"{"op":"port.list"}"#)[0]["rx_missed"], 1);
    let stats = client.ok(r#"{"op":"stats"}"#);
    assert_eq!(stats["total"]["dropped"]["no_service"], 3);
    assert_eq!(stats["workers"][0]["events"]["forwarded"], 7);
}

#[test]
fn a_configuration_is_shown_checked_compared_and_applied() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let shown = client.ok(r#"{"op":"config.show"}"#);
    assert!(shown["toml"].as_str().unwrap().contains("address = \"192.0.2.100:80\""));
    assert_eq!(shown["config"]["service"][0]["real"][0]["weight"], 2);

    let text = TEXT.replace("weight = 2", "weight = 5");
    let with_text =
        |op: &str, text: &str| json!({"op": op, "text": text, "name": "new.toml"}).to_string();
    let checked = client.ok(&with_text("config.check", &text));
    assert_eq!(checked, json!({"services": 1, "real_servers": 1}));
    let changes = json!([{
        "action": "change",
        "subject": "real server 192.0.2.21 of tcp 192.0.2.100:80",
        "detail": "weight 2 -> 5",
    }]);
    assert_eq!(client.ok(&with_text("config.diff", &text)), changes);
    assert_eq!(fixture.plane.last().services[0].reals[0].weight, 2, "looking changes nothing");
    let applied = client.ok(&with_text("config.apply", &text));
    assert_eq!(applied, json!({"generation": 2, "changes": changes}));
    assert_eq!(fixture.plane.last().services[0].reals[0].weight, 5);

    // The file still has weight 2; without text, it is what is applied.
    assert_eq!(client.ok(r#"{"op":"config.apply"}"#)["generation"], 3);
    assert_eq!(fixture.plane.last().services[0].reals[0].weight, 2);
    assert_eq!(client.ok(r#"{"op":"config.apply"}"#), json!({"generation": 3, "changes": []}));

    let (code, message) = client.error(&with_text("config.check", &TEXT.replace("wrr", "xrr")));
    assert_eq!(code, "invalid");
    assert!(
        message.starts_with("new.toml:11:13: service.scheduler: unknown value `xrr`"),
        "{message}"
    );
}

#[test]
fn what_needs_a_restart_is_refused_by_name() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let text = TEXT.replace("gateway", "mtu = 9000\ngateway").replace("weight = 2", "weight = 3")
        + "[dataplane]\nworkers = [1, 2]\n";
    let (code, message) = client.error(&json!({"op": "config.apply", "text": text}).to_string());
    assert_eq!(code, "needs_restart");
    assert_eq!(
        message,
        "nothing was applied, for these changes need a restart of shuntd:\n  \
         ~ dataplane.workers: [1] -> [1, 2] (needs a restart)\n  \
         ~ port lan: mtu 1500 -> 9000 (needs a restart)"
    );
    assert_eq!(fixture.plane.last().services[0].reals[0].weight, 2);
}

#[test]
fn saving_writes_what_runs_and_keeps_what_was_written_by_hand() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let backup = fixture.directory.path().join("shunt.toml.bak");
    let add = r#"{"op":"service.add","protocol":"udp","address":"192.0.2.100:53"}"#;
    client.ok(add);
    let saved = client.ok(r#"{"op":"config.save"}"#);
    assert_eq!(saved["backup"], backup.to_str().unwrap());
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), TEXT);
    assert_eq!(dataplane::config::load(&fixture.file).unwrap(), *fixture.config());
    client.ok(r#"{"op":"service.del","protocol":"udp","address":"192.0.2.100:53"}"#);
    assert_eq!(client.ok(r#"{"op":"config.save"}"#).get("backup"), None);
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), TEXT, "still the one with comments");
    let left: Vec<_> = std::fs::read_dir(fixture.directory.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "no temporary file stays: {left:?}");
}

#[test]
fn reload_applies_the_file_or_leaves_everything_as_it_was() {
    let fixture = Fixture::new();
    std::fs::write(&fixture.file, TEXT.replace("weight = 2", "weight = 9")).unwrap();
    let applied = fixture.controller.reload().unwrap();
    assert_eq!((applied.generation, applied.changes.len()), (2, 1));
    std::fs::write(&fixture.file, "port = 1").unwrap();
    assert!(fixture.controller.reload().is_err());
    std::fs::remove_file(&fixture.file).unwrap();
    assert!(fixture.controller.reload().unwrap_err().message.starts_with("cannot read "));
    assert_eq!(fixture.config().services[0].reals[0].weight, 9);
}

#[test]
fn concurrent_changes_are_done_one_after_the_other_and_all_last() {
    let fixture = Fixture::new();
    *fixture.plane.apply_time.lock().unwrap() = Duration::from_millis(2);
    std::thread::scope(|scope| {
        for client in 0..8u8 {
            let mut connection = fixture.connect();
            scope.spawn(move || {
                for server in 0..8 {
                    let rip = 100 + client * 8 + server;
                    connection.ok(&format!(
                        r#"{{"op":"server.add","protocol":"tcp","address":"192.0.2.100:80","real":"192.0.2.{}"}}"#,
                        if rip == 100 { 99 } else { rip }
                    ));
                }
            });
        }
    });
    assert_eq!(fixture.config().services[0].reals.len(), 65);
    assert_eq!(
        fixture.plane.last(),
        fixture.config().spec(&[(dataplane::types::Mac([2, 0, 0, 0, 0, 1]), 1500)])
    );
}

#[test]
fn reading_does_not_wait_for_a_change_in_progress() {
    let fixture = Fixture::new();
    *fixture.plane.apply_time.lock().unwrap() = Duration::from_secs(2);
    let (mut changing, mut reading) = (fixture.connect(), fixture.connect());
    changing.send(br#"{"op":"service.add","protocol":"udp","address":"192.0.2.100:53"}"#);
    while !fixture.plane.applying.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let start = Instant::now();
    assert_eq!(reading.ok(r#"{"op":"service.list"}"#).as_array().unwrap().len(), 1);
    reading.ok(r#"{"op":"config.show"}"#);
    reading.ok(r#"{"op":"stats"}"#);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(changing.answer().unwrap()["ok"]["generation"], 2);
}
