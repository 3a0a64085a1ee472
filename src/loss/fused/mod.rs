//! The logistic loss of f32 rewards on a CPU, value and gradient in one pass, without a tensor of
//! pairs.
//!
//! Memory is O(items). Arithmetic is f64 on rewards as they are, so the result is the formula's,
//! rounded once to f32. `rows` has what is done for the pairs of a list, `short` for those of short
//! lists side by side; `parallel` divides a batch; `centering` needs no pairs.

mod centering;
mod lanes;
mod parallel;
mod product;
mod rows;
mod short;

use tch::{Device, Kind, Tensor};

use self::parallel::{Batch, Cost};
use super::{analytic, Lists, Reduction};
use crate::torch::overwrite;
use crate::Result;

/// What a pair costs, log(1 + e^−z) + centering · (r_w + r_l)² with z = scale · (r_w − r_l) − margin,
/// and what becomes of it.
pub(super) struct Settings {
    pub scale: f64,
    pub margin: f64,
    pub centering: f64,
    pub reduction: Reduction,
}

/// The loss of rewards `[N]`, tied pairs skipped, lists without margins of their own; `None` if
/// this is not the way to compute it: on another device, in another dtype, with rewards that are
/// not finite, without a pair, or for a value of each.
pub(super) fn forward(
    settings: &Settings,
    rewards: &Tensor,
    lists: &Lists,
) -> Result<Option<Tensor>> {
    let value_per_pair = settings.reduction == Reduction::None;
    if value_per_pair || rewards.device() != Device::Cpu || rewards.f_kind()? != Kind::Float {
        return Ok(None);
    }
    let mut values = vec![0f32; lists.items()];
    rewards.f_copy_data(&mut values, lists.items())?;
    let order = lists.end_to_end();
    let value_at = |at: usize| f64::from(values[order.as_ref().map_or(at, |o| o.items[at])]);
    let plain: Vec<f64> = (0..values.len()).map(value_at).collect();
    let scaled: Vec<f64> = plain.iter().map(|reward| settings.scale * reward).collect();
    if !scaled.iter().all(|reward| reward.is_finite()) {
        return Ok(None);
    }
    let mut batch = Batch {
        rewards: scaled,
        losers_from: None,
        offsets: lists.offsets().to_vec(),
        weights: None,
        margin: settings.margin,
    };
    let items = order.map(|order| {
        if order.has_ties() {
            batch.losers_from = Some(order.tie_ends);
        }
        order.items
    });
    let per_list = batch.pairs_per_list();
    let pairs: usize = per_list.iter().sum();
    if pairs == 0 {
        return Ok(None);
    }
    let mut weight = 1.0;
    match settings.reduction {
        Reduction::Sum | Reduction::None => {}
        Reduction::MeanPairs => weight /= pairs as f64,
        Reduction::MeanPerList => {
            weight /= per_list.iter().filter(|&&pairs| pairs > 0).count() as f64;
            // A list without pairs has a weight too, which is finite: 0 times it is 0.
            let weights = per_list.iter().map(|&pairs| 1.0 / pairs.max(1) as f64);
            batch.weights = Some(weights.collect());
        }
    }
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
    let Cost { value, gradient } = batch.cost(pairs, threads, rewards.requires_grad());
    let centered = (settings.centering != 0.0).then(|| batch.centering(&plain));
    let term = centered.as_ref().map_or(0.0, |(term, _)| settings.centering * term);
    let value = weight * (value + term);
    let Some(slopes) = gradient else {
        return Ok(Some(Tensor::f_from_slice(&[value as f32])?.f_reshape([0i64; 0])?));
    };
    let mut gradient = values;
    for (at, slope) in slopes.iter().enumerate() {
        // Slopes of the pairs are with respect to scaled rewards.
        let mut slope = settings.scale * slope;
        if let Some((_, slopes)) = &centered {
            slope += settings.centering * slopes[at];
        }
        gradient[items.as_ref().map_or(at, |items| items[at])] = (weight * slope) as f32;
    }
    let gradient = Tensor::f_from_slice(&gradient)?;
    // Infinity, if f32 has no such number.
    let loss = analytic::scalar(rewards, &gradient, |loss| overwrite(loss, value as f32))?;
    Ok(Some(loss))
}
