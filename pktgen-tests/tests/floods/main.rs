//! Floods at the full speed of one worker, and of two: what honest clients have outlives them, the
//! director's neighbors stay, and it answers.
//!
//! Each flood is a test, ten seconds long. Those of as many workers share a director, on which
//! honest clients have connected and then are idle; what a flood took from them is set up again for
//! the next.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pktgen_tests::can_run;
use pktgen_tests::flood::kinds::Kind;
use pktgen_tests::flood::{Lost, Report, Station};

const TIME: Duration = Duration::from_secs(10);
/// Least packets of a flood at full speed: a bound that shows that there was one.
const FLOOD: f64 = 10_000.0;
/// Pings and ARP requests answered, per cent: the machine is busy, and the link loses some.
const ANSWERED: u32 = 80;
/// Honest fragmented datagrams that arrive, per cent.
const WHOLE: usize = 95;
/// The same in a flood of first fragments from anywhere, with several workers: more of them than
/// may be asked about. Half of the honest ones come to the worker that has their flow, and arrive;
/// the others compete with the flood (ADR 20).
const WHOLE_AMONG_FIRST: usize = 45;

/// The director with so many workers; the one before is ended.
fn station(workers: u16) -> MutexGuard<'static, Option<(u16, Station)>> {
    static STATION: OnceLock<Mutex<Option<(u16, Station)>>> = OnceLock::new();
    let station = STATION.get_or_init(Mutex::default);
    let mut station = station.lock().unwrap_or_else(PoisonError::into_inner);
    if station.as_ref().is_none_or(|(has, _)| *has != workers) {
        *station = None;
        *station = Some((workers, Station::start(workers)));
    }
    station
}

fn outlive(workers: u16, kind: Kind) {
    if !can_run() {
        return;
    }
    let mut station = station(workers);
    let (_, station) = station.as_mut().expect("it has started");
    let report = station.flood(kind, TIME);
    eprintln!("{}, {workers} workers: {report}\n{:?}", kind.name(), report.counted);
    let wrong = wrong(workers, kind, &report);
    assert!(wrong.is_empty(), "{wrong:#?}\n{report}\n{:#?}", report.counted);
}

/// What does not hold.
fn wrong(workers: u16, kind: Kind, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let full_speed = kind.interval_ns() == 0;
    check(!full_speed || report.mpps * 1e6 * TIME.as_secs_f64() > FLOOD, "there is a flood");
    for reason in ["bad_ipv4_header", "bad_ipv4_checksum", "bad_l4_header", "bad_source"] {
        check(!report.counted.contains_key(reason), reason);
    }
    for reason in ["bad_ipv6_header", "bad_extension", "too_short", "no_service"] {
        check(!report.counted.contains_key(reason), reason);
    }
    for (family, lost) in ["IPv4", "IPv6"].iter().zip(report.lost) {
        let Lost { tcp, udp, templates } = lost;
        check(tcp == 0, &format!("{family}: {tcp} of 1,000 idle connections are lost"));
        check(udp == 0, &format!("{family}: {udp} of 1,000 UDP flows are lost"));
        check(templates == 0, &format!("{family}: {templates} of 1,000 templates are lost"));
    }
    let first = matches!(kind, Kind::TcpFragments | Kind::UdpFragments | Kind::FirstFragments);
    let least = if first && workers > 1 { WHOLE_AMONG_FIRST } else { WHOLE };
    for (family, fragments) in ["IPv4", "IPv6"].iter().zip(report.fragments) {
        let arrive = fragments.sent > 20 && fragments.whole * 100 >= fragments.sent * least;
        check(arrive, &format!("{family}: fragmented datagrams arrive: {fragments:?}"));
    }
    check(report.failed.is_empty(), "no neighbor fails");
    check(report.least_answered() >= ANSWERED, "pings and ARP requests are answered");
    check(report.balanced, "every packet has one verdict");
    check(report.mbufs == 0, "all buffers come back");
    wrong
}

macro_rules! floods {
    ($workers:literal, $module:ident: $($name:ident $kind:ident),+ $(,)?) => {
        mod $module {
            use super::{Kind, outlive};
            $(#[test] fn $name() { outlive($workers, Kind::$kind); })+
        }
    };
}

floods! { 1, one_worker:
    syn Syn,
    ack Ack,
    syn_ack SynAck,
    udp Udp,
    persistent Persistent,
    tcp_fragments TcpFragments,
    udp_fragments UdpFragments,
    first_fragments FirstFragments,
    later_fragments LaterFragments,
    icmp_errors IcmpErrors,
    extension_headers Options,
}

floods! { 2, two_workers:
    syn Syn,
    ack Ack,
    syn_ack SynAck,
    udp Udp,
    persistent Persistent,
    tcp_fragments TcpFragments,
    udp_fragments UdpFragments,
    first_fragments FirstFragments,
    later_fragments LaterFragments,
    few_later_fragments FewLaterFragments,
    icmp_errors IcmpErrors,
    extension_headers Options,
}
