//! How long things are: percentiles of a stream.

use serde::{Deserialize, Serialize};

/// Lengths of which a stream keeps a sample.
const SAMPLE: usize = 1 << 16;

/// How some lengths are distributed.
///
/// Count, mean, least and most are exact. Percentiles are those of a sample: all lengths if there
/// are at most 65,536, else as many of them, drawn with equal chances. The p-th percentile is the
/// smallest sampled length that p % of the sample do not exceed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lengths {
    /// How many lengths there are.
    pub count: u64,
    /// How many of them the percentiles are of.
    pub sampled: u64,
    /// Their mean.
    pub mean: f64,
    /// The least.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The most.
    pub max: u64,
}

/// Vitter's algorithm R.
pub(super) struct Sample {
    kept: Vec<u64>,
    count: u64,
    sum: f64,
    min: u64,
    max: u64,
    state: u64,
}

impl Sample {
    pub fn new(seed: u64) -> Self {
        Self { kept: Vec::new(), count: 0, sum: 0.0, min: u64::MAX, max: 0, state: seed }
    }

    pub fn add(&mut self, length: u64) {
        self.count += 1;
        self.sum += length as f64;
        self.min = self.min.min(length);
        self.max = self.max.max(length);
        if self.kept.len() < SAMPLE {
            self.kept.push(length);
            return;
        }
        let place = (u128::from(self.random()) * u128::from(self.count)) >> 64;
        if let Some(kept) = self.kept.get_mut(place as usize) {
            *kept = length;
        }
    }

    /// SplitMix64: the same numbers everywhere.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `None` if there was no length.
    pub fn lengths(mut self) -> Option<Lengths> {
        self.kept.sort_unstable();
        let percentile = |p: usize| {
            let at = (self.kept.len() * p).div_ceil(100).max(1) - 1;
            self.kept.get(at).copied()
        };
        Some(Lengths {
            count: self.count,
            sampled: self.kept.len() as u64,
            mean: self.sum / self.count as f64,
            min: self.min,
            p50: percentile(50)?,
            p90: percentile(90)?,
            p99: percentile(99)?,
            max: self.max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_all_and_of_a_sample() {
        let mut few = Sample::new(0);
        assert!(Sample::new(0).lengths().is_none());
        (1..=200).rev().for_each(|length| few.add(length));
        let few = few.lengths().unwrap();
        assert_eq!((few.min, few.p50, few.p90, few.p99, few.max), (1, 100, 180, 198, 200));
        assert_eq!((few.count, few.sampled, few.mean), (200, 200, 100.5));

        let many = |seed| {
            let mut sample = Sample::new(seed);
            (0..1_000_000).for_each(|length| sample.add(length));
            sample.lengths().unwrap()
        };
        let found = many(3);
        assert_eq!((found.count, found.sampled, found.max), (1_000_000, 65_536, 999_999));
        // Four standard deviations of a sample's median: 1e6 · 4 · 0.5 / 256.
        assert!(found.p50.abs_diff(500_000) < 7_813, "{found:?}");
        assert_eq!(many(3), found);
        assert_ne!(many(4), found);
    }
}
