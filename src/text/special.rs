//! What a tokenizer tells of its special tokens.

use super::Tokenizer;

impl Tokenizer {
    /// The id of the token that a continuation ends with.
    pub(super) fn end_of_sequence(&self) -> Option<u32> {
        let roles = ["eos_token", "sep_token"].into_iter();
        roles.filter_map(|role| self.named(role)).find_map(|token| self.token_id(token))
    }

    /// The id of the token that stands for a hidden one in masked-token prediction, if there is one:
    /// the `mask_token` that the folder's files name, else `[MASK]` or `<mask>`.
    pub fn mask_id(&self) -> Option<u32> {
        let usual = [Some("[MASK]"), Some("<mask>")];
        let named = std::iter::once(self.named("mask_token"));
        named.chain(usual).flatten().find_map(|token| self.token_id(token))
    }

    /// The ids of all special tokens, such as `[CLS]`, in order.
    pub fn special_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special);
        let mut ids: Vec<u32> = special.map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }
}
