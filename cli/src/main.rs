//! `crashferry`, the one binary.

mod admin;

fn main() {}
