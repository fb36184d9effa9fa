//! What became of the requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::Job;

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// With status 200 and a whole body.
    pub(super) answered: u64,
    /// With another status.
    other: BTreeMap<u16, u64>,
    /// Connections that nobody accepted.
    pub(super) refused: u64,
    /// Accepted, and no whole answer: by what was seen instead.
    lost: BTreeMap<String, u64>,
    /// Answers to which more than one generation has contributed.
    mixed: u64,
    /// First and last generation seen.
    generations: Option<(u64, u64)>,
    microseconds: Vec<u32>,
    /// By key: an index into `names`, counted from 1.
    assigned: Vec<u8>,
    names: Vec<String>,
}

/// The fields of an answer that are looked at.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) backend: Option<String>,
    /// The generation, as each filter of it has marked the request or the answer.
    pub(super) marks: Vec<u64>,
    /// The backends that this generation has.
    pub(super) split: Option<String>,
}

impl Seen {
    /// Notes one field of the answer.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        match name {
            "x-backend" => self.backend = Some(value.to_owned()),
            "x-split" => self.split = Some(value.to_owned()),
            "x-asked" | "x-chosen" | "x-answered" | "x-passed" => {
                self.marks.push(value.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }

    /// All filters, and the backend, are of the same generation; all of them, where there is one.
    fn is_of_one_generation(&self) -> bool {
        let same = self.marks.windows(2).all(|two| two[0] == two[1]);
        match (&self.split, &self.backend) {
            (Some(split), Some(backend)) => {
                let whole = self.marks.len() == 4;
                same && whole && split.split(' ').any(|name| name == backend)
            }
            _ => same && self.marks.is_empty(),
        }
    }
}

impl Tally {
    pub(super) fn new(keys: Option<u64>) -> Self {
        Self {
            assigned: vec![0; keys.map_or(0, |keys| usize::try_from(keys).unwrap())],
            ..Self::default()
        }
    }

    pub(super) fn note(&mut self, job: Job, seen: &Seen) {
        if seen.status != 200 {
            *self.other.entry(seen.status).or_default() += 1;
            return;
        }
        self.answered += 1;
        let took = Instant::now().saturating_duration_since(job.due);
        self.microseconds
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        if !seen.is_of_one_generation() {
            self.mixed += 1;
            eprintln!("not of one generation: {seen:?}");
        }
        if let Some(mark) = seen.marks.first().copied() {
            let (first, last) = self.generations.unwrap_or((mark, mark));
            self.generations = Some((first.min(mark), last.max(mark)));
        }
        if !self.assigned.is_empty() {
            let name = seen.backend.clone().unwrap_or_default();
            let known = self.names.iter().position(|it| *it == name);
            let index = known.unwrap_or_else(|| {
                self.names.push(name);
                self.names.len() - 1
            });
            self.assigned[usize::try_from(job.number).unwrap()] = u8::try_from(index + 1).unwrap();
        }
    }

    pub(super) fn lose(&mut self, why: impl fmt::Display) {
        *self.lost.entry(why.to_string()).or_default() += 1;
    }

    pub(super) fn is_well(&self) -> bool {
        self.answered > 0 && self.other.is_empty() && self.lost.is_empty() && self.mixed == 0
    }

    /// Of each key, in order.
    pub(super) fn backends(&self) -> impl Iterator<Item = &str> {
        self.assigned.iter().map(|index| {
            let name = usize::from(*index).checked_sub(1);
            name.map_or("-", |name| self.names[name].as_str())
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.microseconds.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let index = (sorted.len() as f64 * share) as usize;
            sorted.get(index).or(sorted.last()).copied().unwrap_or(0)
        };
        let (first, last) = self.generations.unwrap_or((0, 0));
        write!(
            f,
            "answered={} other={} lost={} refused={} mixed={} first_generation={first} last_generation={last} p50_us={} p99_us={} p999_us={}",
            self.answered,
            self.other.values().sum::<u64>(),
            self.lost.values().sum::<u64>(),
            self.refused,
            self.mixed,
            at(0.5),
            at(0.99),
            at(0.999),
        )?;
        for (status, count) in &self.other {
            write!(f, "\n  status {status}: {count}")?;
        }
        for (why, count) in &self.lost {
            write!(f, "\n  lost: {count}, {why}")?;
        }
        Ok(())
    }
}
