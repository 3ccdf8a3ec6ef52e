//! (layer snapshot)
