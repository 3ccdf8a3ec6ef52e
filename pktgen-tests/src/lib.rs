//! What the black-box tests share: a lab of namespaces and guests, and a director in it.
//!
//! The tests know the two binaries by their files only, and the lab by `scripts/lab`.
//! Each test binary has a lab of its own, which goes away with the process, however it ends.

use std::io::Write as _;

mod director;
pub mod flood;
mod lab;

pub use director::{Config, Director, binary};
pub use lab::{Lab, Output, Reals};

/// The virtual services' addresses, as the lab's real servers carry them.
pub const VIPS: [&str; 10] = [
    "192.0.2.100",
    "192.0.2.101",
    "192.0.2.102",
    "192.0.2.103",
    "192.0.2.104",
    "192.0.2.105",
    "192.0.2.106",
    "192.0.2.107",
    "192.0.2.108",
    "192.0.2.109",
];
/// The director's own address.
pub const DIP: &str = "192.0.2.10";
/// The director's own IPv6 address, of labs with IPv6. There the virtual services' addresses are
/// also `2001:db8:2::100` to `::109`.
pub const DIP6: &str = "2001:db8:2::10";
/// The director's Ethernet address.
pub const DIRECTOR_MAC: &str = "02:00:c0:00:02:0a";
/// Real servers on the director's segment.
pub const RS1: &str = "192.0.2.21";
/// See [`RS1`].
pub const RS2: &str = "192.0.2.22";
/// A real server behind the router, at the end of an IPIP tunnel.
pub const RS3: &str = "203.0.113.31";
/// A real server behind the router, at the end of a GRE tunnel.
pub const RS4: &str = "203.0.113.32";
/// [`RS1`] by IPv6.
pub const RS1_6: &str = "2001:db8:2::21";
/// [`RS2`] by IPv6.
pub const RS2_6: &str = "2001:db8:2::22";
/// [`RS3`] by IPv6.
pub const RS3_6: &str = "2001:db8:3::31";
/// [`RS4`] by IPv6.
pub const RS4_6: &str = "2001:db8:3::32";

/// Runs a system test, or says why it cannot run here. In CI, where `CI` is set, that is a failure.
///
/// # Panics
/// With the reason, when `CI` is set and the machine lacks something.
pub fn can_run() -> bool {
    match lab::missing() {
        None => true,
        Some(why) if std::env::var_os("CI").is_some() => panic!("cannot run here: {why}"),
        Some(why) => {
            // Not by `eprintln!`, which the test runner swallows when a test passes.
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            drop(writeln!(std::io::stderr(), "{test}: skipped: {why}"));
            false
        }
    }
}
