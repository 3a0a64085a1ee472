//! The Plackett–Luce list-wise loss.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::Lists;
use crate::torch::upload_indices;
use crate::{Error, Result};

/// One value per list, in order: Σ_k softplus(logsumexp_{j>k} r_j − r_k), items best first, plus
/// `centering` times the mean of (r_i + r_j)² over the list's pairs; 0 for fewer than two items.
///
/// Computed in f64: the gradient of `logcumsumexp` goes through exponentials of differences as
/// large as the rewards' spread, which leave f32 no digits.
pub(super) fn per_list(rewards: &Tensor, lists: &Lists, centering: f64) -> Result<Tensor> {
    // Lists of one length form one matrix, so nothing is ever computed on padding.
    let mut by_length: BTreeMap<usize, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    let mut empty = Vec::new();
    for (number, list) in lists.in_order().enumerate() {
        if list.has_ties() {
            return Err(Error::InvalidArgument(format!(
                "list {number} has tied ranks; Plackett-Luce is defined for strict orders only"
            )));
        }
        if list.items.len() < 2 {
            empty.push(number);
        } else {
            let (numbers, items) = by_length.entry(list.items.len()).or_default();
            numbers.push(number);
            items.extend(list.items);
        }
    }

    let kind = rewards.f_kind()?;
    let wide = rewards.f_to_kind(Kind::Double)?;
    let zeros = Tensor::f_zeros([empty.len() as i64], (Kind::Double, rewards.device()))?;
    let (mut values, mut numbers) = (vec![zeros], empty);
    for (length, (group, items)) in by_length {
        let shape = [group.len() as i64, length as i64];
        let items = upload_indices(items, rewards.device())?;
        let block = wide.f_index_select(0, &items)?.f_reshape(shape)?;
        let mut value = strict(&block)?;
        if centering != 0.0 {
            value = value.f_add(&mean_pair_sum_squared(&block)?.f_mul_scalar(centering)?)?;
        }
        values.push(value);
        numbers.extend(group);
    }
    let mut position = vec![0; numbers.len()];
    for (from, to) in numbers.into_iter().enumerate() {
        position[to] = from;
    }
    let position = upload_indices(position, rewards.device())?;
    Ok(Tensor::f_cat(&values, 0)?.f_index_select(0, &position)?.f_to_kind(kind)?)
}

/// `[n, K]`, best first, K at least 2, to `[n]`.
fn strict(rewards: &Tensor) -> Result<Tensor> {
    let others = rewards.size()[1] - 1;
    let below = rewards.f_narrow(1, 1, others)?.f_flip([1])?.f_logcumsumexp(1)?.f_flip([1])?;
    let lead = rewards.f_narrow(1, 0, others)?.f_sub(&below)?;
    Ok(lead.f_log_sigmoid()?.f_neg()?.f_sum_dim_intlist([1i64].as_slice(), false, None)?)
}

/// `[n, K]` to `[n]`: the mean of (r_i + r_j)² over all i < j, as ((K − 2) Σ r² + (Σ r)²) / C(K, 2).
fn mean_pair_sum_squared(rewards: &Tensor) -> Result<Tensor> {
    let len = rewards.size()[1] as f64;
    let over = [1i64];
    let squares = rewards.f_square()?.f_sum_dim_intlist(over.as_slice(), false, None)?;
    let square = rewards.f_sum_dim_intlist(over.as_slice(), false, None)?.f_square()?;
    let total = squares.f_mul_scalar(len - 2.0)?.f_add(&square)?;
    Ok(total.f_div_scalar(len * (len - 1.0) / 2.0)?)
}
