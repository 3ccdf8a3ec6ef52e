//! Fragments, of clients and of our own making, through all three forwarding methods.

use pktgen_tests::{Config, Director, Lab, RS1, RS2, RS3, RS4, Reals, can_run};

#[test]
fn udp_and_its_fragments_reach_the_real_server() {
    if !can_run() {
        return;
    }
    let lab = Lab::up(Reals::All, 1);
    let config = Config::on_tap(&lab)
        .service("udp", "192.0.2.100:53", "rr", &[(RS1, 1, "dr"), (RS2, 1, "dr")])
        .service("udp", "192.0.2.101:53", "rr", &[(RS3, 1, "ipip")])
        .service("udp", "192.0.2.102:53", "rr", &[(RS4, 1, "gre")]);
    let director = Director::start(&lab, &config);
    // The device is plugged into the network after it is made; what was asked before is lost.
    director.wait_for("every neighbor", || {
        let rows = director.json(&["neighbor", "list"]);
        let rows = rows.as_array().cloned().unwrap_or_default();
        !rows.is_empty()
            && rows.iter().all(|row| row["state"] == "reachable" || row["state"] == "stale")
    });
    let ask = r"
import socket, sys
vip, size = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
# Linux sends unconnected UDP with DF; this asks for fragments instead.
s.setsockopt(socket.IPPROTO_IP, 10, 0)
s.connect((vip, 53))
for _ in range(20):
    # A guest on a busy machine may lose a datagram; whether the director did, its counters tell.
    for _ in range(5):
        s.send(b'x' * size)
        try:
            print(s.recv(100).decode().strip())
            break
        except TimeoutError:
            print(f'{vip} {size}: no answer within 2 s', file=sys.stderr)
";
    for (vip, servers) in [
        ("192.0.2.100", vec!["rs1", "rs2"]),
        ("192.0.2.101", vec!["rs3"]),
        ("192.0.2.102", vec!["rs4"]),
    ] {
        for size in ["100", "1472", "4000"] {
            let answers = lab.python("client", ask, &[vip, size]).ok();
            let answers: Vec<_> = answers.lines().collect();
            assert_eq!(answers.len(), 20, "{vip} {size}");
            assert!(servers.contains(&answers[0]), "{vip} {size}: {answers:?}");
            assert!(
                answers.iter().all(|a| *a == answers[0]),
                "one flow, one real server: {answers:?}"
            );
        }
    }
    director.assert_balanced();
    let stats = director.stats();
    for reason in
        ["no_service", "no_real_server", "neighbor_unresolved", "tx_full", "fragment_unknown"]
    {
        assert_eq!(stats["total"]["dropped"][reason], 0, "{reason}: {stats}");
    }
    // 1472 bytes of UDP are 1500 of IP: with an outer header they are cut.
    assert!(stats["total"]["events"]["fragments_sent"].as_u64() > Some(0), "{stats}");
}
