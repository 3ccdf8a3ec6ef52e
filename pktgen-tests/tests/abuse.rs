//! Bad input from the wire, the socket and the file: a clear error or a counted drop, and traffic
//! goes on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pktgen_tests::{Config, Director, Lab, RS1, RS2, Reals, can_run};

fn lab() -> Option<MutexGuard<'static, Lab>> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    can_run().then(|| {
        let lab = LAB.get_or_init(|| Mutex::new(Lab::up(Reals::Dr, 1)));
        lab.lock().unwrap_or_else(PoisonError::into_inner)
    })
}

fn config() -> Config {
    let both = [(RS1, 1, "dr"), (RS2, 1, "dr")];
    Config::new().service("tcp", "192.0.2.100:80", "wlc", &both)
}

#[track_caller]
fn assert_serves(lab: &Lab) {
    let served = lab.fetch("http://192.0.2.100/", 50);
    assert!(served.iter().all(|s| s.starts_with("rs")), "{served:?}");
}

#[test]
fn ten_thousand_random_and_truncated_frames() {
    if !can_run() {
        return;
    }
    // A TAP device gets fragments as they are; a packet socket only what the kernel makes of them.
    let lab = Lab::up(Reals::Dr, 1);
    let both = [(RS1, 1, "dr"), (RS2, 1, "dr")];
    let config = Config::on_tap(&lab).service("tcp", "192.0.2.100:80", "wlc", &both);
    let director = Director::start(&lab, &config);
    director.wait_for("both next hops", || {
        let rows = director.json(&["neighbor", "list"]);
        rows.as_array().is_some_and(|rows| rows.iter().all(|r| r["state"] == "reachable"))
    });
    let before = director.stats()["total"]["events"]["rx_packets"].as_u64().expect("a count");
    let send = r"
import random, socket, time
random.seed(1)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('lan', 0))
director, router = bytes.fromhex('0200c000020a'), bytes.fromhex('0200c0000201')
def valid():
    import struct
    payload = struct.pack('!HHIIBBHHH', random.randrange(65536), random.choice([80, 81, 53]),
        random.randrange(2**32), 0, 0x50, random.randrange(64), 1024, 0, 0) + b'x' * random.randrange(64)
    proto = random.choice([1, 4, 6, 6, 6, 17, 47, 58, 132])
    head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(payload), random.randrange(65536),
        random.choice([0, 0, 0x4000, 0x2000, 0x2001, 5]), random.choice([0, 1, 64]), proto, 0,
        bytes([198, 51, 100, random.randrange(256)]), bytes([192, 0, 2, random.choice([100, 10, 101, 255])]))
    total = sum(struct.unpack('!10H', head)); total = (total >> 16) + (total & 0xffff); total += total >> 16
    head = head[:10] + struct.pack('!H', ~total & 0xffff) + head[12:]
    return director + router + b'\x08\x00' + head + payload
for i in range(10000):
    kind = i % 5
    if kind == 0:
        frame = random.randbytes(random.randrange(14, 1514))
    elif kind == 1:
        frame = director + router + random.choice([b'\x08\x00', b'\x08\x06', b'\x86\xdd', b'\x81\x00']) + random.randbytes(random.randrange(0, 1500))
    elif kind == 2:
        frame = valid()
    elif kind == 3:
        frame = valid(); frame = frame[:random.randrange(14, len(frame))]
    else:
        frame = bytearray(valid())
        for _ in range(random.randrange(1, 4)):
            frame[random.randrange(12, len(frame))] = random.randrange(256)
    s.send(bytes(frame))
    # Slower than the kernel's own queues between the namespaces overflow.
    if i % 32 == 31: time.sleep(0.005)
print('sent')
";
    assert_eq!(lab.python("router", send, &[]).ok().trim(), "sent");
    director.wait_for("all frames", || {
        let stats = director.stats();
        // The switch drops random frames whose source is a group: about a thousand.
        stats["total"]["events"]["rx_packets"].as_u64() >= Some(before + 8500)
    });
    director.assert_balanced();
    let stats = director.stats();
    for reason in [
        "not_our_mac",
        "ether_type",
        "too_short",
        "bad_ipv4_header",
        "bad_ipv4_checksum",
        "not_local",
        "no_service",
    ] {
        assert!(stats["total"]["dropped"][reason].as_u64() > Some(0), "{reason}: {stats}");
    }
    assert_serves(&lab);
    assert_eq!(director.stop().code(), Some(0));
}

/// One line to the socket; what comes back until it closes or a second passes.
fn say(director: &Director<'_>, bytes: &[u8]) -> String {
    let mut socket = UnixStream::connect(director.socket()).expect("the socket");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    socket.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    // The daemon may close before all is written.
    drop(socket.write_all(bytes));
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = socket.read(&mut part) {
        answer.extend_from_slice(&part[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_huge_lines_and_half_open_connections_on_the_socket() {
    let Some(lab) = lab() else { return };
    let director = Director::start(&lab, &config());
    let garbage: Vec<Vec<u8>> = vec![
        b"\n".to_vec(),
        b"hello\n".to_vec(),
        b"{\n".to_vec(),
        b"[]\n".to_vec(),
        b"null\n".to_vec(),
        b"{\"v\":1,\"id\":1,\"op\":\"no.such\"}\n".to_vec(),
        b"{\"v\":99,\"id\":1,\"op\":\"version\"}\n".to_vec(),
        b"{\"v\":1,\"id\":1,\"op\":\"service.add\",\"address\":7}\n".to_vec(),
        [vec![b'['; 100_000], vec![b'\n']].concat(),
        vec![0xff; 1000].into_iter().chain([b'\n']).collect(),
    ];
    for line in &garbage {
        let answer = say(&director, line);
        let blank = line == b"\n";
        assert!(
            blank || answer.contains("\"error\""),
            "{:?}: {answer:?}",
            String::from_utf8_lossy(&line[..line.len().min(60)])
        );
    }
    // 10 MB without an end, then with one.
    let huge = vec![b'x'; 10 << 20];
    let answer = say(&director, &huge);
    assert!(answer.contains("too_large"), "{answer:?}");
    let open: Vec<_> =
        (0..200).filter_map(|_| UnixStream::connect(director.socket()).ok()).collect();
    assert_serves(&lab);
    drop(open);
    director.wait_for("an answer after all that", || director.shunt(&["version"]).code == 0);
    assert_serves(&lab);
    director.assert_balanced();
}

#[test]
fn wrong_configurations_are_refused_and_change_nothing() {
    if !can_run() {
        return;
    }
    // A TAP device gets fragments as they are; a packet socket only what the kernel makes of them.
    let lab = Lab::up(Reals::Dr, 1);
    let both = [(RS1, 1, "dr"), (RS2, 1, "dr")];
    let config = Config::on_tap(&lab).service("tcp", "192.0.2.100:80", "wlc", &both);
    let director = Director::start(&lab, &config);
    director.wait_for("both next hops", || {
        let rows = director.json(&["neighbor", "list"]);
        rows.as_array().is_some_and(|rows| rows.iter().all(|r| r["state"] == "reachable"))
    });
    let before = director.shunt(&["config", "show"]).ok();
    let good = std::fs::read_to_string(director.file()).expect("the file");
    let wrong = [
        ("scheduler = \"wlc\"", "scheduler = \"best\"", "best"),
        ("weight = 1", "weight = 70000", "70000"),
        ("forward = \"dr\"", "forward = \"nat\"", "nat"),
        ("192.0.2.22", "203.0.113.7", "on-link"),
        ("192.0.2.22", "192.0.2.21", "192.0.2.21"),
        ("[[service.real]]", "[[service.reel]]", "reel"),
        ("192.0.2.100:80", "192.0.2.10:80", "192.0.2.10"),
        ("192.0.2.100:80", "192.0.2.100", "192.0.2.100"),
        ("workers = [1]", "workers = [0]", "restart"),
        ("[control]", "[control", ":8:"),
    ];
    for (from, to, says) in wrong {
        std::fs::write(director.file(), good.replacen(from, to, 1)).expect("a file");
        let refused = director.shunt(&["config", "apply"]);
        assert_eq!(refused.code, 1, "{to}: {}", refused.out);
        assert!(refused.err.contains(says), "{to}: {}", refused.err);
        director.signal(nix::sys::signal::Signal::SIGHUP);
    }
    assert_eq!(director.shunt(&["config", "show"]).ok(), before);
    assert_serves(&lab);
}

#[test]
fn a_wrong_file_at_start_names_its_line() {
    let Some(lab) = lab() else { return };
    let both = [(RS1, 1, "dr")];
    let config = Config::new().service("tcp", "192.0.2.100:80", "fastest", &both);
    let log = Director::start_wrong(&lab, &config);
    assert!(log.contains("fastest") && log.contains("shunt.toml:19:13"), "{log}");
    let config = Config::new().service("tcp", "192.0.2.100:80", "rr", &both);
    let log = Director::start_wrong(&lab, &config.with_vdev("net_af_packet0,iface=nosuch"));
    assert!(log.contains("lan") && log.contains("nosuch"), "{log}");
}
