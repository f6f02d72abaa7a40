//! The monitor: a task that owns one node, runs one probe at a time for all callers, and
//! answers them.
//!
//! [`Monitor`] is the task, and [`Handle`] queries it. The monitor implements these laws of
//! the program. `tests/seeds.rs` lists all seven and checks them in a simulation:
//!
//! - Law 2: one probe run at a time, however many callers. They share it, and a verdict
//!   that is younger than `--max-age`.
//! - Law 3: no caller waits for a silent node. When a deadline passes, every caller is
//!   answered at once, and so is every later caller while the node stays silent.
//! - Law 4: a handshake begun is a handshake finished. The server counts each unfinished
//!   handshake against the prober's address and blocks it at `max_connect_errors` (100).
//!   So a stalled connection is held, not dropped, and completed when the node wakes.
//! - Law 5: everything can be cancelled. Dropping the [`Monitor`] closes its connections.
//! - Law 6: after any doubt, 200 is proven and not believed. A node that woke from a
//!   stall has to settle first.

mod back_off;
mod handle;
mod held;
mod prober;
mod report;
mod settings;
mod settling;
mod state;
mod task;
mod tracker;
mod unproven;
mod verdict_cache;

pub use handle::Handle;
pub use report::{Activity, BUCKETS, Change, Counters, Histogram, LastProbe, Report};
pub use settings::{CausalityCheck, Settings, Timing};
pub use task::Monitor;
