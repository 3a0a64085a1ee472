//! Losses on ranked lists of rewards.
//!
//! The loss of one list of rewards r, best first, is
//!
//! ```text
//! rank_loss(r) = − Σ_{w ranked above l} log σ(r_w − r_l)
//! ```
//!
//! the negative log likelihood of every ordered pair under the Bradley–Terry model. It is told in
//! several ways, which differ in what they divide by, and once in the function itself:
//!
//! | told as | here |
//! |---|---|
//! | the sum of log σ over all pairs (this crate's [`rank_loss`]) | [`Reduction::Sum`] |
//! | 1 / C(K, 2) times that sum, then the mean over lists (InstructGPT, Ouyang et al. 2022; Open-Assistant) | [`Reduction::MeanPerList`] |
//! | the mean over all pairs of a batch (most tutorial code; TRL, whose lists are pairs) | [`Reduction::MeanPairs`]: a list of K responses weighs C(K, 2) times as much as a pair |
//! | "put each difference through a sigmoid and add them up" (introductory texts) | [`PairFunction::Sigmoid`]: the same order is best, but the loss is bounded and nearly flat for a pair that is far wrong |
//!
//! Everything is computed in f32 or wider. Valid pairs are selected before any arithmetic, so what
//! stands in a slot that is not part of a list, a NaN included, has no effect on value or gradients.

mod analytic;
mod fused;
mod lists;
mod pair_function;
mod pairs;
mod pairwise;
mod plackett_luce;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use lists::Lists;
pub use pair_function::PairFunction;

use crate::torch::{compute_kind, upload_indices};
use crate::{Error, Result};

/// The pairwise rank loss: − Σ log σ(r_w − r_l) over every ordered pair of every list.
///
/// `rewards` is `[K]` or `[..., K]`, best first along the last dimension, of any float dtype, on
/// any device. The result is a scalar, f32 (f64 for f64 rewards): the negated **sum** over all
/// K·(K−1)/2 pairs of all lists. For anything else (means, ties, lists of different lengths,
/// margins, other functions) see [`RankLoss`].
///
/// The gradient of one strictly ordered list is dL/dr_i = expected wins of i − its actual wins,
/// where an expected win over j is σ(r_i − r_j); it sums to zero over a list.
///
/// Edges: no list, or lists of fewer than two responses, give a zero that is connected to the
/// graph. Equal rewards cost ln 2 a pair. A NaN reward gives NaN. An infinite difference costs 0
/// in the right order and +inf in the wrong one.
///
/// # Errors
/// If `rewards` has no dimension or is not of a float dtype.
///
/// Source: Burges et al. 2005, "Learning to Rank using Gradient Descent"; over lists as in Ouyang
/// et al. 2022 (InstructGPT), without their 1/C(K, 2).
///
/// ```
/// use reward_model::{rank_loss, tch::Tensor};
///
/// let rewards = Tensor::from_slice(&[2.0_f32, 1.0, 0.0]).set_requires_grad(true);
/// let loss = rank_loss(&rewards)?;
/// // two neighbours at distance 1, one pair at distance 2: 2·0.313262 + 0.126928
/// assert!((loss.double_value(&[]) - 0.753451).abs() < 1e-6);
/// loss.f_backward()?;
/// // the best one has 2 wins and expects σ(1) + σ(2) of them
/// assert!((rewards.grad().double_value(&[0]) - (0.731059 + 0.880797 - 2.0)).abs() < 1e-6);
/// # Ok::<(), reward_model::Error>(())
/// ```
pub fn rank_loss(rewards: &Tensor) -> Result<Tensor> {
    RankLoss::new().forward(rewards)
}

/// How the values of pairs (or lists) become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reduction {
    /// The sum over all valid pairs (list-wise losses: over all lists). What [`rank_loss`] does.
    #[default]
    Sum,
    /// The mean over a list's valid pairs, then the mean over the lists that have at least one.
    /// Every list weighs the same. List-wise losses: the mean over the lists of two or more.
    MeanPerList,
    /// The mean over all valid pairs of the batch. A list of K responses weighs as much as its
    /// C(K, 2) pairs. An error for list-wise losses.
    MeanPairs,
    /// No reduction: one value per valid pair, in order of list, winner, loser; for list-wise
    /// losses one per list (0 for a list of fewer than two).
    None,
}

/// What to do with two responses of equal rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ties {
    /// The pair is no pair.
    #[default]
    Skip,
    /// The pair costs ½ (f(d) + f(−d)), which pulls the two rewards together. It counts as one pair.
    Half,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kernel {
    Pairwise(PairFunction),
    PlackettLuce,
}

/// A loss on ranked lists: which function, and how its values are put together.
///
/// The cost of a pair is f(scale · (r_w − r_l) − margin) with a [`PairFunction`] f; the default is
/// the logistic one, scale 1, no margin, [`Reduction::Sum`], tied pairs skipped: [`rank_loss`].
/// [`RankLoss::plackett_luce`] looks at whole lists instead.
///
/// Rewards come in three forms, all with the same semantics: [`forward`](Self::forward) takes
/// `[..., K]` in order, best first; [`forward_lists`](Self::forward_lists) a flat `[N]` with
/// [`Lists`] of any lengths and ranks; [`forward_masked`](Self::forward_masked) a padded
/// `[..., K]` with a mask.
///
/// ```
/// use reward_model::{Lists, RankLoss, Reduction, Ties, tch::Tensor};
///
/// let loss = RankLoss::new().reduction(Reduction::MeanPerList).ties(Ties::Half);
/// let rewards = Tensor::from_slice(&[0.5_f32, 0.1, -0.3, 1.0, 0.0]);
/// let lists = Lists::from_lengths(&[3, 2]).with_ranks(&[1., 2., 2., 1., 2.])?;
/// let value = loss.forward_lists(&rewards, &lists)?;
/// assert_eq!(value.size(), [] as [i64; 0]);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RankLoss {
    kernel: Kernel,
    reduction: Reduction,
    ties: Ties,
    scale: f64,
    margin: f64,
    centering: f64,
    label_smoothing: f64,
    fused: bool,
}

impl Default for RankLoss {
    fn default() -> Self {
        RankLoss::new()
    }
}

impl RankLoss {
    /// The pairwise logistic loss, summed: [`rank_loss`].
    pub fn new() -> RankLoss {
        RankLoss::pairwise(PairFunction::Logistic)
    }

    /// The loss with this pair function, scale 1, and the function's customary margin: 1 for the
    /// hinges, 0 for the others.
    pub fn pairwise(function: PairFunction) -> RankLoss {
        RankLoss {
            kernel: Kernel::Pairwise(function),
            reduction: Reduction::Sum,
            ties: Ties::Skip,
            scale: 1.0,
            margin: function.default_margin(),
            centering: 0.0,
            label_smoothing: 0.0,
            fused: true,
        }
    }

    /// The Plackett–Luce loss: the negative log likelihood of drawing the responses in their order,
    /// each with probability proportional to e^r among those that are left,
    ///
    /// ```text
    /// Σ_k softplus(logsumexp_{j>k} r_j − r_k)  =  − Σ_k log( e^{r_k} / Σ_{j≥k} e^{r_j} )
    /// ```
    ///
    /// The first form, which keeps its digits, is what is computed, in f64. With two responses it
    /// is the logistic pair loss. Ties are an error; scale and margin do not apply.
    ///
    /// Source: Plackett 1975; as a loss, ListMLE, Xia et al. 2008.
    pub fn plackett_luce() -> RankLoss {
        RankLoss { kernel: Kernel::PlackettLuce, ..RankLoss::new() }
    }

    /// How values are put together; [`Reduction::Sum`] unless set.
    pub fn reduction(self, reduction: Reduction) -> RankLoss {
        RankLoss { reduction, ..self }
    }

    /// What becomes of tied pairs; [`Ties::Skip`] unless set.
    pub fn ties(self, ties: Ties) -> RankLoss {
        RankLoss { ties, ..self }
    }

    /// Factor on every difference of rewards (an inverse temperature); positive, 1 unless set.
    pub fn scale(self, scale: f64) -> RankLoss {
        RankLoss { scale, ..self }
    }

    /// What the winner must lead by, for every pair alike; margins per pair are in
    /// [`Lists::with_margins`] and add to this one.
    pub fn margin(self, margin: f64) -> RankLoss {
        RankLoss { margin, ..self }
    }

    /// Weight of the centring term (r_w + r_l)², which each pair's value is increased by; 0 unless
    /// set. It keeps rewards near zero, where the ranking alone leaves them free to drift.
    ///
    /// On pairs this is TRL's `center_rewards_coefficient` (Eisenstein et al. 2023, "Helping or
    /// Herding?"); on longer lists it is what TRL computes from the list's expanded pairs. For
    /// list-wise losses the mean over a list's pairs is added to the list's value.
    pub fn centering(self, weight: f64) -> RankLoss {
        RankLoss { centering: weight, ..self }
    }

    /// The share ε of labels that are taken to be wrong: an ordered pair costs
    /// (1 − ε) f(d) + ε f(−d), margins included, in place of f(d). From 0 to below one half, 0 unless
    /// set; list-wise losses have no pairs to apply it to, and refuse it.
    ///
    /// Source: Mitchell 2023, "A note on DPO with noisy preferences" (conservative DPO), as
    /// `label_smoothing` of TRL's DPOTrainer.
    ///
    /// ```
    /// use reward_model::{tch::Tensor, RankLoss};
    ///
    /// let rewards = Tensor::from_slice(&[1.0_f64, 0.0]);
    /// let loss = RankLoss::new().label_smoothing(0.1).forward(&rewards)?;
    /// let softplus = |x: f64| x.exp().ln_1p();
    /// let expected = 0.9 * softplus(-1.0) + 0.1 * softplus(1.0);
    /// assert!((loss.double_value(&[]) - expected).abs() < 1e-12);
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    pub fn label_smoothing(self, share: f64) -> RankLoss {
        RankLoss { label_smoothing: share, ..self }
    }

    /// Whether value and gradient may be computed in one pass, with memory for the rewards and not
    /// for their pairs; true unless set.
    ///
    /// | rewards | with `fused(true)` |
    /// |---|---|
    /// | f32 (or narrower) on a CPU, the logistic function, no margins per pair, no label smoothing, tied pairs skipped | one pass over the pairs, each computed in f64, on libtorch's number of threads for long lists; the centring term in closed form |
    /// | anything else, of more than a million pairs | libtorch's expressions, a million pairs at a time |
    /// | fewer, rewards that are not finite among them; [`Reduction::None`]; Plackett–Luce | as with `fused(false)`: libtorch's expressions on all pairs at once |
    ///
    /// The values are the same but for rounding. In the first two cases the gradient is a constant
    /// to libtorch: backward passes work as ever, but there are no **second derivatives** of the
    /// loss (`create_graph`). Whoever needs them says `fused(false)`.
    ///
    /// ```
    /// use reward_model::{tch::Tensor, RankLoss};
    ///
    /// let rewards = Tensor::from_slice(&[0.5_f32, 1.5, -0.5]).set_requires_grad(true);
    /// let (one_pass, all_pairs) = (RankLoss::new(), RankLoss::new().fused(false));
    /// let difference = one_pass.forward(&rewards)? - all_pairs.forward(&rewards)?;
    /// assert!(difference.double_value(&[]).abs() < 1e-6);
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    pub fn fused(self, fused: bool) -> RankLoss {
        RankLoss { fused, ..self }
    }

    /// How values are put together.
    pub fn get_reduction(&self) -> Reduction {
        self.reduction
    }

    /// What becomes of tied pairs.
    pub fn get_ties(&self) -> Ties {
        self.ties
    }

    /// The loss of rewards `[..., K]`, each row a list in order, best first.
    ///
    /// # Errors
    /// If `rewards` has no dimension or is not of a float dtype, or a setting is out of its bounds.
    pub fn forward(&self, rewards: &Tensor) -> Result<Tensor> {
        let size = rewards.size();
        let Some((&len, leading)) = size.split_last() else {
            return Err(Error::InvalidArgument(
                "the rewards are a scalar; they must be [K] or [..., K]".into(),
            ));
        };
        let lists = Lists::uniform(leading.iter().product::<i64>() as usize, len as usize);
        self.forward_lists(&rewards.f_reshape([-1])?, &lists)
    }

    /// The loss of rewards `[N]`, list after list, divided and ranked as `lists` says.
    ///
    /// # Errors
    /// If `rewards` is not `[lists.items()]` or not of a float dtype, if the number of margins is
    /// not that of valid pairs, if ranks are tied under Plackett–Luce, or if a setting is out of
    /// its bounds.
    pub fn forward_lists(&self, rewards: &Tensor, lists: &Lists) -> Result<Tensor> {
        self.check()?;
        if rewards.size() != [lists.items() as i64] {
            return Err(Error::InvalidArgument(format!(
                "the rewards are {:?}, but the lists hold {} items in one dimension",
                rewards.size(),
                lists.items()
            )));
        }
        let kind = compute_kind(rewards)?;
        let converted = (rewards.f_kind()? != kind).then(|| rewards.f_to_kind(kind)).transpose()?;
        let rewards = converted.as_ref().unwrap_or(rewards);
        match self.kernel {
            Kernel::Pairwise(function) => self.pairwise_loss(function, rewards, lists),
            Kernel::PlackettLuce => self.list_wise_loss(rewards, lists),
        }
    }

    /// The loss of padded rewards `[..., K]`: where `mask` (bool, the same shape) is false there is
    /// no response, whatever the reward there. Holes are allowed.
    ///
    /// Without `ranks` the responses of a row are in order, best first; `ranks` (the same shape,
    /// any number type; smaller is better) says otherwise. Mask and ranks are read on the host.
    ///
    /// # Errors
    /// As [`forward_lists`](Self::forward_lists); if mask or ranks have another shape, the mask is
    /// not bool, or a rank of a response is NaN.
    pub fn forward_masked(
        &self,
        rewards: &Tensor,
        mask: &Tensor,
        ranks: Option<&Tensor>,
    ) -> Result<Tensor> {
        let size = rewards.size();
        let Some(&len) = size.last() else {
            return Err(Error::InvalidArgument(
                "the rewards are a scalar; they must be [K] or [..., K]".into(),
            ));
        };
        if mask.size() != size || mask.f_kind()? != Kind::Bool {
            return Err(Error::InvalidArgument(format!(
                "the mask is {:?} {:?}; it must be Bool and {size:?}, as the rewards are",
                mask.f_kind()?,
                mask.size()
            )));
        }
        let mask: Vec<bool> = Vec::try_from(mask.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
        let kept: Vec<usize> = (0..mask.len()).filter(|&slot| mask[slot]).collect();
        let lengths: Vec<usize> = mask
            .chunks(len.max(1) as usize)
            .map(|row| row.iter().filter(|&&valid| valid).count())
            .collect();
        let mut lists = Lists::from_lengths(&lengths);
        if let Some(ranks) = ranks {
            if ranks.size() != size {
                return Err(Error::InvalidArgument(format!(
                    "the ranks are {:?}, the rewards {size:?}; they must have one shape",
                    ranks.size()
                )));
            }
            let ranks = ranks.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
            let ranks: Vec<f64> = Vec::try_from(ranks.f_reshape([-1])?)?;
            let ranks: Vec<f64> = kept.iter().map(|&slot| ranks[slot]).collect();
            lists = lists.with_ranks(&ranks)?;
        }
        let kept = upload_indices(kept, rewards.device())?;
        self.forward_lists(&rewards.f_reshape([-1])?.f_index_select(0, &kept)?, &lists)
    }

    /// Whether every setting is within its bounds.
    ///
    /// # Errors
    /// An [`Error::Config`] for the first one that is not.
    pub fn check(&self) -> Result<()> {
        let out = |field, value: f64, message: &str| {
            Err(Error::Config { field, value: value.to_string(), message: message.into() })
        };
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return out("scale", self.scale, "must be positive and finite");
        }
        if !self.margin.is_finite() {
            return out("margin", self.margin, "must be finite");
        }
        if !(self.centering.is_finite() && self.centering >= 0.0) {
            return out("centering", self.centering, "must be finite and not negative");
        }
        if !(0.0..0.5).contains(&self.label_smoothing) {
            return out("label_smoothing", self.label_smoothing, "must be from 0 to below 0.5");
        }
        if self.kernel == Kernel::PlackettLuce && self.label_smoothing != 0.0 {
            return out(
                "label_smoothing",
                self.label_smoothing,
                "Plackett-Luce has no pairs; use 0",
            );
        }
        if self.kernel == Kernel::PlackettLuce && self.reduction == Reduction::MeanPairs {
            return Err(Error::Config {
                field: "reduction",
                value: "mean_pairs".into(),
                message: "Plackett-Luce has no pairs to average over; use sum or mean_per_list"
                    .into(),
            });
        }
        Ok(())
    }

    fn list_wise_loss(&self, rewards: &Tensor, lists: &Lists) -> Result<Tensor> {
        if lists.margins().is_some() {
            return Err(Error::InvalidArgument(
                "margins are given, but Plackett-Luce has no pairs to apply them to".into(),
            ));
        }
        let values = plackett_luce::per_list(rewards, lists, self.centering)?;
        // Keeps a batch in which no list has two responses in the graph.
        let values = values.f_add(&rewards.f_narrow(0, 0, 0)?.f_sum(None)?)?;
        Ok(match self.reduction {
            Reduction::None => values,
            Reduction::MeanPerList => {
                let lists = lists.lengths().filter(|&length| length > 1).count();
                values.f_sum(None)?.f_div_scalar(lists.max(1) as f64)?
            }
            Reduction::Sum | Reduction::MeanPairs => values.f_sum(None)?,
        })
    }
}
