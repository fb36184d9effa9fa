//! The matches of one host, found by path. Owns the order in which paths are
//! tried; must not know hosts, nor what a rule leads to.

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
    pub(super) fn new(matches: &[u32], entries: &[Entry]) -> Self {
        let mut index = Self::default();
        let place = |i: u32| Place::of(&entries[i as usize]);
        // All are of this host, so its rank does not matter here.
        let rank = |i: u32| Precedence::of(None, &entries[i as usize].criteria, i as usize);
        // First by a number: paths that begin alike are slow to compare.
        let hashed = |&i: &u32| (index.hasher.hash_one(place(i).text()), i);
        let mut matches: Vec<_> = matches.iter().map(hashed).collect();
        matches.sort_unstable_by(|&(hash, a), &(other, b)| {
            let by_place = hash.cmp(&other).then_with(|| place(a).cmp(&place(b)));
            by_place.then_with(|| rank(b).cmp(&rank(a)))
        });
        matches.dedup(); // a rule may name one host twice
        index.matches = matches.iter().map(|&(_, i)| i).collect();
        let hash_of = |bucket: &Bucket| {
            let first = matches.get(bucket.start as usize);
            first.map_or(0, |&(hash, _)| hash)
        };
        let mut end = 0;
        for group in matches.chunk_by(|&(_, a), &(_, b)| place(a) == place(b)) {
            let start = end;
            end += group.len() as u32;
            let bucket = Bucket { start, end };
            let Some(&(hash, first)) = group.first() else {
                continue;
            };
            match place(first) {
                Place::Regex => index.regex = bucket,
                Place::Prefix("") => index.root = bucket,
                Place::Exact(_) => {
                    index.exact.insert_unique(hash, bucket, hash_of);
                }
                Place::Prefix(prefix) => {
                    let slashes = memchr::memchr_iter(b'/', prefix.as_bytes()).count();
                    index.deepest_prefix = index.deepest_prefix.max(slashes);
                    index.longest_prefix = index.longest_prefix.max(prefix.len());
                    index.prefix.insert_unique(hash, bucket, hash_of);
                }
            }
        }
        index
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
        let index = PathIndex::new(&[0], &entries);
        assert_eq!(index.deepest_boundary("/a/b/c/d"), "/a/b".len());
        assert_eq!(index.deepest_boundary("/a/b"), "/a/b".len());
        assert_eq!(index.deepest_boundary("/a"), "/a".len());
        assert_eq!(index.deepest_boundary("*"), "*".len());
    }
}
