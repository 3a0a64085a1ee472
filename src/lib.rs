//! Reward models: transformers that learn to score answers from the order people put them in.
//!
//! Given answers to a prompt in order of preference, A > B > C > D, training makes
//! r(A) > r(B) > r(C) > r(D) by minimising the pairwise rank loss over every ordered pair,
//!
//! ```text
//! rank_loss(r) = − Σ_{w ranked above l} log σ(r_w − r_l)
//! ```
//!
//! on libtorch tensors, through [`tch`], on CPU or CUDA. Each answer is scored once, so a list of K
//! costs K forward passes, not K·(K−1).
//!
//! # In a trainer of your own
//!
//! [`rank_loss`] takes rewards best first and gives a scalar to back-propagate from; [`RankLoss`]
//! has other pair functions, a list-wise loss, reductions, ties, margins, and lists of different
//! lengths. Neither needs any of this crate's features.
//!
//! ```
//! use reward_model::{rank_loss, tch::Tensor};
//!
//! let rewards = Tensor::from_slice(&[0.3_f32, 0.9, -0.2]).set_requires_grad(true);
//! rank_loss(&rewards)?.f_backward()?;
//! // The first one ought to win twice and would be expected to win less than that: raise it.
//! assert!(rewards.grad().double_value(&[0]) < 0.0);
//! # Ok::<(), reward_model::Error>(())
//! ```
//!
//! # From a ranked file to a model folder
//!
//! ```no_run
//! use reward_model::{
//!     data, tch::Device, text::Tokenizer, EncoderConfig, RankedList, Scorer, TrainConfig, Trainer,
//!     Transformer,
//! };
//!
//! let lists = data::read("lists.jsonl")?;
//! let texts = lists.iter().flat_map(|list| list.responses()).map(|response| response.text());
//! let tokenizer = Tokenizer::train(texts, 8000)?;
//! let config = EncoderConfig {
//!     vocab_size: tokenizer.vocab_size() as i64,
//!     hidden_size: 128,
//!     num_hidden_layers: 2,
//!     num_attention_heads: 2,
//!     intermediate_size: 256,
//!     ..EncoderConfig::default()
//! };
//! let model = Transformer::random(config, 0, Device::Cpu)?;
//! let settings = TrainConfig { learning_rate: 1e-3, ..TrainConfig::default() };
//! let mut trainer = Trainer::new(Box::new(model), tokenizer, settings)?;
//! trainer.train(&lists, &[], &mut |_event| Ok(()))?;
//! trainer.save("my-reward-model", false)?;
//!
//! let scorer = Scorer::load("my-reward-model", Device::Cpu)?;
//! let answers = RankedList::new(["Superb.", "Broken."])?.with_prompt("Any good?");
//! println!("{:?}", scorer.score_list(&answers)?);
//! # Ok::<(), reward_model::Error>(())
//! ```
//!
//! The folder is one that Python's `AutoModelForSequenceClassification` and `AutoTokenizer` load.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | none of them | [`RankedList`], [`metrics`], the [losses](loss) |
//! | `data` | [`LabelledText`], [readers](data) of JSONL, TSV and CSV files, the report on what is in them |
//! | `text` | [`text::Tokenizer`], [`TokenBatch`] |
//! | `models` | [`RewardModel`], [`Transformer`], [`Scorer`], model folders |
//! | `train` (default) | [`Trainer`] |
//! | `parquet` | the readers take Parquet files |
//! | `hub` | `hub::download`: model folders from the Hugging Face Hub, and nothing unless asked |
//! | `report` | `report::write`: a page about a run, with its curves as SVG and PNG |
//! | `download-libtorch`, `doc-only` | forwarded to tch |
//!
//! Nothing here panics on what a user, a file or a device can cause: every such thing is an
//! [`Error`] that says what was found, what was expected, and what to do. libtorch has one random
//! generator and one number of threads for the whole process; the crate says where it touches them.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conversation;
#[cfg(feature = "data")]
pub mod data;
mod error;
#[cfg(feature = "hub")]
pub mod hub;
pub mod loss;
pub mod metrics;
#[cfg(feature = "models")]
pub mod model;
mod ranking;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "models")]
mod score;
#[cfg(feature = "text")]
pub mod text;
mod torch;
#[cfg(feature = "train")]
mod train;

pub use conversation::Message;
#[cfg(feature = "data")]
pub use data::{Label, LabelledText};
pub use error::{BoxError, Error, Result};
pub use loss::{rank_loss, Lists, PairFunction, RankLoss, Reduction, Ties};
#[cfg(feature = "models")]
pub use model::{
    Backbone, DecoderConfig, EncoderConfig, FrozenLayers, LoadOptions, Mode, ModelConfig,
    RewardModel, Transformer,
};
pub use ranking::{RankedList, Ranking, Response};
#[cfg(feature = "models")]
pub use score::Scorer;
/// The libtorch bindings that this crate is built on, so that a dependent needs no line for them.
pub use tch;
#[cfg(feature = "text")]
pub use text::{TokenBatch, TokenizedText};
#[cfg(feature = "train")]
pub use torch::fused_adamw;
pub use torch::parse_device;
#[cfg(feature = "train")]
pub use train::{
    BatchLoss, Callbacks, Classification, Decisions, Evaluation, EvaluationSet, Event,
    LabelledEvaluation, Objective, ParameterGroup, Prepared, PreparedExample, Provenance,
    RankedLists, Ranks, Regression, RunFolder, Schedule, Selection, Start, Step, TokenEvaluation,
    TokenPrediction, TrainConfig, Trainer,
};

/// The programs in the README, which are compiled and run with the documentation's.
#[cfg(all(doctest, feature = "train"))]
#[doc = include_str!("../README.md")]
struct Readme;
