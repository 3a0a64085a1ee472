//! Rewards of held-out lists, written out for people and for the report.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::Trainer;
use crate::{Error, Message, RankedList, Result};

#[derive(Serialize)]
struct Row<'a> {
    set: &'a str,
    /// Its number in the set, from 0.
    list: usize,
    prompt: Option<Prompt<'a>>,
    responses: Vec<RowResponse<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Prompt<'a> {
    Text(&'a str),
    Messages(&'a [Message]),
}

#[derive(Serialize)]
struct RowResponse<'a> {
    text: &'a str,
    rank: usize,
    reward: f32,
}

impl Trainer {
    /// Writes the rewards of lists to a JSONL file, with their texts: `set`, `list` (its number, from
    /// 0), `prompt` (a text or messages) and `responses`, each with its `text`, `rank` and `reward`, best first. Lists
    /// that are too long for the model are left out.
    ///
    /// # Errors
    /// If the model fails or the file cannot be written.
    pub fn write_rewards(
        &self,
        path: impl AsRef<Path>,
        set: &str,
        lists: &[RankedList],
    ) -> Result<()> {
        let path = path.as_ref();
        let scores = self.scorer().score(lists)?;
        let rows = lists.iter().zip(&scores).enumerate().filter_map(|(number, (list, scores))| {
            let responses = list.responses().iter().zip(scores.as_ref().ok()?);
            let responses = responses.map(|(response, &reward)| RowResponse {
                text: response.text(),
                rank: response.rank(),
                reward,
            });
            let prompt = list.prompt().map(Prompt::Text);
            let prompt = prompt.or_else(|| list.conversation().map(Prompt::Messages));
            Some(Row { set, list: number, prompt, responses: responses.collect() })
        });
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            for row in rows {
                serde_json::to_writer(&mut file, &row)?;
                file.write_all(b"\n")?;
            }
            file.into_inner()?.sync_all()
        };
        write().map_err(Error::io("write", path))
    }
}
