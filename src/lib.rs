//! stub
#![deny(missing_docs)]
mod error;
pub mod loss;
#[cfg(feature = "models")]
pub mod model;
mod torch;
#[cfg(feature = "text")]
mod text {
    mod batch;
    pub use batch::*;
}
pub use error::{BoxError, Error, Result};
pub use loss::{rank_loss, Lists, PairFunction, RankLoss, Reduction, Ties};
#[cfg(feature = "models")]
pub use model::{Bert, BertConfig, Mode, RewardModel};
pub use tch;
#[cfg(feature = "text")]
pub use text::*;
pub use torch::parse_device;
