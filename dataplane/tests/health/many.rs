//! Ten thousand real servers.

use dataplane::health::{PER_POLL, State};

use super::network::{Mode, Network, check};

#[test]
fn ten_thousand_are_spread_over_their_interval_and_all_decided() {
    let mut net = Network::new(40);
    let serves = |n| if n % 100 == 0 { Mode::Silent } else { Mode::Serves { greeting: 0 } };
    let webs: Vec<_> = (0..10_000).map(|n| net.add(n, serves(n), &check(), n % 2 == 1)).collect();
    // Each packet counts where it is made: a probe is one of three, and a repeated SYN.
    let mut most = 0;
    for _ in 0..10_000 {
        let before = net.sent;
        net.run(1);
        most = most.max(net.sent - before);
    }
    // Five probes a millisecond in the mean, with three packets each.
    assert!(most < 60, "{most} packets in a millisecond");
    for (number, web) in webs.iter().enumerate() {
        let state = if number % 100 == 0 { State::Down } else { State::Up };
        assert_eq!(net.state(*web), state, "{number}");
    }
    assert_eq!(net.told.len(), 20_000, "each was told of as unchecked, and once more");
    assert!(net.set.connections() < 20_000);
}

#[test]
fn one_call_does_a_bounded_part() {
    let mut net = Network::new(41);
    for n in 0..2_000 {
        net.add(n, Mode::Silent, &check(), false);
    }
    let (mut sent, now) = (0, net.now.after(60_000));
    net.set.poll(now, &mut |_, _| {
        sent += 1;
        true
    });
    assert_eq!(sent, PER_POLL);
}
