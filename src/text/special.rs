//! What a tokenizer tells of its special tokens.

use super::Tokenizer;

impl Tokenizer {
    /// The id of the token that stands for a hidden one in masked-token prediction, if there is one:
    /// the `mask_token` that the folder's files name, else `[MASK]` or `<mask>`.
    pub fn mask_id(&self) -> Option<u32> {
        let named = [self.config.token("mask_token"), self.special_tokens.token("mask_token")];
        let usual = [Some("[MASK]"), Some("<mask>")];
        named.into_iter().chain(usual).flatten().find_map(|token| self.token_id(token))
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
