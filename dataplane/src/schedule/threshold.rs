//! How many connections a real server may have.

/// Connection thresholds of a real server (`ipvsadm -x` and `-y`). The default is none.
///
/// A real server that has `upper` connections or more is full and gets no new flows, until it has
/// fewer than `lower`, or without `lower` fewer than three quarters of `upper`. Established or not,
/// every connection in the table counts. Follows `IP_VS_DEST_F_OVERLOAD` in `ip_vs_conn.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Thresholds {
    /// Connections from which on it gets no new flows; 0 is without end.
    pub upper: u32,
    /// Connections below which it gets new flows again, at most `upper`; 0 is three quarters.
    pub lower: u32,
}

impl Thresholds {
    /// Whether there is one.
    #[inline(always)]
    pub const fn is_limited(self) -> bool {
        self.upper != 0
    }

    /// Whether a real server is full that has `total` connections: the mark to be kept for it, 0
    /// when it is not, given the `mark` kept last.
    ///
    /// LVS looks at every connection that begins or ends. Here it is enough to look when one
    /// began, and before each pick: a real server that emptied far enough in between is found to
    /// have done so then. The mark is the upper threshold it is full by, so that one that is raised
    /// later ends it at once, as in LVS.
    #[inline]
    pub const fn mark(self, mark: u32, total: u32) -> u32 {
        let Thresholds { upper, lower } = self;
        if upper == 0 {
            0
        } else if total >= upper {
            upper
        } else if mark == 0 || mark < upper {
            0
        } else {
            let emptied = match lower {
                0 => (total as u64) * 4 < (upper as u64) * 3,
                lower => total < lower,
            };
            if emptied { 0 } else { upper }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The marks as connections come and go.
    fn marks(thresholds: Thresholds, totals: &[u32]) -> Vec<bool> {
        let mut mark = 0;
        totals
            .iter()
            .map(|total| {
                mark = thresholds.mark(mark, *total);
                mark != 0
            })
            .collect()
    }

    #[test]
    fn full_from_upper_until_below_lower() {
        let thresholds = Thresholds { upper: 10, lower: 4 };
        let full = marks(thresholds, &[0, 9, 10, 11, 9, 4, 3, 9, 10]);
        assert_eq!(full, [false, false, true, true, true, true, false, false, true]);
    }

    #[test]
    fn without_lower_it_is_three_quarters() {
        let full = marks(Thresholds { upper: 10, lower: 0 }, &[10, 8, 7, 9]);
        assert_eq!(full, [true, true, false, false]);
        let full = marks(Thresholds { upper: 1, lower: 0 }, &[0, 1, 0, 1]);
        assert_eq!(full, [false, true, false, true]);
        let full = marks(Thresholds { upper: u32::MAX, lower: 0 }, &[u32::MAX, 0xc000_0000, 1]);
        assert_eq!(full, [true, true, false]);
    }

    #[test]
    fn a_raised_or_dropped_threshold_counts_at_once() {
        let low = Thresholds { upper: 10, lower: 0 };
        let mark = low.mark(0, 10);
        assert_eq!(Thresholds { upper: 12, lower: 0 }.mark(mark, 10), 0);
        assert_eq!(Thresholds { upper: 0, lower: 0 }.mark(mark, 10), 0);
        assert_eq!(Thresholds { upper: 5, lower: 0 }.mark(mark, 4), 5, "still 4 of 5");
        assert_eq!(Thresholds { upper: 5, lower: 0 }.mark(mark, 3), 0);
    }
}
