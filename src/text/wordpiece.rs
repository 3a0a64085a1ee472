//! Training of a WordPiece tokenizer such as BERT's.

use std::collections::BTreeMap;

use rayon::prelude::*;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer, Tokenizer, Trainer,
};

use crate::BoxError;

/// The special tokens, in the order of their ids.
pub(super) const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The most characters that get tokens of their own: all 6763 of GB 2312, with room for other
/// scripts and symbols.
const MAX_ALPHABET: usize = 8_000;

/// How often two neighbouring pieces must occur to become one.
const MIN_FREQUENCY: u64 = 2;

/// The least vocabulary: the special tokens and one character, at the start of a word and inside.
pub(super) const MIN_VOCAB_SIZE: usize = SPECIAL_TOKENS.len() + 2;

/// Trains on these texts, for a vocabulary of at most `vocab_size` tokens, which must be
/// [`MIN_VOCAB_SIZE`] or more.
pub(super) fn train(texts: &[&str], vocab_size: usize) -> Result<Tokenizer, BoxError> {
    let alphabet = alphabet(texts, vocab_size)?;

    // Left to itself, the trainer numbers characters in the order of a randomly seeded hash map,
    // and the numbers decide between pairs that are equally frequent. Listed as its special tokens
    // they have the same numbers in every run.
    let initials = alphabet.keys().map(char::to_string);
    let inner = alphabet.iter().filter(|(_, &inner)| inner).map(|(c, _)| format!("##{c}"));
    let seed = SPECIAL_TOKENS.into_iter().map(String::from).chain(initials).chain(inner);
    let mut trainer = WordPieceTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(MIN_FREQUENCY)
        .show_progress(false)
        .special_tokens(seed.map(|token| AddedToken::from(token, true)).collect())
        .build();
    let mut model = WordPiece::default();
    // A word with a character outside the alphabet, or of too many, will be [UNK] whatever its
    // parts are.
    trainer.feed(texts.iter(), |text| {
        let usable = |word: &String| {
            word.chars().all(|c| alphabet.contains_key(&c))
                && word.chars().count() <= model.max_input_chars_per_word
        };
        Ok(words(text)?.into_iter().filter(usable).collect())
    })?;
    trainer.train(&mut model)?;

    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::default()))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(WordPieceDecoder::default()));
    tokenizer.add_special_tokens(SPECIAL_TOKENS.map(|token| AddedToken::from(token, true)))?;
    let template = TemplateProcessing::builder()
        .try_single("[CLS] $A [SEP]")?
        .try_pair("[CLS] $A [SEP] $B:1 [SEP]:1")?
        .special_tokens(vec![("[CLS]", 2), ("[SEP]", 3)])
        .build()?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer)
}

/// The most frequent characters, as many as the vocabulary has room for, and whether each can stand
/// inside a word, where it is another token.
fn alphabet(texts: &[&str], vocab_size: usize) -> Result<BTreeMap<char, bool>, BoxError> {
    let counts = texts
        .par_iter()
        .try_fold(BTreeMap::<char, u64>::new, |mut counts, text| {
            for word in words(text)? {
                for c in word.chars() {
                    *counts.entry(c).or_default() += 1;
                }
            }
            Ok::<_, BoxError>(counts)
        })
        .try_reduce(BTreeMap::new, |mut all, counts| {
            for (c, count) in counts {
                *all.entry(c).or_default() += count;
            }
            Ok(all)
        })?;
    if counts.is_empty() {
        return Err("the texts have no words".into());
    }

    let mut by_count: Vec<(char, u64)> = counts.into_iter().collect();
    by_count.sort_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
    by_count.truncate(MAX_ALPHABET);
    let mut room = vocab_size.saturating_sub(SPECIAL_TOKENS.len());
    let mut alphabet = BTreeMap::new();
    for (c, _) in by_count {
        let inner = joins(c)?;
        let tokens = 1 + usize::from(inner);
        if tokens > room {
            break;
        }
        room -= tokens;
        alphabet.insert(c, inner);
    }
    Ok(alphabet)
}

/// Whether a word goes on over this character; it does not over punctuation and Chinese ones.
fn joins(c: char) -> Result<bool, BoxError> {
    Ok(words(&format!("a{c}a"))?.len() == 1)
}

fn words(text: &str) -> Result<Vec<String>, BoxError> {
    let mut normalized = NormalizedString::from(text);
    BertNormalizer::default().normalize(&mut normalized)?;
    let mut split = PreTokenizedString::from(normalized);
    BertPreTokenizer.pre_tokenize(&mut split)?;
    let words = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(words.into_iter().map(|(word, ..)| word.to_owned()).collect())
}
