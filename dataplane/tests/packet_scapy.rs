//! Frames that scapy builds are read as scapy reads them.
//!
//! Needs Python 3 with scapy (Debian: python3-scapy). Without it the test is skipped with a note,
//! but fails where `CI` is set.

use std::io::Write;
use std::process::{Command, Stdio};

use dataplane::packet::buf::RxChecksum;
use dataplane::packet::parse::{L4, Parsed, parse};
use dataplane::packet::{HeaderError, arp, icmpv4, icmpv6, ipv6, mld, ndp, parse6};
use dataplane::types::Mac;

const SCRIPT: &str = include_str!("packet_scapy.py");

/// What the script prints, from the first Python that has scapy; the last complaint otherwise.
fn run_scapy() -> Result<String, String> {
    let mut complaint = String::new();
    for python in ["python3", "/usr/bin/python3"] {
        let child = Command::new(python)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let output = child.and_then(|mut child| {
            child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(SCRIPT.as_bytes()))?;
            child.wait_with_output()
        });
        match output {
            Ok(output) if output.status.success() => {
                return String::from_utf8(output.stdout).map_err(|e| e.to_string());
            }
            Ok(output) => complaint = String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => complaint = error.to_string(),
        }
    }
    Err(complaint)
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hexadecimal digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What we find in a frame of IPv6, in the words of the script.
fn found6(what: &str, frame: &[u8]) -> String {
    let ip = match parse6::parse(frame, frame.len()) {
        Err(error) => return format!("{error:?}"),
        Ok(ip) => ip,
    };
    let l4 = &frame[ip.l4_offset()..][..usize::from(ip.l4_len())];
    match what {
        "quoted6" => match icmpv6::quoted(l4) {
            Ok(q) => format!("{},{},{},{},{}", q.src, q.dst, q.protocol, q.sport, q.dport),
            Err(error) => error.to_string(),
        },
        "ndp" => found_ndp(frame),
        "mld-query" => match mld::parse_query(l4, ip.src, ip.dst, ip.hop_limit) {
            Ok(query) => format!("{},{}", query.group, query.max_response_ms),
            Err(error) => error.to_string(),
        },
        "mld-report" => {
            let mac = Mac([2, 0, 0, 0, 0, 1]);
            let groups = [0x80, 0x81].map(|n| [0xff02, 0, 0, 0, 0, 1, 0xff00, n].into());
            let (mut out, join) = ([0; 200], mld::Record::Join);
            let n = mld::emit_report(&mut out, mac, ipv6::link_local(mac), join, &groups);
            if n.is_ok_and(|n| out[..n] == *frame) { "same" } else { "another" }.into()
        }
        _ => {
            let l4 = match (ip.l4, ip.fragment) {
                (L4::LaterFragment, Some(f)) => {
                    format!("later,{},{},{}", f.id, f.offset, u8::from(f.more))
                }
                (l4, _) => told(l4),
            };
            format!(
                "{},{},{},{},{},{},{},{},{l4}",
                ip.src,
                ip.dst,
                ip.protocol,
                ip.payload_len,
                ip.ext_len,
                ip.hop_limit,
                ip.traffic_class,
                ip.flow_label
            )
        }
    }
}

/// A neighbor discovery message in the words of the script; ours of the same content is the same.
fn found_ndp(frame: &[u8]) -> String {
    let message = ipv6::Packet::new(&frame[14..]).and_then(|packet| ndp::Message::parse(&packet));
    let message = match message {
        Err(HeaderError::Malformed) => return "malformed".into(),
        Err(HeaderError::Checksum) => return "checksum".into(),
        Err(_) => return "unsupported".into(),
        Ok(message) => message,
    };
    let mut out = [0; ndp::MAX_FRAME_LEN];
    let n = message.emit(&mut out).expect("room");
    let options = frame.len() - 14 - n;
    assert!(options > 0 || out[..n] == frame[14..], "emitted otherwise");
    let kind = match message.body {
        ndp::Body::Solicitation { .. } => "ns".into(),
        ndp::Body::Advertisement { router, solicited, overrides, .. } => {
            format!("na{}{}{}", u8::from(router), u8::from(solicited), u8::from(overrides))
        }
    };
    let mac = message.neighbor().map_or("none".into(), |(_, mac)| mac.to_string());
    format!("{kind},{},{},{mac}", message.src, message.target)
}

/// What of L4 a packet tells.
fn told(l4: L4) -> String {
    match l4 {
        L4::Tcp { sport, dport, flags } => format!("tcp,{sport},{dport},{}", flags.0),
        L4::Udp { sport, dport } => format!("udp,{sport},{dport}"),
        L4::Icmp { kind, code } => format!("icmp,{kind},{code}"),
        L4::LaterFragment => "later".into(),
        L4::Other => "other".into(),
    }
}

/// What we find in a frame, in the words of the script.
fn found(what: &str, frame: &[u8]) -> String {
    if matches!(what, "ipv6" | "quoted6" | "ndp" | "mld-query" | "mld-report" | "error6") {
        return found6(what, frame);
    }
    let ip = match parse(frame, frame.len(), RxChecksum::Unknown) {
        Err(error) => return format!("{error:?}"),
        Ok(Parsed::Arp) => {
            let Ok(arp::Packet { operation, sha, spa, tha, tpa }) =
                arp::Packet::parse(&frame[14..])
            else {
                return "no ARP".into();
            };
            return format!("{},{sha},{spa},{tha},{tpa}", operation as u16);
        }
        // By another parser.
        Ok(Parsed::Ipv6) => return "Ipv6".into(),
        Ok(Parsed::Ipv4(ip)) => ip,
    };
    if what == "quoted" {
        return match icmpv4::quoted(&frame[ip.l4_offset()..]) {
            Ok(q) => format!("{},{},{},{},{}", q.src, q.dst, q.protocol, q.sport, q.dport),
            Err(error) => error.to_string(),
        };
    }
    let l4 = told(ip.l4);
    format!(
        "{},{},{},{},{},{},{},{},{},{l4}",
        ip.src,
        ip.dst,
        ip.protocol,
        ip.header_len,
        ip.total_len,
        ip.ttl,
        ip.tos,
        ip.id,
        ip.fragment.0
    )
}

#[test]
fn scapys_frames_are_read_as_scapy_reads_them() {
    let lines = match run_scapy() {
        Ok(lines) => lines,
        Err(why) if why.contains("No module named 'scapy'") || why.contains("No such file") => {
            assert!(std::env::var_os("CI").is_none(), "scapy is missing: {why}");
            // Not by `println!`, which the test runner swallows when a test passes.
            let note = "packet_scapy: skipped: scapy is missing (Debian: python3-scapy)";
            drop(writeln!(std::io::stderr(), "{note}"));
            return;
        }
        Err(why) => panic!("the script failed: {why}"),
    };
    let mut n = 0;
    for line in lines.lines() {
        let [what, expected, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not three words: {line}");
        };
        assert_eq!(found(what, &bytes_of(hex)), expected, "{line}");
        n += 1;
    }
    assert!(n > 1600, "{n} frames only");
}
