//! What is done with, kept for the next of its kind.
//!
//! Owns how many are kept: as many as were needed lately. Must not know what they are.

/// So many are kept however few are needed.
const FEW: usize = 64;
/// And no more than these, whatever was needed: requests that a worker has in flight at a time.
const MOST: usize = 4096;
/// So many go at most in one sweep: a worker has requests to serve.
const GOING: usize = 128;

/// See the module. What was put last is taken first, as it is most likely still in a cache.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    kept: Vec<T>,
    /// So many have not been needed since the last sweep.
    unused: usize,
}

impl<T> Shelf<T> {
    pub(crate) const fn new() -> Self {
        Self {
            kept: Vec::new(),
            unused: 0,
        }
    }

    /// One of those that are kept.
    pub(crate) fn take(&mut self) -> Option<T> {
        let taken = self.kept.pop();
        self.unused = self.unused.min(self.kept.len());
        taken
    }

    /// Keeps one, unless there are enough.
    pub(crate) fn put(&mut self, spare: T) {
        if self.kept.len() < MOST {
            self.kept.push(spare);
        }
    }

    /// Lets go of what has not been needed since the last time, little by little.
    pub(crate) fn sweep(&mut self) {
        let more_than_few = self.kept.len().saturating_sub(FEW);
        let going = self.unused.min(more_than_few).min(GOING);
        drop(self.kept.drain(..going));
        self.unused = self.kept.len();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(count: usize) -> Shelf<usize> {
        let mut shelf = Shelf::new();
        (0..count).for_each(|number| shelf.put(number));
        shelf
    }

    #[test]
    fn the_last_one_comes_first_and_none_beyond_the_most() {
        let mut shelf = full(2 * MOST);
        assert_eq!((shelf.len(), shelf.take()), (MOST, Some(MOST - 1)));
        assert_eq!(full(0).take(), None);
    }

    #[test]
    fn what_was_not_needed_between_two_sweeps_goes() {
        let mut shelf = full(200);
        shelf.sweep();
        // What came since the sweep before has not had its chance.
        assert_eq!(shelf.len(), 200);
        let taken: Vec<_> = (0..150).filter_map(|_| shelf.take()).collect();
        taken.into_iter().rev().for_each(|one| shelf.put(one));
        shelf.sweep();
        assert_eq!((shelf.len(), shelf.kept.first()), (150, Some(&50)));
        shelf.sweep();
        assert_eq!(shelf.len(), FEW);
        shelf.sweep();
        assert_eq!(shelf.len(), FEW);
    }

    #[test]
    fn many_go_little_by_little() {
        let mut shelf = full(1000);
        for left in [1000, 1000 - GOING, 1000 - 2 * GOING] {
            shelf.sweep();
            assert_eq!(shelf.len(), left);
        }
    }
}
