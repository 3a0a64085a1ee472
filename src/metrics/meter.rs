//! The metrics of many lists together.

use serde::{Deserialize, Serialize};

use super::Scored;

/// Gathers the metrics of many lists.
///
/// Pairwise accuracy and margin are pooled: every ordered pair of every list weighs the same, so
/// that the result does not depend on how lists are batched. The other metrics are means over the
/// lists that have an answer: every such list weighs the same, whatever its length.
///
/// A NaN in one list is a NaN in the result: it is never left out.
///
/// ```
/// use reward_model::metrics::{RankMeter, Scored};
///
/// let (mut first, mut second) = (RankMeter::default(), RankMeter::default());
/// first.add(&Scored::new(&[3.0, 2.0, 1.0], &[1, 2, 3])?);
/// second.add(&Scored::new(&[0.0, 1.0], &[1, 2])?);
/// first.merge(&second);
/// assert_eq!(first.metrics().pairwise_accuracy, Some(0.75));
/// assert_eq!(first.metrics().kendall_tau, Some(0.0));
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RankMeter {
    /// Weighed by pairs.
    pairwise_accuracy: Mean,
    kendall_tau: Mean,
    spearman: Mean,
    ndcg: Mean,
    exact_order: Mean,
    top1: Mean,
    /// Weighed by pairs.
    mean_margin: Mean,
    lists: usize,
    pairs: usize,
    lists_without_pairs: usize,
    lists_with_constant_rewards: usize,
}

/// The metrics of many lists; see [`RankMeter`] for how they are averaged.
///
/// A metric is `None` if no list has an answer. In JSON that is `null`, and so is a NaN or an
/// infinity, which JSON cannot say: a `pairwise_accuracy` of `null` where `pairs` is not 0 is a NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RankMetrics {
    /// The share of all ordered pairs with r_w > r_l; equal rewards count one half.
    pub pairwise_accuracy: Option<f64>,
    /// The mean of [`Scored::kendall_tau_b`] over the lists that have one.
    pub kendall_tau: Option<f64>,
    /// The mean of [`Scored::spearman`] over the lists that have one.
    pub spearman: Option<f64>,
    /// The mean of [`Scored::ndcg`], without a cut-off, over the lists with pairs.
    pub ndcg: Option<f64>,
    /// The share of the lists with pairs whose every ordered pair has r_w > r_l.
    pub exact_order: Option<f64>,
    /// The mean of [`Scored::top1`] over the lists with pairs.
    pub top1: Option<f64>,
    /// The mean of r_w − r_l over all ordered pairs.
    pub mean_margin: Option<f64>,
    /// All lists, with pairs or without.
    pub lists: usize,
    /// The ordered pairs of all lists.
    pub pairs: usize,
    /// Lists that no metric has an answer for: no response is ranked above another.
    pub lists_without_pairs: usize,
    /// Lists with pairs whose rewards are all equal: only `kendall_tau` and `spearman` have no
    /// answer for them.
    pub lists_with_constant_rewards: usize,
}

impl RankMeter {
    /// Adds a list.
    pub fn add(&mut self, list: &Scored) {
        let pairs = list.pair_count();
        self.pairwise_accuracy.add(list.points(), pairs);
        self.kendall_tau.add(list.kendall_tau_b(), 1);
        self.spearman.add(list.spearman(), 1);
        self.ndcg.add(list.ndcg(None), 1);
        self.exact_order.add(list.exact_order(), 1);
        self.top1.add(list.top1(), 1);
        self.mean_margin.add(list.margin_sum(), pairs);
        self.lists += 1;
        self.pairs += pairs;
        self.lists_without_pairs += usize::from(pairs == 0);
        self.lists_with_constant_rewards += usize::from(list.is_constant());
    }

    /// Adds all lists of another meter.
    pub fn merge(&mut self, other: &RankMeter) {
        self.pairwise_accuracy.merge(other.pairwise_accuracy);
        self.kendall_tau.merge(other.kendall_tau);
        self.spearman.merge(other.spearman);
        self.ndcg.merge(other.ndcg);
        self.exact_order.merge(other.exact_order);
        self.top1.merge(other.top1);
        self.mean_margin.merge(other.mean_margin);
        self.lists += other.lists;
        self.pairs += other.pairs;
        self.lists_without_pairs += other.lists_without_pairs;
        self.lists_with_constant_rewards += other.lists_with_constant_rewards;
    }

    /// The metrics of all lists so far.
    pub fn metrics(&self) -> RankMetrics {
        RankMetrics {
            pairwise_accuracy: self.pairwise_accuracy.value(),
            kendall_tau: self.kendall_tau.value(),
            spearman: self.spearman.value(),
            ndcg: self.ndcg.value(),
            exact_order: self.exact_order.value(),
            top1: self.top1.value(),
            mean_margin: self.mean_margin.value(),
            lists: self.lists,
            pairs: self.pairs,
            lists_without_pairs: self.lists_without_pairs,
            lists_with_constant_rewards: self.lists_with_constant_rewards,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: usize,
}

impl Mean {
    /// `sum` is of `weight` values; nothing is added if there is none.
    fn add(&mut self, sum: Option<f64>, weight: usize) {
        if let Some(sum) = sum {
            self.merge(Mean { sum, weight });
        }
    }

    fn merge(&mut self, other: Mean) {
        self.sum += other.sum;
        self.weight += other.weight;
    }

    fn value(self) -> Option<f64> {
        (self.weight > 0).then(|| self.sum / self.weight as f64)
    }
}
