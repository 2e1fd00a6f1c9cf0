//! What the tests share.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod fuzz;
pub(crate) mod rocks;
