//! (layer stats)
