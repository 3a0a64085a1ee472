//! [`TokenBatch`]: what a model reads. Plain vectors, no tensor.

use std::ops::Range;

use crate::{Error, Result};

/// One text as tokens: the prompt's part first, then the response's, special tokens included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenizedText {
    /// Token ids, in order.
    pub ids: Vec<u32>,
    /// Segment (token type) id of each token, as pair encoders want them: 0 for the prompt's part,
    /// 1 for the response's.
    pub segments: Vec<u8>,
    /// How many of the tokens, counted from the start, belong to the prompt's part.
    pub prompt_len: usize,
}

impl TokenizedText {
    /// A text of these tokens, with segment 0 throughout and no prompt.
    pub fn from_ids(ids: impl Into<Vec<u32>>) -> Self {
        let ids = ids.into();
        let segments = vec![0; ids.len()];
        Self { ids, segments, prompt_len: 0 }
    }

    /// A text of these tokens and segments, of which the first `prompt_len` are the prompt's.
    ///
    /// # Errors
    /// If `segments` and `ids` differ in length, or `prompt_len` is larger than both.
    pub fn new(ids: Vec<u32>, segments: Vec<u8>, prompt_len: usize) -> Result<Self> {
        if ids.len() != segments.len() || prompt_len > ids.len() {
            return Err(Error::InvalidArgument(format!(
                "a text of {} tokens has {} segment ids and a prompt of {prompt_len} tokens",
                ids.len(),
                segments.len(),
            )));
        }
        Ok(Self { ids, segments, prompt_len })
    }
}

/// Lists of tokenised texts, laid end to end.
///
/// Always the complete texts: padding, packing or a shared prompt are a model's own business and
/// are derived from this. Text `t` owns the tokens `text_offsets[t]..text_offsets[t + 1]`, list
/// `l` the texts `list_offsets[l]..list_offsets[l + 1]`. It holds no tensor, is `Send + Sync`, and
/// can be made on any thread.
///
/// ```
/// use reward_model::{TokenBatch, TokenizedText};
///
/// let text = |ids: &[u32]| TokenizedText::from_ids(ids);
/// let batch = TokenBatch::from_lists([
///     &[text(&[101, 7, 102]), text(&[101, 8, 9, 102])][..],
///     &[text(&[101, 5, 102])][..],
/// ])?;
/// assert_eq!((batch.lists(), batch.texts(), batch.tokens()), (2, 3, 10));
/// assert_eq!(batch.text(1), [101, 8, 9, 102]);
/// assert_eq!(batch.list(0), 0..2);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    segments: Vec<u8>,
    text_offsets: Vec<usize>,
    list_offsets: Vec<usize>,
    prompt_lens: Vec<usize>,
}

impl TokenBatch {
    /// A batch of lists, each a slice of texts.
    ///
    /// # Errors
    /// If a text has no tokens, or its fields do not fit together.
    pub fn from_lists<'a>(
        lists: impl IntoIterator<Item = &'a [TokenizedText]>,
    ) -> Result<TokenBatch> {
        let mut batch = TokenBatch {
            ids: Vec::new(),
            segments: Vec::new(),
            text_offsets: vec![0],
            list_offsets: vec![0],
            prompt_lens: Vec::new(),
        };
        for list in lists {
            for text in list {
                let t = batch.prompt_lens.len();
                if text.ids.is_empty() {
                    return Err(Error::InvalidArgument(format!("text {t} has no tokens")));
                }
                if text.segments.len() != text.ids.len() || text.prompt_len > text.ids.len() {
                    return Err(Error::InvalidArgument(format!(
                        "text {t}: {} tokens, {} segment ids, {} prompt tokens",
                        text.ids.len(),
                        text.segments.len(),
                        text.prompt_len
                    )));
                }
                batch.ids.extend_from_slice(&text.ids);
                batch.segments.extend_from_slice(&text.segments);
                batch.text_offsets.push(batch.ids.len());
                batch.prompt_lens.push(text.prompt_len);
            }
            batch.list_offsets.push(batch.prompt_lens.len());
        }
        Ok(batch)
    }

    /// A batch in which every text is a list of its own.
    ///
    /// # Errors
    /// As [`TokenBatch::from_lists`].
    pub fn from_texts<'a>(
        texts: impl IntoIterator<Item = &'a TokenizedText>,
    ) -> Result<TokenBatch> {
        TokenBatch::from_lists(texts.into_iter().map(std::slice::from_ref))
    }

    /// The same batch with other token ids, one for each token.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn with_ids(&self, ids: Vec<u32>) -> Result<TokenBatch> {
        if ids.len() != self.ids.len() {
            return Err(Error::InvalidArgument(format!(
                "{} ids for a batch of {} tokens",
                ids.len(),
                self.ids.len()
            )));
        }
        Ok(TokenBatch { ids, ..self.clone() })
    }

    /// One of the lists, alone. Panics if there is no such list, as slices do.
    #[cfg(feature = "train")]
    pub(crate) fn only(&self, list: usize) -> TokenBatch {
        let texts = self.list(list);
        let offsets = &self.text_offsets[texts.start..=texts.end];
        let tokens = offsets[0]..offsets[texts.len()];
        TokenBatch {
            ids: self.ids[tokens.clone()].to_vec(),
            segments: self.segments[tokens.clone()].to_vec(),
            text_offsets: offsets.iter().map(|offset| offset - tokens.start).collect(),
            list_offsets: vec![0, texts.len()],
            prompt_lens: self.prompt_lens[texts].to_vec(),
        }
    }

    /// How many lists there are.
    pub fn lists(&self) -> usize {
        self.list_offsets.len() - 1
    }

    /// How many texts there are in all lists.
    pub fn texts(&self) -> usize {
        self.prompt_lens.len()
    }

    /// How many tokens there are in all texts.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// All token ids, text after text.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The segment id of each token.
    pub fn segments(&self) -> &[u8] {
        &self.segments
    }

    /// Where each text starts in [`ids`](Self::ids), and where the last one ends: texts + 1 values.
    pub fn text_offsets(&self) -> &[usize] {
        &self.text_offsets
    }

    /// Which text each list starts with, and the number of texts: lists + 1 values.
    pub fn list_offsets(&self) -> &[usize] {
        &self.list_offsets
    }

    /// How many tokens at the start of each text belong to its prompt.
    pub fn prompt_lens(&self) -> &[usize] {
        &self.prompt_lens
    }

    /// The token ids of text `t`. Panics if there is no such text, as slices do.
    pub fn text(&self, t: usize) -> &[u32] {
        &self.ids[self.text_offsets[t]..self.text_offsets[t + 1]]
    }

    /// The texts of list `l`. Panics if there is no such list, as slices do.
    pub fn list(&self, l: usize) -> Range<usize> {
        self.list_offsets[l]..self.list_offsets[l + 1]
    }

    /// The number of tokens of each text.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.text_offsets.windows(2).map(|w| w[1] - w[0])
    }
}
