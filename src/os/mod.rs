//! Operating system services: threads for blocking work, reloaded files, the maintenance
//! file, the log, and notifications to systemd.

pub(crate) mod background;
pub(crate) mod log_throttle;
pub mod logging;
pub mod maintenance_file;
pub(crate) mod regular_file;
pub(crate) mod reloaded;
pub mod systemd;
