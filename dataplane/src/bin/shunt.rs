//! shunt
fn main() {}
