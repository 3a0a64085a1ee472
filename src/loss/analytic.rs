//! A scalar whose value and gradient are already known.

use tch::Tensor;

use crate::Result;

/// A scalar of the value that `fill` puts into it, through which `backward` brings `gradient` to
/// `rewards`; both `[N]`, of one dtype and device.
///
/// It is gradient · rewards as far as the graph knows; the value is written over the product's,
/// which no backward pass reads, and the graph must not hear of it. (To add the difference instead
/// would leave its rounding in a small value, and NaN for an infinite reward.) The gradient is a
/// constant: there is no second derivative.
pub(super) fn scalar(
    rewards: &Tensor,
    gradient: &Tensor,
    fill: impl FnOnce(&mut Tensor) -> Result<()>,
) -> Result<Tensor> {
    let mut scalar = rewards.f_dot(gradient)?;
    fill(&mut scalar)?;
    Ok(scalar)
}
