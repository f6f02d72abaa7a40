//! The commands of the program, each wired from the other modules.

pub mod serve;
pub mod via;
