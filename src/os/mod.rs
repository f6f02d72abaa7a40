//! What the operating system gives and may block on: threads for blocking work, files
//! that are read again, the log, and notices to systemd.

pub(crate) mod background;
pub(crate) mod log_throttle;
pub mod logging;
pub mod maintenance_file;
pub(crate) mod reloaded;
pub mod systemd;
