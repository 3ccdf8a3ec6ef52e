//! (layer slowpath)
