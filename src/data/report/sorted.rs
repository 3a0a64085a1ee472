//! Sorting more keys than memory should hold: sorted runs in a file, merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::data::line_index::read_exact_at;
use crate::{Error, Result};

const KEY_BYTES: usize = size_of::<u128>();

/// Keys that are read at a time from each run.
const KEYS_AT_ONCE: usize = 4096;

/// Keys in any order, which come out sorted. At most `capacity` of them are in memory at a time; the
/// rest is in an unnamed temporary file, 16 bytes each.
pub(super) struct Sorter {
    buffer: Vec<u128>,
    capacity: usize,
    folder: PathBuf,
    file: Option<File>,
    /// Where each run ends, in keys.
    ends: Vec<u64>,
}

impl Sorter {
    pub fn new(capacity: usize, folder: &Path) -> Self {
        Self {
            buffer: Vec::new(),
            capacity: capacity.max(1),
            folder: folder.to_owned(),
            file: None,
            ends: Vec::new(),
        }
    }

    pub fn push(&mut self, key: u128) -> Result<()> {
        self.buffer.push(key);
        if self.buffer.len() < self.capacity {
            return Ok(());
        }
        self.spill()
    }

    fn spill(&mut self) -> Result<()> {
        self.buffer.sort_unstable();
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = tempfile::tempfile_in(&self.folder)
                    .map_err(Error::io("create a temporary file in", &self.folder))?;
                self.file.insert(file)
            }
        };
        let mut writer = BufWriter::with_capacity(1 << 16, file);
        let written = self.buffer.iter().try_for_each(|key| writer.write_all(&key.to_le_bytes()));
        written
            .and_then(|()| writer.flush())
            .map_err(Error::io("write a temporary file in", &self.folder))?;
        let start = self.ends.last().copied().unwrap_or(0);
        self.ends.push(start + self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// All keys, from the smallest.
    pub fn sorted(mut self) -> Result<Sorted> {
        if self.file.is_some() && !self.buffer.is_empty() {
            self.spill()?;
        }
        let Some(file) = self.file else {
            self.buffer.sort_unstable();
            return Ok(Sorted::InMemory(self.buffer.into_iter()));
        };
        let mut merge =
            Merge { file, folder: self.folder, runs: Vec::new(), heads: BinaryHeap::new() };
        let mut next = 0;
        for (run, end) in self.ends.into_iter().enumerate() {
            merge.runs.push(Run { next, end, keys: Vec::new() });
            next = end;
            merge.advance(run)?;
        }
        Ok(Sorted::Merged(merge))
    }
}

pub(super) enum Sorted {
    InMemory(std::vec::IntoIter<u128>),
    Merged(Merge),
}

impl Iterator for Sorted {
    type Item = Result<u128>;

    fn next(&mut self) -> Option<Result<u128>> {
        match self {
            Sorted::InMemory(keys) => keys.next().map(Ok),
            Sorted::Merged(merge) => merge.next(),
        }
    }
}

pub(super) struct Merge {
    file: File,
    folder: PathBuf,
    runs: Vec<Run>,
    /// The smallest key of each run that has one left, with the run's number.
    heads: BinaryHeap<Reverse<(u128, usize)>>,
}

struct Run {
    /// The first key that is not read yet, and where the run ends.
    next: u64,
    end: u64,
    /// Those that are, the smallest last.
    keys: Vec<u128>,
}

impl Merge {
    fn next(&mut self) -> Option<Result<u128>> {
        let Reverse((key, run)) = self.heads.pop()?;
        Some(self.advance(run).map(|()| key))
    }

    fn advance(&mut self, number: usize) -> Result<()> {
        let Some(run) = self.runs.get_mut(number) else { return Ok(()) };
        if run.keys.is_empty() {
            let count = (run.end - run.next).min(KEYS_AT_ONCE as u64);
            let mut bytes = vec![0; count as usize * KEY_BYTES];
            read_exact_at(&self.file, &mut bytes, run.next * KEY_BYTES as u64)
                .map_err(Error::io("read a temporary file in", &self.folder))?;
            run.next += count;
            let keys = bytes.chunks_exact(KEY_BYTES).rev();
            run.keys.extend(keys.filter_map(|key| Some(u128::from_le_bytes(key.try_into().ok()?))));
        }
        if let Some(key) = run.keys.pop() {
            self.heads.push(Reverse((key, number)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_comes_out_as_often_as_it_went_in(
            keys in proptest::collection::vec(prop_oneof![0u128..9, any::<u128>()], 0..300),
            capacity in 0usize..90,
        ) {
            let mut sorter = Sorter::new(capacity, &std::env::temp_dir());
            let mut expected: HashMap<u128, usize> = HashMap::new();
            for &key in &keys {
                sorter.push(key).unwrap();
                *expected.entry(key).or_default() += 1;
            }
            let sorted: Vec<u128> = sorter.sorted().unwrap().map(|key| key.unwrap()).collect();
            prop_assert!(sorted.windows(2).all(|pair| pair[0] <= pair[1]));
            let mut found: HashMap<u128, usize> = HashMap::new();
            for key in sorted {
                *found.entry(key).or_default() += 1;
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn runs_longer_than_what_is_read_at_a_time() {
        let mut sorter = Sorter::new(10_000, &std::env::temp_dir());
        let count = 35_000u128;
        for key in 0..count {
            sorter.push(key * 7919 % count).unwrap();
        }
        let sorted = sorter.sorted().unwrap().map(|key| key.unwrap());
        assert!(sorted.eq(0..count));
    }
}
