//! The matches of one host, found by path. Owns the order in which paths are
//! tried; must not know hosts, nor what a rule leads to.

use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::path::{Kind, is_under};
use super::precedence::Precedence;
use super::{Entry, RequestView};

/// Matches by path, each as its position among all entries of the table. The paths themselves stand there only.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    /// Those of one path in a row, in order of precedence.
    matches: Box<[u32]>,
    hasher: DefaultHashBuilder,
    exact: HashTable<Bucket>,
    regex: Bucket,
    /// Without `/` itself.
    prefix: HashTable<Bucket>,
    root: Bucket,
    /// What the deepest and the longest path of `prefix` have, in slashes and
    /// in bytes: a request cannot make us hash more of its path than that.
    deepest_prefix: usize,
    longest_prefix: usize,
}

/// Where the matches of one path stand in `matches`.
#[derive(Debug, Default)]
struct Bucket {
    start: u32,
    end: u32,
}

/// What decides about the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'e> {
    Exact(&'e str),
    Regex,
    /// Without its trailing slash.
    Prefix(&'e str),
}

impl<'e> Place<'e> {
    fn of(entry: &'e Entry) -> Self {
        match &entry.criteria.path().0 {
            Kind::Exact(path) => Self::Exact(path),
            Kind::Regex(_) => Self::Regex,
            Kind::Prefix(prefix) => Self::Prefix(prefix),
        }
    }

    fn text(self) -> &'e str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Regex => "",
        }
    }
}

impl Bucket {
    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl PathIndex {
    /// Files matches, all of one host, under their paths.
    pub(super) fn new(mut matches: Vec<u32>, entries: &[Entry]) -> Self {
        let place = |&i: &u32| Place::of(&entries[i as usize]);
        // All are of this host, so its rank does not matter here.
        let rank = |&i: &u32| Precedence::of(None, &entries[i as usize].criteria, i as usize);
        matches.sort_unstable_by(|a, b| {
            let by_place = place(a).cmp(&place(b));
            by_place.then_with(|| Reverse(rank(a)).cmp(&Reverse(rank(b))))
        });
        matches.dedup(); // a rule may name one host twice
        let matches = matches.into_boxed_slice();
        let mut index = Self::default();
        let mut end = 0;
        for group in matches.chunk_by(|a, b| place(a) == place(b)) {
            let start = end;
            end += group.len() as u32;
            if let Some(first) = group.first() {
                index.file(place(first), Bucket { start, end }, |bucket| {
                    matches
                        .get(bucket.start as usize)
                        .map_or("", |it| place(it).text())
                });
            }
        }
        index.matches = matches;
        index
    }

    fn file<'e>(&mut self, place: Place<'e>, bucket: Bucket, text_of: impl Fn(&Bucket) -> &'e str) {
        let hasher = &self.hasher;
        let hash = |bucket: &Bucket| hasher.hash_one(text_of(bucket));
        match place {
            Place::Regex => self.regex = bucket,
            Place::Prefix("") => self.root = bucket,
            Place::Exact(path) => {
                self.exact
                    .insert_unique(hasher.hash_one(path), bucket, hash);
            }
            Place::Prefix(prefix) => {
                let slashes = memchr::memchr_iter(b'/', prefix.as_bytes()).count();
                self.deepest_prefix = self.deepest_prefix.max(slashes);
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefix
                    .insert_unique(hasher.hash_one(prefix), bucket, hash);
            }
        }
    }

    /// The match with the highest precedence among those that apply.
    pub(super) fn find<'e>(
        &self,
        request: &RequestView<'_>,
        entries: &'e [Entry],
    ) -> Option<&'e Entry> {
        let entry = |&i: &u32| &entries[i as usize];
        let applies = |e: &&Entry| e.criteria.mismatch_beyond_path(request).is_none();
        let of = |bucket: &Bucket| self.matches[bucket.range()].iter().map(entry);
        let first = |bucket: &Bucket| of(bucket).find(applies);
        let filed = |table: &HashTable<Bucket>, path: &str| {
            let same = |bucket: &Bucket| {
                let mut all = of(bucket);
                all.next().is_some_and(|it| Place::of(it).text() == path)
            };
            table.find(self.hasher.hash_one(path), same).and_then(first)
        };
        let path = request.path;

        if let Some(found) = filed(&self.exact, path) {
            return Some(found);
        }
        let mut regexes = of(&self.regex);
        if let Some(found) = regexes.find(|e| e.criteria.mismatch(request).is_none()) {
            return Some(found);
        }
        let mut boundary = self.deepest_boundary(path);
        while boundary > 0 {
            if boundary <= self.longest_prefix
                && let Some(found) = filed(&self.prefix, &path[..boundary])
            {
                return Some(found);
            }
            boundary = memchr::memrchr(b'/', &path.as_bytes()[..boundary]).unwrap_or(0);
        }
        is_under(path, "").then(|| first(&self.root)).flatten()
    }

    /// Where the longest part of the path ends that could be a prefix.
    fn deepest_boundary(&self, path: &str) -> usize {
        memchr::memchr_iter(b'/', path.as_bytes())
            .nth(self.deepest_prefix)
            .unwrap_or(path.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Match, PathPattern};
    use super::*;

    #[test]
    fn a_path_is_hashed_no_deeper_than_the_deepest_prefix() {
        let index = PathIndex::default();
        assert_eq!(index.deepest_boundary("/a/b/c"), 0);
        let entries = [Entry {
            rule: 0,
            criteria: Match::new(PathPattern::prefix("/a/b/"), None, vec![], vec![]),
        }];
        let index = PathIndex::new(vec![0], &entries);
        assert_eq!(index.deepest_boundary("/a/b/c/d"), "/a/b".len());
        assert_eq!(index.deepest_boundary("/a/b"), "/a/b".len());
        assert_eq!(index.deepest_boundary("/a"), "/a".len());
        assert_eq!(index.deepest_boundary("*"), "*".len());
    }
}
