//! How much longer a text may become before it is cut into tokens.

use serde::Serialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::BoxError;

/// Far above what any tokenizer does: NFKC's worst character becomes 18, a space "▁" three bytes.
const MOST: f64 = 10_000.0;

/// Refuses a tokenizer whose normalisers and pre-tokenizers could together make a text more than
/// [`MOST`] times longer: a short file can ask for more memory than there is.
pub(super) fn check(tokenizer: &Tokenizer) -> Result<(), BoxError> {
    let factor = of(tokenizer.get_normalizer())? * of(tokenizer.get_pre_tokenizer())?;
    if factor > MOST {
        return Err(format!(
            "its normalizer and pre_tokenizer could make a text {factor:.0} times longer; the most \
             is {MOST}"
        )
        .into());
    }
    Ok(())
}

fn of(part: Option<&impl Serialize>) -> Result<f64, BoxError> {
    Ok(part.map(serde_json::to_value).transpose()?.map_or(1.0, |part| factor(&part)))
}

/// The largest growth in bytes of a part, by the fields that tell it.
fn factor(part: &Value) -> f64 {
    let bytes = |field: &str| part[field].as_str().map_or(0, str::len) as f64;
    let parts = ["normalizers", "pretokenizers"].iter().filter_map(|list| part[list].as_array());
    match part["type"].as_str() {
        Some("Sequence") => parts.flatten().map(factor).product(),
        // A pattern may match between any two bytes.
        Some("Replace") => 1.0 + bytes("content"),
        Some("Prepend") => 1.0 + bytes("prepend"),
        Some("ByteLevel") => 2.0,
        Some("Metaspace") => 3.0,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sequences_multiply() {
        let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaa"});
        assert_eq!(factor(&replace), 8.0);
        let twice = json!({"type": "Sequence", "normalizers": [replace, replace]});
        assert_eq!(factor(&twice), 64.0);
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false});
        let mixed = json!({"type": "Sequence", "pretokenizers": [byte_level, byte_level]});
        assert_eq!(factor(&mixed), 4.0);
    }
}
