//! Judges a candidate against stable and moves traffic: statistics, plan, state machine, simulation.
//!
//! Pure: no I/O, no clock, no randomness of its own; time and chance are arguments. What counts on the
//! request path, keeps state on disk and publishes weights lies above and only calls this.
//!
//! The statistics ([`evidence`]) look at bad events only. If candidate and stable are equally good, a bad
//! event is the candidate's exactly as often as traffic was; betting against that gives a number that a
//! good candidate drives above `1/α` in at most `α` of all rollouts, however often one looks.

pub mod evidence;
pub mod forecast;
pub mod latency;
pub mod machine;
mod measure;
mod moment;
pub mod plan;
pub mod simulate;

pub use measure::{Arm, Excluded, Exclusions, PerArm, PerSli, Share, Sli};
pub use moment::Moment;
