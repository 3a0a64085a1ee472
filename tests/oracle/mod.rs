//! Losses as double loops in f64, written from the formulas and sharing nothing with the crate.

// Each test that includes it uses a part of it.
#![allow(dead_code)]

use reward_model::{Lists, PairFunction, RankLoss, Reduction, Ties};

/// log(1 + e^x), which keeps its digits at both ends.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

pub fn rank_loss(rewards: &[f64]) -> f64 {
    let mut sum = 0.0;
    for w in 0..rewards.len() {
        for l in w + 1..rewards.len() {
            sum += softplus(-(rewards[w] - rewards[l]));
        }
    }
    sum
}

pub fn expected_minus_actual_wins(rewards: &[f64], i: usize) -> f64 {
    let expected: f64 = (0..rewards.len())
        .filter(|&j| j != i)
        .map(|j| 1.0 / (1.0 + (rewards[j] - rewards[i]).exp()))
        .sum();
    expected - (rewards.len() - 1 - i) as f64
}

pub fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|v| (v - most).exp()).sum::<f64>().ln()
}

pub fn plackett_luce(rewards: &[f64]) -> f64 {
    (0..rewards.len().saturating_sub(1))
        .map(|k| softplus(log_sum_exp(&rewards[k + 1..]) - rewards[k]))
        .sum()
}

/// Σ_{k ≤ i} P(i is drawn k-th from those left) − 1, and no "− 1" for the last one.
pub fn plackett_luce_gradient(rewards: &[f64], i: usize) -> f64 {
    let last = rewards.len() - 1;
    let drawn: f64 = (0..=i.min(last.saturating_sub(1)))
        .filter(|&k| k < last)
        .map(|k| (rewards[i] - log_sum_exp(&rewards[k..])).exp())
        .sum();
    drawn - if i < last { 1.0 } else { 0.0 }
}

pub fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * b.abs().max(1e-12)
}

/// One setting of the loss with lists of (reward, rank).
#[derive(Clone, Debug)]
pub struct Case {
    pub lists: Vec<Vec<(f64, f64)>>,
    pub function: PairFunction,
    pub ties: Ties,
    pub reduction: Reduction,
    pub scale: f64,
    pub margin: f64,
    pub centering: f64,
}

impl Case {
    pub fn loss(&self) -> RankLoss {
        RankLoss::pairwise(self.function)
            .ties(self.ties)
            .reduction(self.reduction)
            .scale(self.scale)
            .margin(self.margin)
            .centering(self.centering)
    }

    pub fn tensors(&self) -> (Vec<f64>, Lists) {
        let (rewards, ranks): (Vec<f64>, Vec<f64>) = self.lists.iter().flatten().copied().unzip();
        let lengths: Vec<usize> = self.lists.iter().map(Vec::len).collect();
        (rewards, Lists::from_lengths(&lengths).with_ranks(&ranks).unwrap())
    }

    pub fn value(&self) -> f64 {
        let f = |d: f64| {
            let z = self.scale * d - self.margin;
            match self.function {
                PairFunction::Logistic => softplus(-z),
                PairFunction::Sigmoid => -1.0 / (1.0 + (-z).exp()),
                PairFunction::Hinge => (-z).max(0.0),
                PairFunction::SquaredHinge => (-z).max(0.0).powi(2),
                _ => unimplemented!(),
            }
        };
        let mut lists = Vec::new();
        for list in &self.lists {
            let mut costs = Vec::new();
            for (i, &(a, rank_a)) in list.iter().enumerate() {
                for (j, &(b, rank_b)) in list.iter().enumerate() {
                    let centre = self.centering * (a + b).powi(2);
                    if rank_a < rank_b {
                        costs.push(f(a - b) + centre);
                    } else if rank_a == rank_b && i < j && self.ties == Ties::Half {
                        costs.push((f(a - b) + f(b - a)) / 2.0 + centre);
                    }
                }
            }
            lists.push(costs);
        }
        let sum = |costs: &Vec<f64>| costs.iter().sum::<f64>();
        let total: f64 = lists.iter().map(sum).sum();
        let pairs: usize = lists.iter().map(Vec::len).sum();
        let answered: Vec<_> = lists.iter().filter(|costs| !costs.is_empty()).collect();
        match self.reduction {
            _ if pairs == 0 => 0.0,
            Reduction::Sum => total,
            Reduction::MeanPairs => total / pairs as f64,
            Reduction::MeanPerList => {
                let means = answered.iter().map(|costs| sum(costs) / costs.len() as f64);
                means.sum::<f64>() / answered.len() as f64
            }
            _ => unimplemented!(),
        }
    }

    /// For each reward, what pushes it up and what pushes it down: of a logistic loss that skips
    /// ties, Σ scale · σ(−z) over the pairs it ought to win, and over those it ought to lose; of
    /// centring, 2 · centering · |r + r'| to the side where that is less.
    pub fn slopes(&self) -> Vec<(f64, f64)> {
        let pairs_of = |list: &Vec<(f64, f64)>| {
            let below = |a: f64| list.iter().filter(|item| item.1 > a).count();
            list.iter().map(|item| below(item.1)).sum::<usize>()
        };
        let pairs: Vec<usize> = self.lists.iter().map(pairs_of).collect();
        let answered = pairs.iter().filter(|&&pairs| pairs > 0).count();
        let mut slopes = Vec::new();
        for (list, &here) in self.lists.iter().zip(&pairs) {
            let weight = match self.reduction {
                Reduction::Sum => 1.0,
                Reduction::MeanPairs => 1.0 / pairs.iter().sum::<usize>() as f64,
                Reduction::MeanPerList => 1.0 / (here as f64 * answered as f64),
                _ => unimplemented!(),
            };
            let push = |winner: f64, loser: f64| {
                let z = self.scale * (winner - loser) - self.margin;
                weight * self.scale / (1.0 + z.exp())
            };
            for &(reward, rank) in list {
                let below = list.iter().filter(|item| item.1 > rank);
                let above = list.iter().filter(|item| item.1 < rank);
                let others = list.iter().filter(|item| item.1 != rank);
                let centre = others.map(|item| 2.0 * weight * self.centering * (reward + item.0));
                let (down, up): (Vec<f64>, Vec<f64>) = centre.partition(|&slope| slope > 0.0);
                slopes.push((
                    below.map(|item| push(reward, item.0)).sum::<f64>() - up.iter().sum::<f64>(),
                    above.map(|item| push(item.0, reward)).sum::<f64>() + down.iter().sum::<f64>(),
                ));
            }
        }
        slopes
    }

    /// The slope with respect to reward `i` of all lists laid end to end, by central differences.
    pub fn slope(&self, i: usize, step: f64) -> f64 {
        let at = |offset: f64| {
            let mut moved = self.clone();
            if let Some(item) = moved.lists.iter_mut().flatten().nth(i) {
                item.0 += offset;
            }
            moved.value()
        };
        (at(step) - at(-step)) / (2.0 * step)
    }
}
