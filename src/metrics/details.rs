//! What stands behind the accuracy: which pairs are wrong, and how sure the model is of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{bootstrap, Scored, ValueMeter};
use crate::{Error, Result};

/// Bins of the reliability table.
const BINS: usize = 10;

/// Gathers the details of many lists. Time and memory for a list of K responses are O(K²) and O(K).
///
/// ```
/// use reward_model::metrics::DetailMeter;
///
/// let mut meter = DetailMeter::default();
/// meter.add(&[2.0, 1.0, 1.5], &[1, 2, 3], &[10, 20, 30])?;
/// let details = meter.details();
/// let near = &details.accuracy_by_rank_distance[0];
/// assert_eq!((near.distance, near.pairs, near.accuracy), (1, 2, Some(0.5)));
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DetailMeter {
    lengths: ValueMeter,
    bins: [Bin; BINS],
    by_distance: BTreeMap<usize, Share>,
    /// For each size of list, its lists and their pairs.
    by_size: BTreeMap<usize, (usize, Share)>,
    rewards: Moments,
    /// The points and pairs of each list, and its tau-b.
    accuracies: Vec<(f64, f64)>,
    taus: Vec<(f64, f64)>,
}

/// Details of how lists are ranked.
///
/// In JSON `None` is `null`, and so is a NaN or an infinity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RankDetails {
    /// The 95 % bootstrap interval of pairwise accuracy: the 2.5th and the 97.5th percentile over
    /// resamples of whole lists.
    pub pairwise_accuracy_interval: Option<[f64; 2]>,
    /// The same of Kendall's tau-b.
    pub kendall_tau_interval: Option<[f64; 2]>,
    /// The mean of all rewards.
    pub reward_mean: Option<f64>,
    /// The standard deviation of all rewards (with 1/n).
    pub reward_std: Option<f64>,
    /// Spearman's correlation of reward and length over all responses. Far from 0, the model may
    /// be rewarding length.
    pub reward_length_correlation: Option<f64>,
    /// The expected calibration error: the mean over all ordered pairs of |accuracy − confidence| of
    /// their bin in `reliability` (Naeini et al. 2015, Guo et al. 2017).
    pub calibration_error: Option<f64>,
    /// The pairs by the confidence σ(|r_a − r_b|) that the one with the higher reward is the better
    /// one: ten bins from 0.5 to 1.
    pub reliability: Vec<ReliabilityBin>,
    /// Pairwise accuracy by how many ranks apart the two are, from 1; ties share a rank.
    pub accuracy_by_rank_distance: Vec<AtDistance>,
    /// Pairwise accuracy by the number of responses in a list.
    pub accuracy_by_list_size: Vec<AtSize>,
}

/// Pairs of similar confidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReliabilityBin {
    /// The least confidence in this bin.
    pub from: f64,
    /// The confidence above which the next bin begins; 1 belongs to the last one.
    pub to: f64,
    /// How many pairs there are.
    pub pairs: usize,
    /// Their mean confidence.
    pub confidence: Option<f64>,
    /// The share of them that the rewards order rightly, equal rewards one half.
    pub accuracy: Option<f64>,
}

/// Pairs whose ranks are so far apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AtDistance {
    /// The difference of their ranks, counted without gaps.
    pub distance: usize,
    /// How many pairs there are.
    pub pairs: usize,
    /// The share of them that the rewards order rightly, equal rewards one half.
    pub accuracy: Option<f64>,
}

/// Lists of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AtSize {
    /// The number of responses.
    pub size: usize,
    /// How many lists there are.
    pub lists: usize,
    /// How many ordered pairs they have.
    pub pairs: usize,
    /// The share of the pairs that the rewards order rightly, equal rewards one half.
    pub accuracy: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    points: f64,
    pairs: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    confidence: f64,
    share: Share,
}

/// Mean and variance as they come in (Welford 1962).
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Default for DetailMeter {
    fn default() -> Self {
        DetailMeter {
            lengths: ValueMeter::new(1),
            bins: [Bin::default(); BINS],
            by_distance: BTreeMap::new(),
            by_size: BTreeMap::new(),
            rewards: Moments::default(),
            accuracies: Vec::new(),
            taus: Vec::new(),
        }
    }
}

impl DetailMeter {
    /// Adds a list: the reward, the rank (the smaller, the better; equal ranks are a tie) and the
    /// length, in whatever unit, of each response.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there are not equally many of each.
    pub fn add(&mut self, rewards: &[f32], ranks: &[usize], lengths: &[usize]) -> Result<()> {
        let scored = Scored::new(rewards, ranks)?;
        if lengths.len() != rewards.len() {
            return Err(Error::InvalidArgument(format!(
                "there are {} rewards and {} lengths; give one of each for every response",
                rewards.len(),
                lengths.len()
            )));
        }
        for (&reward, &length) in rewards.iter().zip(lengths) {
            self.rewards.add(f64::from(reward));
            self.lengths.add(&[length as f64], &[reward])?;
        }
        let mut distinct = ranks.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let dense: Vec<usize> =
            ranks.iter().map(|rank| distinct.partition_point(|d| d < rank)).collect();

        let mut all = Share::default();
        for (w, &better) in dense.iter().enumerate() {
            for (l, &worse) in dense.iter().enumerate().filter(|(_, &worse)| better < worse) {
                let difference = f64::from(rewards[w]) - f64::from(rewards[l]);
                // Equal infinities are a tie, as in the accuracy.
                let difference = if rewards[w] == rewards[l] { 0.0 } else { difference };
                let points = match difference {
                    d if d > 0.0 => 1.0,
                    0.0 => 0.5,
                    d if d < 0.0 => 0.0,
                    _ => f64::NAN,
                };
                let confidence = 1.0 / (1.0 + (-difference.abs()).exp());
                // A NaN is in the first bin.
                let bin = ((confidence - 0.5) * 2.0 * BINS as f64) as usize;
                let bin = &mut self.bins[bin.min(BINS - 1)];
                bin.confidence += confidence;
                bin.share.add(points);
                self.by_distance.entry(worse - better).or_default().add(points);
                all.add(points);
            }
        }
        if all.pairs > 0 {
            let (lists, share) = self.by_size.entry(rewards.len()).or_default();
            *lists += 1;
            share.points += all.points;
            share.pairs += all.pairs;
            self.accuracies.push((all.points, all.pairs as f64));
            self.taus.extend(scored.kendall_tau_b().map(|tau| (tau, 1.0)));
        }
        Ok(())
    }

    /// The details of all lists so far.
    pub fn details(&self) -> RankDetails {
        let pairs: usize = self.bins.iter().map(|bin| bin.share.pairs).sum();
        let gap = |bin: &Bin| (bin.share.points - bin.confidence).abs();
        let error = self.bins.iter().map(gap).sum::<f64>() / pairs as f64;
        let known = self.rewards.count > 0.0;
        RankDetails {
            pairwise_accuracy_interval: bootstrap::interval(&self.accuracies),
            kendall_tau_interval: bootstrap::interval(&self.taus),
            reward_mean: known.then_some(self.rewards.mean),
            reward_std: known.then(|| (self.rewards.squares / self.rewards.count).sqrt()),
            reward_length_correlation: self.lengths.metrics().spearman,
            calibration_error: (pairs > 0).then_some(error),
            reliability: self.bins.iter().enumerate().map(|(n, bin)| bin.row(n)).collect(),
            accuracy_by_rank_distance: self
                .by_distance
                .iter()
                .map(|(&distance, share)| AtDistance {
                    distance,
                    pairs: share.pairs,
                    accuracy: share.mean(share.points),
                })
                .collect(),
            accuracy_by_list_size: self
                .by_size
                .iter()
                .map(|(&size, &(lists, share))| AtSize {
                    size,
                    lists,
                    pairs: share.pairs,
                    accuracy: share.mean(share.points),
                })
                .collect(),
        }
    }
}

impl Share {
    fn add(&mut self, points: f64) {
        self.points += points;
        self.pairs += 1;
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.pairs > 0).then(|| sum / self.pairs as f64)
    }
}

impl Bin {
    fn row(&self, number: usize) -> ReliabilityBin {
        let edge = |n: usize| 0.5 + 0.5 * n as f64 / BINS as f64;
        ReliabilityBin {
            from: edge(number),
            to: edge(number + 1),
            pairs: self.share.pairs,
            confidence: self.share.mean(self.confidence),
            accuracy: self.share.mean(self.share.points),
        }
    }
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }
}
