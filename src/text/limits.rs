//! [`Limits`]: how long a text may be.

use crate::{Error, Result};

/// How many tokens a text, and the prompt in it, may have.
///
/// A prompt of more than `max_prompt_length` tokens loses its first ones, whatever the responses
/// are, so that all responses of a list are scored against one and the same prompt. A response is
/// never cut: one that does not fit into the rest is [`Error::TooLong`].
///
/// The default is 512 tokens, 256 of them for the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most tokens that a text may have, special tokens included; not more than the model has
    /// positions for.
    pub max_length: usize,
    /// The most tokens that are kept of a prompt, special tokens not counted.
    pub max_prompt_length: usize,
}

impl Limits {
    /// Texts of at most `max_length` tokens, of which half may be the prompt's.
    ///
    /// ```
    /// use reward_model::text::Limits;
    ///
    /// assert_eq!(Limits::new(512), Limits::default());
    /// assert_eq!(Limits::new(128).with_max_prompt_length(100).max_prompt_length, 100);
    /// ```
    pub fn new(max_length: usize) -> Limits {
        Limits { max_length, max_prompt_length: max_length / 2 }
    }

    /// The same with another limit for the prompt.
    #[must_use]
    pub fn with_max_prompt_length(self, max_prompt_length: usize) -> Limits {
        Limits { max_prompt_length, ..self }
    }

    /// Checks that beside the longest prompt and `special` special tokens at least one token of a
    /// response fits.
    pub(super) fn check(self, special: usize) -> Result<Limits> {
        let least = special + 2;
        if self.max_length < least {
            return Err(Error::Config {
                field: "max_length",
                value: self.max_length.to_string(),
                message: format!(
                    "must be at least {least}: {special} special tokens, a token of the prompt \
                     and one of the response"
                ),
            });
        }
        let most = self.max_length - special - 1;
        if !(1..=most).contains(&self.max_prompt_length) {
            return Err(Error::Config {
                field: "max_prompt_length",
                value: self.max_prompt_length.to_string(),
                message: format!(
                    "must be 1 to {most}: max_length is {}, and {special} special tokens and a \
                     token of the response must fit as well",
                    self.max_length
                ),
            });
        }
        Ok(self)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::new(512)
    }
}
