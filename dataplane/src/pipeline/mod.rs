//! (layer pipeline)
