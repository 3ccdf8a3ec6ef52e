//! (layer schedule)
