//! (layer flow)
