//! Which files of a repository make a model folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Source;
use crate::{Error, Result};

pub(super) use crate::model::{INDEX, SINGLE};

pub(super) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const NEEDED: [&str; 2] = [CONFIG, TOKENIZER];
/// Taken along where a repository has them.
const OPTIONAL: [&str; 3] =
    ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

pub(super) enum Weights {
    Single,
    Sharded,
}

/// The weights among the files that a repository has.
pub(super) fn weights(source: &Source, listed: &[&str]) -> Result<Weights> {
    if listed.contains(&SINGLE) {
        return Ok(Weights::Single);
    }
    if listed.contains(&INDEX) {
        return Ok(Weights::Sharded);
    }
    let pickle = listed.iter().find(|name| name.ends_with(".bin"));
    Err(source.error(match pickle {
        Some(name) => format!(
            "has {name}, a pickle, which can run code, and no {SINGLE}; look for a revision with \
             safetensors, or load it in Python and save it again (save_pretrained)"
        ),
        None => format!("has neither {SINGLE} nor {INDEX}; it is not a model in safetensors"),
    }))
}

/// All other files of a model folder.
pub(super) fn beside_weights(
    source: &Source,
    listed: &[&str],
) -> Result<impl Iterator<Item = &'static str>> {
    // Weights that cannot be loaded are no reason to download anything.
    weights(source, listed)?;
    if let Some(name) = NEEDED.into_iter().find(|name| !listed.contains(name)) {
        return Err(source.error(format!("has no {name}, which a model folder needs")));
    }
    let optional: Vec<&str> = OPTIONAL.into_iter().filter(|name| listed.contains(name)).collect();
    Ok(NEEDED.into_iter().chain(optional))
}

/// The weights files that an index names.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let wrong = |message: String| Error::ModelFile { path: index.to_path_buf(), message };
    let text = std::fs::read_to_string(index).map_err(Error::io("read", index))?;
    let Index { weight_map } =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let files: BTreeSet<String> = weight_map.into_values().collect();
    match files.iter().find(|file| Path::new(file).file_name() != Some(file.as_ref())) {
        Some(file) => Err(wrong(format!("weight_map names `{file}`: must be a file's name"))),
        None => Ok(files),
    }
}

/// Whether a folder has all that it needs. What is optional is downloaded before the weights.
pub(super) fn is_whole(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let sharded = || {
        has(INDEX) && shards(&folder.join(INDEX)).is_ok_and(|files| files.iter().all(|f| has(f)))
    };
    NEEDED.into_iter().all(has) && (has(SINGLE) || sharded())
}
