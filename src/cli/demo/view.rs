//! What the demo prints: the live table, and the summary beside what was promised.
//!
//! Owns the arithmetic of the promise. Must not know where the numbers come from.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use super::NAMES;
use super::traffic::{Latencies, Seen};

/// Each worker draws for itself and stays closer than this to every share.
const BOUND: f64 = 2.0;

/// Shows the traffic while it runs: a table that is drawn over on a terminal, a line at a time
/// elsewhere. Hides no cursor and changes no mode, so there is nothing to restore.
#[derive(Debug)]
pub(super) struct Live {
    /// `None` where they change on the way.
    weights: Option<[u32; 2]>,
    redraws: bool,
    /// Of the table that is on the terminal now.
    lines: usize,
}

impl Live {
    pub(super) fn new(weights: Option<[u32; 2]>) -> Self {
        let stdout = std::io::stdout();
        let colours = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        Self {
            weights,
            // Where escape sequences are unwanted (NO_COLOR, TERM=dumb), moving the cursor is one.
            redraws: stdout.is_terminal() && colours,
            lines: 0,
        }
    }

    /// How often to look.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(if self.redraws { 250 } else { 1000 })
    }

    /// Says something that stays, above the table.
    pub(super) fn tell(&mut self, text: &str) {
        if !text.is_empty() {
            let text = self.over(text);
            self.lines = 0;
            print(&text);
        }
    }

    pub(super) fn show(&mut self, seen: &Seen) {
        let text = if self.redraws {
            let table = match self.weights {
                Some(weights) => {
                    format!("{}{} failed\n", table(seen, weights, None), seen.failed)
                }
                None => line(seen),
            };
            let text = self.over(&table);
            self.lines = table.lines().count();
            text
        } else {
            line(seen)
        };
        print(&text);
    }

    /// Puts the summary in the place of the table.
    pub(super) fn finish(&mut self, summary: &str) {
        let text = if self.redraws {
            self.over(summary)
        } else {
            format!("\n{summary}")
        };
        self.lines = 0;
        print(&text);
    }

    fn over(&self, text: &str) -> String {
        match self.lines {
            0 => text.to_owned(),
            lines => format!("\r\x1b[{lines}A\x1b[J{text}"),
        }
    }
}

/// A terminal or reader that is gone does not matter to the demo.
fn print(text: &str) {
    let mut out = anstream::stdout();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

fn line(seen: &Seen) -> String {
    let arms = NAMES.iter().zip(&seen.answers).map(|(name, answers)| {
        format!(
            "{name} {} ({:.1} %, p50 {}, p99 {})",
            answers.count(),
            100.0 * answers.count() as f64 / seen.answered().max(1) as f64,
            shown(answers, 0.5),
            shown(answers, 0.99),
        )
    });
    let arms: Vec<_> = arms.collect();
    format!("{}  failed {}\n", arms.join("  "), seen.failed)
}

fn table(seen: &Seen, weights: [u32; 2], counted: Option<[u64; 2]>) -> String {
    let mut out = format!(
        "{:<12}{:>9}{:>11}{:>12}{:>12}{:>10}{:>10}\n",
        "backend", "requests", "expected", "difference", "in metrics", "p50", "p99"
    );
    for (index, (name, answers)) in NAMES.iter().zip(&seen.answers).enumerate() {
        let expected = expected(seen.answered(), weights, index);
        writeln!(
            out,
            "{name:<12}{:>9}{expected:>11.1}{:>+12.1}{:>12}{:>10}{:>10}",
            answers.count(),
            answers.count() as f64 - expected,
            counted.map_or_else(|| "-".to_owned(), |counted| counted[index].to_string()),
            shown(answers, 0.5),
            shown(answers, 0.99),
        )
        .unwrap_or_default();
    }
    out
}

fn expected(requests: u64, weights: [u32; 2], index: usize) -> f64 {
    let total = f64::from(weights[0]) + f64::from(weights[1]);
    requests as f64 * f64::from(weights[index]) / total
}

/// What came of the promise.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Verdict {
    /// Counts of the requests that the promise is about.
    bound: f64,
    kept: bool,
    agree: Agree,
}

/// The proxy's numbers beside the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agree {
    Yes,
    /// Somebody else has asked too: this many requests.
    Others(u64),
    No,
}

/// A split is what the proxy does to all requests, so where others have asked too, its own counts are
/// judged; in every other case those of the client.
fn judge(answered: [u64; 2], weights: [u32; 2], counted: [u64; 2], workers: usize) -> Verdict {
    let agree = match (0..2).all(|index| counted[index] >= answered[index]) {
        _ if counted == answered => Agree::Yes,
        true => Agree::Others(counted.iter().sum::<u64>() - answered.iter().sum::<u64>()),
        false => Agree::No,
    };
    let judged = if matches!(agree, Agree::Others(_)) {
        counted
    } else {
        answered
    };
    let bound = BOUND * workers as f64;
    let total = judged.iter().sum();
    Verdict {
        bound,
        kept: (0..2).all(|i| (judged[i] as f64 - expected(total, weights, i)).abs() < bound),
        agree,
    }
}

/// The summary, and whether every request was answered and the promise kept. `counted`: what the proxy
/// says of each backend.
pub(super) fn summary(
    seen: &Seen,
    weights: [u32; 2],
    counted: [u64; 2],
    workers: usize,
) -> (String, bool) {
    let answered = [seen.answers[0].count(), seen.answers[1].count()];
    let verdict = judge(answered, weights, counted, workers);
    let passed = verdict.kept && seen.failed == 0;
    let mut out = table(seen, weights, Some(counted));
    writeln!(
        out,
        "{} requests, {} failed; promise: less than {} off its share ({workers} workers, 2 each): {}",
        seen.answered() + seen.failed,
        seen.failed,
        verdict.bound,
        if verdict.kept { "kept" } else { "NOT kept" },
    )
    .unwrap_or_default();
    match verdict.agree {
        Agree::Yes => {}
        Agree::Others(more) => {
            writeln!(out, "{more} more in the metrics: somebody else asked too").unwrap_or_default()
        }
        Agree::No => writeln!(out, "the metrics do NOT agree with what the client counted")
            .unwrap_or_default(),
    }
    if let Some(failure) = &seen.failure {
        writeln!(out, "the first failure: {failure}").unwrap_or_default();
    }
    (out, passed)
}

fn shown(latencies: &Latencies, q: f64) -> String {
    match (latencies.quantile(q), latencies.count()) {
        (Some(bound), _) => format!("{:.1} ms", bound.as_secs_f64() * 1000.0),
        (None, 0) => "-".to_owned(),
        (None, _) => "> 1 s".to_owned(),
    }
}

/// The sum of a metric of a backend. Other people's requests are in it too.
pub(super) fn counted(metrics: &str, name: &str, backend: &str) -> u64 {
    let (label, name) = (format!("backend=\"{backend}\""), format!("{name}{{"));
    let of_backend = |line: &&str| line.starts_with(&name) && line.contains(&label);
    metrics
        .lines()
        .filter(of_backend)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promise_is_two_for_each_worker() {
        for (answered, workers, kept) in [
            ([95, 5], 1, true),
            ([96, 4], 1, true),
            ([97, 3], 1, false),
            ([93, 7], 1, false),
            ([98, 2], 2, true),
            ([99, 1], 2, false),
            ([0, 0], 1, true),
        ] {
            let verdict = judge(answered, [95, 5], answered, workers);
            assert_eq!(verdict.kept, kept, "{answered:?}, {workers} workers");
            assert_eq!(verdict.agree, Agree::Yes);
        }
        assert!(judge([7, 0], [1, 0], [7, 0], 1).kept, "zero is zero");
        assert!(judge([1, 1], [u32::MAX, u32::MAX], [1, 1], 1).kept);
    }

    #[test]
    fn other_peoples_requests_are_part_of_the_split() {
        let verdict = judge([90, 10], [95, 5], [190, 10], 1);
        assert_eq!((verdict.kept, verdict.agree), (true, Agree::Others(100)));
        let verdict = judge([95, 5], [95, 5], [94, 6], 1);
        assert_eq!((verdict.kept, verdict.agree), (true, Agree::No));
    }

    #[test]
    fn counts_are_summed_over_codes() {
        let text = "weir_requests_total{backend=\"a\",code=\"200\"} 3\nweir_requests_total{backend=\"a\",code=\"503\"} 4\nother{backend=\"a\"} 9\n";
        assert_eq!(counted(text, "weir_requests_total", "a"), 7);
    }

    #[test]
    fn a_failure_is_told_and_fails_the_demo() {
        let mut seen = Seen::default();
        for answers in [19, 1] {
            let index = usize::from(answers == 1);
            (0..answers).for_each(|_| seen.answers[index].record(Duration::from_millis(3)));
        }
        let (text, passed) = summary(&seen, [95, 5], [19, 1], 2);
        assert!(passed, "{text}");
        insta::assert_snapshot!(text);
        seen.failed = 1;
        seen.failure = Some("status 503".to_owned());
        let (text, passed) = summary(&seen, [95, 5], [25, 1], 2);
        assert!(!passed, "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_live_table_is_drawn_over() {
        let mut live = Live {
            weights: Some([95, 5]),
            redraws: true,
            lines: 0,
        };
        assert_eq!(live.over("x"), "x");
        live.lines = 4;
        assert_eq!(live.over("x"), "\r\x1b[4A\x1b[Jx");
        let seen = Seen::default();
        assert!(line(&seen).starts_with("stable 0 (0.0 %, p50 -, p99 -)"));
    }
}
