//! One exchange, whatever version it arrived in.

pub mod field;
pub mod h1;
