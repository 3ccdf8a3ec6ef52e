//! (layer worker)
