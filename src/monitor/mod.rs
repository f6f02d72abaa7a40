//! Owns the node: one probe run at a time for all callers, stalled connections held
//! until the node wakes, back-off, settling, and the report of what happened.

mod cached_verdict;
mod handle;
mod report;
mod settings;
mod state;
mod task;
mod tracker;

pub use handle::Handle;
pub use report::{Activity, BUCKETS, Change, Counters, Histogram, LastProbe, Report};
pub use settings::{Settings, Timing};
pub use task::Monitor;
