//! How many connections a real server may have.

/// Connection thresholds of a real server (`ipvsadm -x` and `-y`). The default is none.
///
/// A real server that has `upper` connections or more gets no new flows, until it has fewer than
/// `lower`, or without `lower` fewer than three quarters of `upper`. Established or not, every
/// connection in the table counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Thresholds {
    /// Connections from which on it gets no new flows; 0 is without end.
    pub upper: u32,
    /// Connections below which it gets new flows again, at most `upper`; 0 is three quarters.
    pub lower: u32,
}
