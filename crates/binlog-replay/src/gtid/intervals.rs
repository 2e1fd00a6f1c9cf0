//! Sets of numbers as sorted, disjoint, never adjacent intervals.

/// Numbers from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    /// First number.
    pub start: u64,
    /// Last number, at least `start`.
    pub end: u64,
}

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Intervals(Vec<Interval>);

impl Intervals {
    /// The intervals, ascending, with at least one number missing between two of them.
    pub fn as_slice(&self) -> &[Interval] {
        &self.0
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers it holds.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0u64, |sum, i| sum.saturating_add((i.end - i.start).saturating_add(1)))
    }

    /// Whether `number` is in it.
    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|i| i.start <= number);
        after > 0 && self.0[after - 1].end >= number
    }

    /// Adds the numbers from `start` to `end`; nothing if `end < start`.
    pub fn insert(&mut self, start: u64, end: u64) {
        if end < start {
            return;
        }
        // Binlogs come in order: nearly every number continues the last interval.
        if let Some(last) = self.0.last_mut()
            && start >= last.start
            && start <= last.end.saturating_add(1)
        {
            last.end = last.end.max(end);
            return;
        }
        let from = self.0.partition_point(|i| i.end.saturating_add(1) < start);
        let to = self.0.partition_point(|i| i.start <= end.saturating_add(1));
        let mut merged = Interval { start, end };
        if from < to {
            merged.start = merged.start.min(self.0[from].start);
            merged.end = merged.end.max(self.0[to - 1].end);
        }
        self.0.splice(from..to, [merged]);
    }

    /// Adds everything of `other`.
    pub fn extend(&mut self, other: &Self) {
        for i in &other.0 {
            self.insert(i.start, i.end);
        }
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.0.as_slice();
        for i in &self.0 {
            let mut start = i.start;
            let mut used_up = false;
            // Intervals of `other` wholly before this one are before all later ones, too.
            while let [first, rest @ ..] = holes
                && first.end < i.start
            {
                holes = rest;
            }
            for hole in holes {
                if hole.start > i.end {
                    break;
                }
                if hole.start > start {
                    left.push(Interval { start, end: hole.start - 1 });
                }
                if hole.end >= i.end {
                    used_up = true;
                    break;
                }
                start = start.max(hole.end + 1);
            }
            if !used_up {
                left.push(Interval { start, end: i.end });
            }
        }
        Self(left)
    }

    /// The last number; `None` of the empty set.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|i| i.end)
    }
}
