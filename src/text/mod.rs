//! From text to tokens: the tokenizer, the template of prompt and response, and batches.
//!
//! Training, evaluation and scoring take the same path, so that a text has the same tokens
//! wherever it is scored: [`Tokenizer::encode`], or [`Tokenizer::encode_list`] for a whole
//! [`RankedList`](crate::RankedList), gives [`TokenizedText`]s, and these make a [`TokenBatch`],
//! which is what a model reads. A tokenizer comes from a model folder ([`Tokenizer::load`]) or
//! is trained on a corpus of one's own ([`Tokenizer::train`]).
//!
//! Nothing in here knows of tensors or devices; everything is `Send + Sync`.

mod batch;
mod batching;
mod chat_template;
mod config;
mod continuation;
mod encode;
mod growth;
mod layout;
mod limits;
mod overrule;
mod random;
mod special;
mod template;
mod tokenizer;
mod wordpiece;

pub use batch::{TokenBatch, TokenizedText};
pub use batching::{length_grouped_batches, sorted_batches};
pub use chat_template::ChatTemplate;
pub use encode::TokenizedList;
pub use layout::Layout;
pub use limits::Limits;
#[cfg(feature = "train")]
pub(crate) use random::Random;
pub use tokenizer::Tokenizer;
