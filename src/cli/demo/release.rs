//! The demo's rollout: a candidate that makes it, or one that breaks on the way.
//!
//! Owns what is told of it. Must not know how it is judged: it reads what any operator could.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::NAMES;
use super::traffic::Seen;
use super::view::counted;
use crate::rollout::machine::Record;
use crate::steering::Desk;

/// Its name.
pub(super) const NAME: &str = "demo";

/// How long a candidate is good before it breaks.
const GOOD: Duration = Duration::from_secs(1);

/// How long there is traffic after the rollback.
const AFTER: Duration = Duration::from_secs(2);

/// What the configuration has of it. All traffic is one client's, so every event counts.
pub(super) fn document() -> String {
    format!(
        "rollouts: [{{ name: {NAME}, rule: demo/all, stable: {}, candidate: {}, pace: clock, minimum: 3s, \
         steps: [{{ weight: 5 }}, {{ weight: 25 }}, {{ weight: 50 }}, {{ weight: 100 }}], \
         analysis: {{ unit: request }}, shield: {{ percent: 100 }} }}]\n",
        NAMES[0], NAMES[1],
    )
}

/// Looks at the rollout while the traffic runs.
pub(super) struct Release {
    desk: Desk,
    breaks: bool,
    broken: Arc<AtomicBool>,
    told: usize,
    stepped: Option<Instant>,
    broke: Option<Instant>,
    ended: Option<(Instant, String)>,
}

impl Release {
    pub(super) fn new(desk: &Desk, breaks: bool, broken: &Arc<AtomicBool>) -> Self {
        Self {
            desk: desk.clone(),
            breaks,
            broken: Arc::clone(broken),
            told: 0,
            stepped: None,
            broke: None,
            ended: None,
        }
    }

    /// What is new, a line for each decision.
    pub(super) fn look(&mut self) -> String {
        let records = self.desk.history(NAME).unwrap_or_default();
        let mut text = String::new();
        for record in records.iter().skip(self.told) {
            self.note(record);
            writeln!(text, "{}", line(record)).unwrap_or_default();
        }
        self.told = records.len();
        if self.breaks
            && self.broke.is_none()
            && self
                .stepped
                .is_some_and(|stepped| stepped.elapsed() >= GOOD)
        {
            self.broken.store(true, Ordering::Relaxed);
            self.broke = Some(Instant::now());
            text.push_str("--           the candidate breaks: it answers 500 from now on\n");
        }
        text
    }

    /// Everything that was decided.
    pub(super) fn record(&self) -> serde_json::Result<String> {
        let records = self.desk.history(NAME).unwrap_or_default();
        let records: Vec<_> = records.iter().map(|record| &**record).collect();
        serde_json::to_string_pretty(&records)
    }

    fn note(&mut self, record: &Record) {
        match record.decision.name() {
            "stepped" => {
                self.stepped.get_or_insert_with(Instant::now);
            }
            end @ ("rolledBack" | "promoted") => {
                self.ended = Some((Instant::now(), end.to_owned()));
            }
            _ => {}
        }
    }

    /// Whether there is nothing more to see of a candidate that was to break.
    pub(super) fn is_over(&self) -> bool {
        let ended = self.ended.as_ref().map(|(at, _)| at.elapsed());
        self.breaks && ended.is_some_and(|ended| ended >= AFTER)
    }

    /// What came of it, and whether it is what was promised.
    pub(super) fn summary(&self, seen: &Seen, metrics: &str) -> (String, bool) {
        let shielded = counted(metrics, "weir_shielded_total", NAMES[1]);
        let end = self.ended.as_ref().map(|(_, end)| end.as_str());
        let kept = match end {
            Some("rolledBack") => self.breaks,
            Some(_) => !self.breaks,
            None => !self.breaks,
        } && (self.breaks || seen.failed == 0);
        let mut out = String::new();
        for (name, answers) in NAMES.iter().zip(&seen.answers) {
            writeln!(out, "{name:<10}{:>8} answers", answers.count()).unwrap_or_default();
        }
        let promise = if self.breaks {
            "a broken candidate loses its traffic"
        } else {
            "a good candidate costs no answer"
        };
        writeln!(
            out,
            "{} requests, {} failed, {shielded} answered by stable in the candidate's place; promise: {promise}: {}",
            seen.answered() + seen.failed,
            seen.failed,
            if kept { "kept" } else { "NOT kept" },
        )
        .unwrap_or_default();
        if let Some(failure) = seen.failure.as_ref().filter(|_| !self.breaks) {
            writeln!(out, "the first failure: {failure}").unwrap_or_default();
        }
        (out, kept)
    }
}

fn line(record: &Record) -> String {
    let at = record.at.to_string();
    // The time of the day, without the date.
    let time = at.get(11..23).unwrap_or(&at);
    let by = crate::steering::view::by(&record.by);
    let (from, to) = (record.from.share, record.to.share);
    let weight = if from == to {
        to.to_string()
    } else {
        format!("{from} -> {to}")
    };
    let decision = record.decision.name();
    format!(
        "{time} {decision:<11} {weight:<14} by {by}: {}",
        record.reason
    )
}
