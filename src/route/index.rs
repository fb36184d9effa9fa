//! The matches of one host, found by path. Owns the order in which paths are
//! tried; must not know hosts, nor what a rule leads to.

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::path::{Kind, PathPattern, is_under};
use super::precedence::Precedence;
use super::{Entry, RequestView};

/// Matches by path, each as its position among all entries of the table.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    exact: HashMap<Box<str>, Bucket>,
    regex: Bucket,
    /// Without the trailing slash, and without `/` itself.
    prefix: HashMap<Box<str>, Bucket>,
    root: Bucket,
    /// What the deepest and the longest key of `prefix` have, in slashes and
    /// in bytes: a request cannot make us hash more of its path than that.
    deepest_prefix: usize,
    longest_prefix: usize,
}

/// In order of precedence.
type Bucket = Vec<usize>;

impl PathIndex {
    /// Files a match under its path.
    pub(super) fn insert(&mut self, path: &PathPattern, entry: usize) {
        match &path.0 {
            Kind::Exact(path) => self.exact.entry(path.clone()).or_default(),
            Kind::Regex(_) => &mut self.regex,
            Kind::Prefix(prefix) if prefix.is_empty() => &mut self.root,
            Kind::Prefix(prefix) => {
                let slashes = memchr::memchr_iter(b'/', prefix.as_bytes()).count();
                self.deepest_prefix = self.deepest_prefix.max(slashes);
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefix.entry(prefix.clone()).or_default()
            }
        }
        .push(entry);
    }

    /// Has to follow the last `insert`.
    pub(super) fn sort(&mut self, entries: &[Entry]) {
        let buckets = (self.exact.values_mut())
            .chain(self.prefix.values_mut())
            .chain([&mut self.regex, &mut self.root]);
        for bucket in buckets {
            // All are of this host, so its rank does not matter here.
            bucket.sort_by_key(|&i| Reverse(Precedence::of(None, &entries[i].criteria, i)));
            bucket.dedup(); // a rule may name one host twice
            bucket.shrink_to_fit();
        }
    }

    /// The match with the highest precedence among those that apply.
    pub(super) fn find<'e>(
        &self,
        request: &RequestView<'_>,
        entries: &'e [Entry],
    ) -> Option<&'e Entry> {
        let entry = |&i: &usize| &entries[i];
        let applies = |e: &&Entry| e.criteria.mismatch_beyond_path(request).is_none();
        let first = |bucket: &Bucket| bucket.iter().map(entry).find(applies);
        let path = request.path;

        if let Some(found) = self.exact.get(path).and_then(first) {
            return Some(found);
        }
        let mut regexes = self.regex.iter().map(entry);
        if let Some(found) = regexes.find(|e| e.criteria.mismatch(request).is_none()) {
            return Some(found);
        }
        let mut boundary = self.deepest_boundary(path);
        while boundary > 0 {
            if boundary <= self.longest_prefix
                && let Some(found) = self.prefix.get(&path[..boundary]).and_then(first)
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
    use super::*;

    #[test]
    fn a_path_is_hashed_no_deeper_than_the_deepest_prefix() {
        let mut index = PathIndex::default();
        assert_eq!(index.deepest_boundary("/a/b/c"), 0);
        index.insert(&PathPattern::prefix("/a/b/"), 0);
        assert_eq!(index.deepest_boundary("/a/b/c/d"), "/a/b".len());
        assert_eq!(index.deepest_boundary("/a/b"), "/a/b".len());
        assert_eq!(index.deepest_boundary("/a"), "/a".len());
        assert_eq!(index.deepest_boundary("*"), "*".len());
    }
}
