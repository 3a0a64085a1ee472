//! What one pair costs.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::Result;

/// The cost of one pair, a function of z = scale · (r_w − r_l) − margin.
///
/// | function | f(z) | at z = 0 | grows like | source |
/// |---|---|---|---|---|
/// | `Logistic` | −log σ(z) = log(1 + e^(−z)) | ln 2 | linearly | Bradley & Terry 1952; RankNet, Burges et al. 2005 |
/// | `Sigmoid` | −σ(z) | −½ | never: bounded by 0 | the rank loss as told in prose; forgiving of wrong labels |
/// | `Hinge` | max(0, −z) | 0 | linearly | Herbrich et al. 2000 (with margin 1) |
/// | `SquaredHinge` | max(0, −z)² | 0 | quadratically | Chapelle & Keerthi 2010 (with margin 1) |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PairFunction {
    /// −log σ(z), the pairwise logistic loss.
    #[default]
    Logistic,
    /// −σ(z): the expected number of wins, negated.
    Sigmoid,
    /// max(0, −z).
    Hinge,
    /// max(0, −z)².
    SquaredHinge,
}

impl PairFunction {
    /// f(z), element by element.
    pub(super) fn apply(self, z: &Tensor) -> Result<Tensor> {
        Ok(match self {
            // log σ, not softplus: libtorch's softplus is linear above 20 and loses 1e-10 there.
            PairFunction::Logistic => z.f_log_sigmoid()?.f_neg()?,
            PairFunction::Sigmoid => z.f_sigmoid()?.f_neg()?,
            PairFunction::Hinge => z.f_neg()?.f_relu()?,
            PairFunction::SquaredHinge => z.f_neg()?.f_relu()?.f_square()?,
        })
    }

    /// The margin that the function has by custom: 1 for the hinges (without one, equal rewards
    /// would cost nothing), 0 for the others.
    pub(super) fn default_margin(self) -> f64 {
        match self {
            PairFunction::Hinge | PairFunction::SquaredHinge => 1.0,
            PairFunction::Logistic | PairFunction::Sigmoid => 0.0,
        }
    }
}
