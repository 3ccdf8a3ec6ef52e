//! Forwarding methods by name: `dr`, `ipip`, `gre`.

use super::named::named;

named! {
    /// How a packet reaches its real server.
    ForwardMethod, "forwarding method" {
        /// MAC rewrite on the director's own segment (LVS-DR).
        Dr = "dr",
        /// IPv4 in IPv4, RFC 2003 (LVS-TUN).
        Ipip = "ipip",
        /// GRE, RFC 2784.
        Gre = "gre",
    }
}
