//! (layer forward)
