//! Which format a file of ranked lists has.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::de::IgnoredAny;

use super::{csv, help_steer, jsonl, nectar, nemo, tsv, ultra_feedback, Problem};
use crate::{Error, RankedList, Result};

/// How ranked lists are written; the [module](super) describes each format.
///
/// It is shown and parsed by its name, in small letters: `tsv`, `jsonl`, `nectar`,
/// `open-assistant`, `help-steer3`, `nemo`, `ultra-feedback`.
///
/// ```
/// use reward_model::data::Format;
///
/// assert_eq!("help-steer3".parse::<Format>()?, Format::HelpSteer3);
/// assert_eq!(Format::Jsonl.to_string(), "jsonl");
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Responses, best first, separated by tabs.
    Tsv,
    /// A JSON object on each line: our lists, and TRL's preference data.
    Jsonl,
    /// Nectar: `answers`, each with its `rank`.
    Nectar,
    /// OpenAssistant: messages that name their parents, or trees of `replies`.
    OpenAssistant,
    /// HelpSteer3: `response1`, `response2` and an `overall_preference`.
    HelpSteer3,
    /// NeMo: `completions`, each with its `rank`.
    Nemo,
    /// UltraFeedback: `completions`, each with its `overall_score`, or its binarised form.
    UltraFeedback,
}

const NAMES: [(&str, Format); 7] = [
    ("tsv", Format::Tsv),
    ("jsonl", Format::Jsonl),
    ("nectar", Format::Nectar),
    ("open-assistant", Format::OpenAssistant),
    ("help-steer3", Format::HelpSteer3),
    ("nemo", Format::Nemo),
    ("ultra-feedback", Format::UltraFeedback),
];

impl Format {
    /// The format that a file's extension tells: `.tsv`, or `.jsonl`, `.ndjson` and `.json`, in
    /// small or capital letters. [`open`](super::open) looks into the file as well.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for any other extension, or none.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let extension = path.extension().map(OsStr::to_ascii_lowercase);
        match extension.as_deref().and_then(OsStr::to_str) {
            Some("tsv") => Ok(Self::Tsv),
            Some("jsonl" | "ndjson" | "json") => Ok(Self::Jsonl),
            _ => Err(Error::InvalidArgument(format!(
                "{}: {}; expected .tsv, .jsonl, .ndjson or .json",
                path.display(),
                match extension {
                    Some(extension) => {
                        format!("the extension .{} is of no known format", extension.display())
                    }
                    None => "no extension tells the format".to_owned(),
                }
            ))),
        }
    }

    /// The format that a line of a stream tells, if it tells one: an object tells it by its fields,
    /// and what is no object is TSV.
    ///
    /// # Errors
    /// If it begins what can be read from a file only: a JSON array, or CSV.
    pub(super) fn told_by_line(line: &str) -> Result<Option<Self>, Problem> {
        let line = line.trim_start();
        if line.starts_with('{') {
            return Ok(Self::told_by_object(line));
        }
        let array = line.strip_prefix('[').map(str::trim_start);
        let found = if array.is_some_and(|rest| rest.is_empty() || rest.starts_with('{')) {
            "a JSON array"
        } else if csv::is_header(line) {
            "CSV"
        } else {
            return Ok(Some(Self::Tsv));
        };
        Err(Problem::of_line(format!(
            "this begins {found}, which is read from a file, not from a stream; name the file, or \
             give an object on each line"
        )))
    }

    /// The format of an object by the names of its fields; `None` if it is damaged, or has the
    /// fields of no format.
    pub(super) fn told_by_object(line: &str) -> Option<Self> {
        let fields = serde_json::from_str::<Names>(line).ok()?;
        let all = |names: &[&str]| names.iter().all(|name| fields.has(name));
        if all(&["responses"]) {
            Some(Self::Jsonl)
        } else if all(&["message_id", "text"]) || all(&["message_tree_id", "prompt"]) {
            Some(Self::OpenAssistant)
        } else if all(&["chosen", "rejected", "score_chosen"])
            || all(&["instruction", "completions"])
        {
            Some(Self::UltraFeedback)
        } else if all(&["chosen"]) || all(&["rejected"]) {
            Some(Self::Jsonl)
        } else if all(&["answers"]) {
            Some(Self::Nectar)
        } else if all(&["completions"]) {
            Some(Self::Nemo)
        } else if all(&["response1", "response2"]) {
            Some(Self::HelpSteer3)
        } else {
            None
        }
    }

    pub(super) fn parse(self, line: &str) -> Result<RankedList, Problem> {
        match self {
            Self::Tsv => tsv::parse(line),
            Self::Jsonl => jsonl::parse(line),
            Self::Nectar => nectar::parse(line),
            Self::HelpSteer3 => help_steer::parse(line),
            Self::Nemo => nemo::parse(line),
            Self::UltraFeedback => ultra_feedback::parse(line),
            Self::OpenAssistant => Err(Problem::of_line(
                "OpenAssistant's messages refer to each other: give a file, not a stream",
            )),
        }
    }
}

/// The names of an object's fields that are not `null`.
#[derive(serde::Deserialize)]
struct Names(HashMap<String, Option<IgnoredAny>>);

impl Names {
    fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Option::is_some)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, format)| format == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

impl FromStr for Format {
    type Err = Error;

    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if no format has this name.
    fn from_str(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            Error::InvalidArgument(format!(
                "{name:?} is no format of ranked lists; expected one of {}",
                known.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_tell_the_format() {
        for (path, format) in [
            ("a.tsv", Format::Tsv),
            ("a.b/c.TSV", Format::Tsv),
            ("a.tsv.jsonl", Format::Jsonl),
            ("a.ndjson", Format::Jsonl),
            ("a.Json", Format::Jsonl),
        ] {
            assert_eq!(Format::of_path(path).unwrap(), format, "{path}");
        }
        for (path, expected) in [
            ("a.csv", "a.csv: the extension .csv is of no known format"),
            ("a.jsonl.gz", "a.jsonl.gz: the extension .gz is of no known format"),
            ("tsv", "tsv: no extension tells the format"),
            (".tsv", ".tsv: no extension tells the format"),
        ] {
            assert_eq!(
                Format::of_path(path).unwrap_err().to_string(),
                format!("{expected}; expected .tsv, .jsonl, .ndjson or .json")
            );
        }
    }

    #[test]
    fn fields_tell_the_format() {
        for (line, format) in [
            (r#"{"responses": ["a"], "completions": []}"#, Format::Jsonl),
            (r#"{"chosen": "a", "rejected": "b", "score_chosen": null}"#, Format::Jsonl),
            (r#"{"chosen": [], "rejected": [], "score_chosen": 8.5}"#, Format::UltraFeedback),
            (r#"{"instruction": "p", "completions": []}"#, Format::UltraFeedback),
            (r#"{"context": [], "completions": []}"#, Format::Nemo),
            (r#"{"prompt": "p", "answers": []}"#, Format::Nectar),
            (r#"{"response1": "", "response2": ""}"#, Format::HelpSteer3),
            (r#"{"message_id": "1", "text": "t"}"#, Format::OpenAssistant),
            (r#"{"message_tree_id": "1", "prompt": {}}"#, Format::OpenAssistant),
            ("{}", Format::Jsonl),
            ("{", Format::Jsonl),
            (" a\t{", Format::Tsv),
        ] {
            let told = Format::told_by_line(line).ok().flatten();
            assert_eq!(told.unwrap_or(Format::Jsonl), format, "{line}");
        }
        for line in ["[", " [{\"responses\": []}]", "[ {", "chosen,rejected", "\"prompt\",x,chosen"]
        {
            assert!(Format::told_by_line(line).is_err(), "{line}");
        }
        for line in ["[1] a note\t[2] another", "prompt", "so, chosen,rejected", "a,b\tc,d"] {
            assert_eq!(Format::told_by_line(line).ok().flatten(), Some(Format::Tsv), "{line}");
        }
    }
}
