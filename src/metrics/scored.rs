//! The metrics of one list.

use crate::{Error, Result};

/// One list's rewards beside its ranks.
///
/// Every metric is `None` for a list without an ordered pair, and is the same for every order of
/// the responses. Rewards tie if they are equal numbers: 0.0 ties with -0.0, an infinity with
/// itself. A NaN reward makes every metric of a list with pairs `Some(NaN)`.
///
/// Making one takes O(n log n) for n responses, each metric O(n).
///
/// ```
/// use reward_model::metrics::Scored;
///
/// let list = Scored::new(&[0.5, 3.0, 0.5, -2.0], &[2, 1, 3, 3])?;
/// assert_eq!(list.pair_count(), 5);
/// assert_eq!(list.pairwise_accuracy(), Some(0.9));
/// assert_eq!(list.exact_order(), Some(0.0)); // 0.5 is not above 0.5
/// assert_eq!(list.top1(), Some(1.0));
///
/// let tied = Scored::new(&[1.0, 0.0], &[7, 7])?;
/// assert_eq!(tied.pairwise_accuracy(), None);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scored {
    /// Best first; tied ones by falling reward.
    by_rank: Vec<Item>,
    /// By falling reward.
    by_reward: Vec<Item>,
    pairs: Pairs,
    any_nan: bool,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    reward: f32,
    /// How many distinct ranks of the list are worse.
    relevance: usize,
    /// [`mid_rank`] among the ranks.
    mid_rank: f64,
}

/// The list's ordered pairs by what the rewards say, and its pairs by which rewards differ.
#[derive(Clone, Copy, Debug)]
struct Pairs {
    ordered: usize,
    right: usize,
    wrong: usize,
    /// Pairs of unequal reward, tied in rank or not.
    of_unequal_reward: usize,
}

impl Scored {
    /// A list of responses with these rewards (the higher, the better) and these ranks (the
    /// smaller, the better; equal ranks are a tie). Only the order of the ranks counts, so that
    /// they may start anywhere and have gaps.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there are not as many ranks as rewards.
    pub fn new(rewards: &[f32], ranks: &[usize]) -> Result<Scored> {
        if rewards.len() != ranks.len() {
            return Err(Error::InvalidArgument(format!(
                "there are {} rewards and {} ranks; give one of each for every response",
                rewards.len(),
                ranks.len()
            )));
        }
        // Adding 0.0 makes -0.0 positive: `total_cmp` would put it below.
        let mut ranked: Vec<(usize, f32)> =
            ranks.iter().copied().zip(rewards.iter().map(|reward| reward + 0.0)).collect();
        ranked.sort_unstable_by(|(rank, reward), (other_rank, other)| {
            rank.cmp(other_rank).then(other.total_cmp(reward))
        });

        let mut by_rank = Vec::with_capacity(ranked.len());
        let mut relevance = ranked.chunk_by(|a, b| a.0 == b.0).count();
        for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
            relevance -= 1;
            let mid_rank = mid_rank(by_rank.len(), tied.len(), ranked.len());
            by_rank.extend(tied.iter().map(|&(_, reward)| Item { reward, relevance, mid_rank }));
        }
        let mut by_reward = by_rank.clone();
        by_reward.sort_by(|a, b| b.reward.total_cmp(&a.reward));

        let pairs = Pairs::count(&by_rank, &by_reward);
        let any_nan = rewards.iter().any(|reward| reward.is_nan());
        Ok(Scored { by_rank, by_reward, pairs, any_nan })
    }

    /// How many ordered pairs there are: n·(n−1)/2 without ties in rank.
    pub fn pair_count(&self) -> usize {
        self.pairs.ordered
    }

    /// The share of ordered pairs (w, l) with r_w > r_l; pairs of equal reward count one half.
    ///
    /// `None` without pairs.
    pub fn pairwise_accuracy(&self) -> Option<f64> {
        self.points().map(|points| points / self.pairs.ordered as f64)
    }

    /// Kendall's tau-b between rewards and ranks: (C − D) / √((C + D + T)·(C + D + U)), from −1 to
    /// 1, where C and D count the concordant and the discordant pairs, T the pairs tied in reward
    /// alone, U those tied in rank alone.
    ///
    /// `None` without pairs, or if all rewards are equal.
    ///
    /// Kendall, "The treatment of ties in ranking problems" (1945), counted as in Knight, "A
    /// computer method for calculating Kendall's tau with ungrouped data" (1966). Equals
    /// `scipy.stats.kendalltau(rewards, -ranks)`.
    pub fn kendall_tau_b(&self) -> Option<f64> {
        self.where_rewards_differ(|| {
            let Pairs { ordered, right, wrong, of_unequal_reward } = self.pairs;
            (right as f64 - wrong as f64) / (ordered as f64 * of_unequal_reward as f64).sqrt()
        })
    }

    /// Spearman's rank correlation, from −1 to 1: Pearson's correlation of the two average ranks
    /// that each response has, by reward and by rank.
    ///
    /// `None` without pairs, or if all rewards are equal.
    ///
    /// Equals `scipy.stats.spearmanr(rewards, -ranks)`.
    pub fn spearman(&self) -> Option<f64> {
        self.where_rewards_differ(|| {
            let (mut product, mut square_by_reward, mut square_by_rank) = (0.0, 0.0, 0.0);
            let mut above = 0;
            for tied in self.by_reward.chunk_by(|a, b| a.reward == b.reward) {
                let by_reward = mid_rank(above, tied.len(), self.by_reward.len());
                above += tied.len();
                for item in tied {
                    product += by_reward * item.mid_rank;
                    square_by_reward += by_reward * by_reward;
                    square_by_rank += item.mid_rank * item.mid_rank;
                }
            }
            product / (square_by_reward * square_by_rank).sqrt()
        })
    }

    /// The normalised discounted cumulative gain of the `k` highest rewards, or of all: DCG / DCG
    /// of the best order, from 0 to 1.
    ///
    /// DCG = Σ_{i=1..k} g_i / log2(i + 1), where g_i is the gain of the response with the i-th
    /// highest reward: the number of distinct ranks of the list that are worse (0 for the worst).
    /// Responses of equal reward share the mean of their gains, which averages DCG over all orders
    /// that they could be put in.
    ///
    /// `None` without pairs, or if `k` is 0.
    ///
    /// Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (2002), with the
    /// ties of McSherry and Najork, "Computing information retrieval performance measures
    /// efficiently in the presence of tied scores" (2008). Equals `sklearn.metrics.ndcg_score`.
    pub fn ndcg(&self, k: Option<usize>) -> Option<f64> {
        if k == Some(0) {
            return None;
        }
        self.where_pairs(|| {
            let gains = self.by_reward.chunk_by(|a, b| a.reward == b.reward).flat_map(|tied| {
                let sum: usize = tied.iter().map(|item| item.relevance).sum();
                std::iter::repeat_n(sum as f64 / tied.len() as f64, tied.len())
            });
            let ideal = self.by_rank.iter().map(|item| item.relevance as f64);
            dcg(gains, k) / dcg(ideal, k)
        })
    }

    /// 1 if every ordered pair (w, l) has r_w > r_l, else 0.
    ///
    /// `None` without pairs.
    pub fn exact_order(&self) -> Option<f64> {
        self.where_pairs(|| f64::from(u8::from(self.pairs.right == self.pairs.ordered)))
    }

    /// The share of the responses with the highest reward that have the best rank: 0 or 1 if only
    /// one response has that reward.
    ///
    /// `None` without pairs.
    pub fn top1(&self) -> Option<f64> {
        self.where_pairs(|| {
            let best = self.by_rank.first().map(|item| item.relevance);
            let top = self.by_reward.chunk_by(|a, b| a.reward == b.reward).next().unwrap_or(&[]);
            let right = top.iter().filter(|item| Some(item.relevance) == best).count();
            right as f64 / top.len() as f64
        })
    }

    /// The mean of r_w − r_l over the ordered pairs (w, l).
    ///
    /// `None` without pairs. Infinite rewards follow IEEE 754: a pair of equal infinities, or pairs
    /// of +∞ and −∞ together, make NaN.
    pub fn mean_margin(&self) -> Option<f64> {
        self.margin_sum().map(|sum| sum / self.pairs.ordered as f64)
    }

    /// Ordered pairs that the rewards order rightly, and half of those that they leave tied.
    pub(super) fn points(&self) -> Option<f64> {
        self.where_pairs(|| {
            let Pairs { ordered, right, wrong, .. } = self.pairs;
            (right + (ordered - wrong)) as f64 / 2.0
        })
    }

    /// The sum of r_w − r_l over the ordered pairs.
    pub(super) fn margin_sum(&self) -> Option<f64> {
        self.where_pairs(|| {
            let (mut margins, mut better, mut better_sum) = (0.0, 0.0, 0.0);
            for tied in self.by_rank.chunk_by(|a, b| a.relevance == b.relevance) {
                let count = tied.len() as f64;
                let sum: f64 = tied.iter().map(|item| f64::from(item.reward)).sum();
                // The best have nobody above them, and 0·∞ would be NaN.
                if better > 0.0 {
                    margins += count * better_sum - better * sum;
                }
                better += count;
                better_sum += sum;
            }
            margins
        })
    }

    /// Whether the list has pairs, but one reward for all responses; a NaN equals none.
    pub(super) fn is_constant(&self) -> bool {
        self.pairs.ordered > 0 && self.pairs.of_unequal_reward == 0
    }

    fn where_pairs(&self, metric: impl FnOnce() -> f64) -> Option<f64> {
        (self.pairs.ordered > 0).then(|| if self.any_nan { f64::NAN } else { metric() })
    }

    fn where_rewards_differ(&self, metric: impl FnOnce() -> f64) -> Option<f64> {
        if self.is_constant() {
            return None;
        }
        self.where_pairs(metric)
    }
}

impl Pairs {
    fn count(by_rank: &[Item], by_reward: &[Item]) -> Pairs {
        let tied = |items: &[Item], tie: fn(&Item, &Item) -> bool| -> usize {
            items.chunk_by(tie).map(|chunk| pairs_among(chunk.len())).sum()
        };
        let all = pairs_among(by_rank.len());
        let tied_in_reward = tied(by_reward, |a, b| a.reward == b.reward);
        let tied_in_both = tied(by_rank, |a, b| a.relevance == b.relevance && a.reward == b.reward);
        let ordered = all - tied(by_rank, |a, b| a.relevance == b.relevance);
        // Rewards fall within a rank, so that only ordered pairs can rise.
        let wrong = sort_counting_rises(&mut by_rank.iter().map(|i| i.reward).collect::<Vec<_>>());
        let right = ordered - wrong - (tied_in_reward - tied_in_both);
        Pairs { ordered, right, wrong, of_unequal_reward: all - tied_in_reward }
    }
}

fn pairs_among(count: usize) -> usize {
    count * count.saturating_sub(1) / 2
}

/// Sorts into falling order, and counts the pairs i < j with values\[i\] < values\[j\].
fn sort_counting_rises(values: &mut [f32]) -> usize {
    if values.len() < 2 {
        return 0;
    }
    let (first, second) = values.split_at_mut(values.len() / 2);
    let mut rises = sort_counting_rises(first) + sort_counting_rises(second);
    let mut at_least = 0;
    for value in second.iter() {
        at_least += first[at_least..].iter().take_while(|v| v.total_cmp(value).is_ge()).count();
        rises += first.len() - at_least;
    }
    // The stable sort merges two sorted runs in linear time.
    values.sort_by(|a, b| b.total_cmp(a));
    rises
}

/// The average of the ranks that `tied` of `len` responses share below `above` others, less the
/// mean rank, times two: a whole number.
fn mid_rank(above: usize, tied: usize, len: usize) -> f64 {
    (2 * above + tied) as f64 - len as f64
}

fn dcg(gains: impl Iterator<Item = f64>, k: Option<usize>) -> f64 {
    let gains = gains.take(k.unwrap_or(usize::MAX)).enumerate();
    gains.map(|(index, gain)| gain / (index as f64 + 2.0).log2()).sum()
}
