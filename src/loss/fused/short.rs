//! The pairs of short lists: each lane has a list of its own.

use super::lanes::{exp, Lanes, LANES};
use super::product::LogProduct;
use super::rows::Factored;

/// The most rewards of a short list: beyond that, the lanes are full with the pairs of one.
pub(super) const SHORT: usize = 16;

/// Σ weight · Σ log(1 + e^−z) over the pairs of a few lists, at most [`LANES`] of at most [`SHORT`]
/// rewards, which lie end to end, best first, from `offsets[0]` on; z = r_w − r_l − margin, and the
/// weights are 1 if there are none. With `GRADIENT`, its derivatives are left in `gradient`.
///
/// `None` if the rewards of a list are too far apart for factors (see [`Factored`]).
#[inline(always)]
pub(super) fn short<V: Lanes, const GRADIENT: bool>(
    rewards: &[f64],
    offsets: &[usize],
    weights: Option<&[f64]>,
    margin: f64,
    gradient: &mut [f64],
) -> Option<f64> {
    let mut longest = 0;
    let mut items = [[f64::NAN; LANES]; SHORT];
    for (lane, list) in offsets.windows(2).enumerate() {
        let list = &rewards[list[0] - offsets[0]..list[1] - offsets[0]];
        longest = longest.max(list.len());
        for (items, &reward) in items.iter_mut().zip(list) {
            items[lane] = reward;
        }
    }
    let items = &items[..longest];
    // What is not there, a NaN, is neither least nor most.
    let mut least = V::all(f64::INFINITY);
    let mut most = V::all(f64::NEG_INFINITY);
    for rewards in items.iter().map(V::load) {
        least = rewards.if_below(least, rewards, least);
        most = most.if_below(rewards, rewards, most);
    }
    // A lane without rewards has a spread of −∞.
    let spread = most.minus(least).to_array().into_iter().fold(0.0, f64::max);
    if !Factored::holds(spread, margin) {
        return None;
    }
    let centre = least.plus(most).times(V::all(0.5));
    let mut winners = [V::all(0.0); SHORT];
    let mut losers = [V::all(0.0); SHORT];
    let margin_factor = V::all(margin.exp());
    for ((items, winner), loser) in items.iter().zip(&mut winners).zip(&mut losers) {
        let reward = V::load(items);
        // False for a NaN.
        let there = |factor: V| reward.if_below(V::all(f64::INFINITY), factor, V::all(0.0));
        let factor = exp(reward.minus(centre));
        *loser = there(factor);
        *winner = there(margin_factor.over(factor));
    }
    let one = V::all(1.0);
    let mut slopes = [V::all(0.0); SHORT];
    let mut product = LogProduct::new((spread + margin).max(0.0) + std::f64::consts::LN_2);
    for first in 0..longest {
        let winner = winners[first];
        let mut wins = V::all(0.0);
        for (loser, slope) in losers[..longest].iter().zip(&mut slopes).skip(first + 1) {
            let x = winner.times(*loser);
            product.multiply(x);
            if GRADIENT {
                let won = x.times(x.plus(one).inverse());
                wins = wins.plus(won);
                *slope = slope.plus(won);
            }
        }
        slopes[first] = slopes[first].minus(wins);
    }
    if GRADIENT {
        let mut arrays = [[0.0; LANES]; SHORT];
        for (array, slope) in arrays.iter_mut().zip(slopes).take(longest) {
            slope.store(array);
        }
        for (lane, list) in offsets.windows(2).enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[lane]);
            let gradient = &mut gradient[list[0] - offsets[0]..list[1] - offsets[0]];
            for (to, slope) in gradient.iter_mut().zip(&arrays) {
                *to = weight * slope[lane];
            }
        }
    }
    Some(match weights {
        None => product.log(),
        Some(weights) if weights.iter().all(|weight| *weight == weights[0]) => {
            weights[0] * product.log()
        }
        Some(weights) => product.logs().iter().zip(weights).map(|(log, w)| log * w).sum(),
    })
}
