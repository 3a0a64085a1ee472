//! Which lists send their common prefix through a decoder once.

use super::packed::Costs;
use crate::TokenBatch;

/// Whether the texts of a list send the tokens that all of them begin with through a decoder once
/// instead of once each. Scores and gradients are the same beyond rounding; dropout, where there is
/// any, draws one mask for the shared tokens instead of one for each text.
///
/// With K texts of P common and R further tokens, K·(P + R) tokens become P + K·R. What counts is
/// the longest common prefix of their token ids, of which each text keeps at least its last token
/// for itself, not where a prompt ends: conversations that agree in their first turns share those
/// too. Encoders never share (every token sees the whole text), nor do decoders whose rotations
/// depend on a text's length (`rope_type: dynamic`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// Where it is estimated to be faster, by the sizes of list and model.
    #[default]
    Auto,
    /// Wherever texts of a list have a first token in common.
    Always,
    /// Nowhere.
    Never,
}

impl Sharing {
    /// How many tokens the texts of each list share; 0 where they do not.
    pub(super) fn prefixes(self, batch: &TokenBatch, costs: &Costs) -> Vec<usize> {
        let list = |l: usize| {
            let texts: Vec<&[u32]> = batch.list(l).map(|t| batch.text(t)).collect();
            let shared = common_prefix(&texts);
            let wanted = match self {
                Sharing::Never => false,
                Sharing::Always => true,
                Sharing::Auto => pays(shared, texts.iter().map(|text| text.len()), costs),
            };
            if wanted {
                shared
            } else {
                0
            }
        };
        (0..batch.lists()).map(list).collect()
    }
}

/// How many tokens all of `texts` begin with, the last one of each text left out; 0 for fewer than
/// two texts.
fn common_prefix(texts: &[&[u32]]) -> usize {
    let [first, others @ ..] = texts else { return 0 };
    if others.is_empty() {
        return 0;
    }
    let common = |other: &&[u32]| first.iter().zip(*other).take_while(|(a, b)| a == b).count();
    let shortest = texts.iter().map(|text| text.len()).min().unwrap_or(0);
    others.iter().map(common).min().unwrap_or(0).min(shortest.saturating_sub(1))
}

/// Whether a layer is estimated to be faster on `shared` tokens once than on whole texts of these
/// lengths.
fn pays(shared: usize, lengths: impl Iterator<Item = usize> + Clone, costs: &Costs) -> bool {
    let (shared, squared) = (shared as f64, |n: f64| n * n / 2.0);
    let apart: f64 =
        lengths.clone().map(|n| n as f64).map(|n| n * costs.token + squared(n) * costs.pair).sum();
    let together: f64 = lengths
        .map(|n| n as f64)
        // Half of a causal square is skipped, none of a mask's rectangle.
        .map(|n| (n - shared) * (costs.token + n * costs.pair) + n * costs.copied)
        .sum();
    shared > 0.0
        && together + shared * costs.token + squared(shared) * costs.pair + costs.call < apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizedText;

    const COSTS: Costs = Costs { token: 1.6e6, pair: 1024.0, copied: 1.3e4, call: 5e6 };

    fn batch(lists: &[&[&[u32]]]) -> TokenBatch {
        let text = |ids: &&[u32]| TokenizedText::from_ids(*ids);
        let lists: Vec<Vec<_>> = lists.iter().map(|l| l.iter().map(text).collect()).collect();
        TokenBatch::from_lists(lists.iter().map(Vec::as_slice)).unwrap()
    }

    #[test]
    fn texts_share_what_all_of_them_begin_with_and_keep_a_token_each() {
        let batch = batch(&[
            &[&[1, 2, 3, 4], &[1, 2, 5], &[1, 2, 3, 4]],
            &[&[1, 2, 3], &[1, 2, 3, 4]],
            &[&[7, 8], &[7, 8]],
            &[&[7], &[7, 8]],
            &[&[1, 2, 3]],
            &[&[1, 2], &[2, 1]],
        ]);
        assert_eq!(Sharing::Always.prefixes(&batch, &COSTS), [2, 2, 1, 0, 0, 0]);
        assert_eq!(Sharing::Never.prefixes(&batch, &COSTS), [0; 6]);
    }

    #[test]
    fn long_prompts_are_shared_and_short_ones_are_not() {
        let list = |k: u32, p: u32, r: u32| -> TokenBatch {
            let texts: Vec<TokenizedText> = (0..k)
                .map(|k| {
                    TokenizedText::from_ids(
                        (0..p).chain([p + k; 1]).chain(0..r).collect::<Vec<_>>(),
                    )
                })
                .collect();
            TokenBatch::from_lists([texts.as_slice()]).unwrap()
        };
        assert_eq!(Sharing::Auto.prefixes(&list(4, 128, 64), &COSTS), [128]);
        assert_eq!(Sharing::Auto.prefixes(&list(2, 2, 64), &COSTS), [0]);
        assert_eq!(Sharing::Auto.prefixes(&list(1, 128, 64), &COSTS), [0]);
    }
}
