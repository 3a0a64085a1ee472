//! `hf:org/name@revision`.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A repository and its revision, written `hf:org/name` or `hf:org/name@revision`.
///
/// A revision is a branch, a tag or a commit; without one it is the branch `main`.
///
/// ```
/// use reward_model::hub::Source;
///
/// let source: Source = "hf:org/name@v1.0".parse()?;
/// assert_eq!((source.repository(), source.revision()), ("org/name", "v1.0"));
/// assert_eq!("hf:org/name".parse::<Source>()?.revision(), "main");
/// assert!("org/name".parse::<Source>().is_err());
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    repository: String,
    revision: String,
}

impl Source {
    /// The repository: `org/name`, or the name alone of one of the first models.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether the revision is a whole commit, which never changes.
    pub(super) fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::Hub { source_name: self.to_string(), message: message.into(), source: None }
    }
}

pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl FromStr for Source {
    type Err = Error;

    /// # Errors
    /// [`Error::InvalidArgument`] if it is not of that form.
    fn from_str(text: &str) -> Result<Source> {
        let wrong = |what: &str| {
            Error::InvalidArgument(format!(
                "`{text}`: {what}; write hf:org/name or hf:org/name@revision"
            ))
        };
        let rest = text.strip_prefix("hf:").ok_or_else(|| wrong("does not start with `hf:`"))?;
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        if repository.split('/').count() > 2 || !repository.split('/').all(is_name) {
            return Err(wrong("names no repository"));
        }
        if !revision.split('/').all(is_name) {
            return Err(wrong("names no revision"));
        }
        Ok(Source { repository: repository.into(), revision: revision.into() })
    }
}

/// Both the server and the file system must take it for one name.
fn is_name(part: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !part.is_empty() && part != "." && !part.contains("..") && part.bytes().all(known)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.repository)?;
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_source() {
        for (text, repository, revision) in [
            ("hf:org/name", "org/name", "main"),
            ("hf:gpt2", "gpt2", "main"),
            ("hf:a-b/c_d.e-1.5B@refs/pr/3", "a-b/c_d.e-1.5B", "refs/pr/3"),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!((source.repository(), source.revision()), (repository, revision));
            assert_eq!(source.to_string(), text);
        }
        assert!(format!("hf:a/b@{}", "0a".repeat(20)).parse::<Source>().unwrap().is_commit());

        for (text, what) in [
            ("org/name", "does not start with `hf:`"),
            ("hf:", "names no repository"),
            ("hf:/", "names no repository"),
            ("hf:a/b/c", "names no repository"),
            ("hf:../b", "names no repository"),
            ("hf:a/b c", "names no repository"),
            ("hf:https://host/a", "names no repository"),
            ("hf:a/b@", "names no revision"),
            ("hf:a/b@../../x", "names no revision"),
            ("hf:a/b@v1@v2", "names no revision"),
        ] {
            let expected = format!("`{text}`: {what}; write hf:org/name or hf:org/name@revision");
            assert_eq!(text.parse::<Source>().unwrap_err().to_string(), expected);
        }
    }
}
