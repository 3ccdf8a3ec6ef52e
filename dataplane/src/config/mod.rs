//! (layer config)
