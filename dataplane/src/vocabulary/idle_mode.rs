//! What a worker does when no packet is there, by name: `poll`, `pause`, `sleep`.

use super::named::named;

named! {
    /// What a worker does when no packet is there.
    IdleMode, "idle mode" {
        /// Polls on: least latency, one processor busy.
        Poll = "poll",
        /// Polls on with pause instructions in between: leaves more to a hyper-thread.
        Pause = "pause",
        /// Sleeps up to half a millisecond: for machines that have other things to do.
        Sleep = "sleep",
    }
}
