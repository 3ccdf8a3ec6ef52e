//! What is to become of a packet, as a value, and the one place that carries it out.
//!
//! Whatever looks at a packet decides, and says so by a [`Verdict`]; it neither counts nor gives
//! away. Only what sends whole bursts ([`fast`](super::fast)) and what moves packets between
//! workers and waiting rooms ([`fragments`](super::fragments), [`peers`](super::peers)) carries its
//! decisions out itself.

use crate::stats::DropReason;
use crate::types::{PuntReason, RealId};

/// What is to become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes to this real server.
    Forward(RealId),
    /// The slow path gets it, for this.
    Punt(PuntReason),
    /// It is dropped, for this.
    Drop(DropReason),
}

impl Verdict {
    /// The real server it goes to.
    #[inline(always)]
    pub(super) const fn real(self) -> Option<RealId> {
        match self {
            Verdict::Forward(real) => Some(real),
            Verdict::Punt(_) | Verdict::Drop(_) => None,
        }
    }
}

impl From<DropReason> for Verdict {
    fn from(reason: DropReason) -> Verdict {
        Verdict::Drop(reason)
    }
}

impl From<PuntReason> for Verdict {
    fn from(reason: PuntReason) -> Verdict {
        Verdict::Punt(reason)
    }
}
