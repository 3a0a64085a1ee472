//! Model folders from the Hugging Face Hub, or from a server that speaks its protocol.
//!
//! Nothing here is called by the rest of the crate: it reaches the network only when asked, and
//! what it returns is a folder like any other.
//!
//! ```no_run
//! use reward_model::{hub, tch::Device, Scorer};
//!
//! let folder = hub::download("hf:org/reward-model@v1.0")?;
//! let scorer = Scorer::load(folder, Device::Cpu)?;
//! # Ok::<(), reward_model::Error>(())
//! ```

mod files;
mod source;
mod transfer;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

pub use source::Source;

use crate::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// Where to download from, where to, and as whom.
///
/// The cache is laid out as Python's `huggingface_hub` lays it out, so that the two share what
/// either has downloaded.
///
/// ```no_run
/// use reward_model::hub::Hub;
///
/// let hub = Hub::from_env().cache("/data/hub");
/// let folder = hub.download(&"hf:org/name".parse()?, &mut |file| {
///     println!("{}: {} of {} bytes", file.name, file.done, file.size);
/// })?;
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    cache: Option<PathBuf>,
    token: Option<String>,
    offline: bool,
}

/// How far the download of one file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The file's name.
    pub name: &'a str,
    /// The bytes that are there, those of an earlier try included.
    pub done: u64,
    /// The bytes of the whole file.
    pub size: u64,
}

/// The folder of a [`Source`] such as `hf:org/name@revision`, downloaded unless it is in the cache,
/// by the environment's settings ([`Hub::from_env`]).
///
/// # Errors
/// Those of [`Hub::download`], and [`Error::InvalidArgument`] if `source` names no repository.
pub fn download(source: &str) -> Result<PathBuf> {
    Hub::from_env().download(&source.parse()?, &mut |_| {})
}

impl Default for Hub {
    fn default() -> Hub {
        Hub::new()
    }
}

impl Hub {
    /// The public server, and the cache in the home folder; no token, and nothing from the
    /// environment.
    pub fn new() -> Hub {
        let home = std::env::home_dir();
        Hub {
            endpoint: ENDPOINT.into(),
            cache: home.map(|home| home.join(".cache/huggingface/hub")),
            token: None,
            offline: false,
        }
    }

    /// What the environment says, by the variables of Python's `huggingface_hub`; an empty one is
    /// the same as none.
    ///
    /// | variable | |
    /// |---|---|
    /// | `HF_ENDPOINT` | the server, `https://huggingface.co` otherwise |
    /// | `HF_HUB_CACHE` | the cache, `$HF_HOME/hub` otherwise |
    /// | `HF_HOME` | the folder of the cache and of the file `token` that a login leaves; `$XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface` otherwise |
    /// | `HF_TOKEN` | the token, for private and gated repositories |
    /// | `HF_HUB_OFFLINE` | `1`, `true`, `yes` or `on`: only the cache, never the network |
    pub fn from_env() -> Hub {
        Hub::from_variables(&|name| std::env::var_os(name))
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Hub {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
            let caches = set("XDG_CACHE_HOME").map(PathBuf::from);
            let caches = caches.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
            caches.map(|caches| caches.join("huggingface"))
        });
        let left_by_login = || std::fs::read_to_string(home.as_ref()?.join("token")).ok();
        let offline = text("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        Hub {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()),
            cache: set("HF_HUB_CACHE")
                .map(PathBuf::from)
                .or_else(|| home.as_ref().map(|home| home.join("hub"))),
            token: None,
            offline: ["1", "true", "yes", "on"].contains(&offline.as_str()),
        }
        .token(text("HF_TOKEN").or_else(left_by_login).unwrap_or_default())
    }

    /// Another server.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Hub {
        self.endpoint = endpoint.into();
        self
    }

    /// Another cache.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Hub {
        self.cache = Some(folder.into());
        self
    }

    /// A token, for private and gated repositories; an empty one is none.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Hub {
        self.token = Some(token.into().trim().to_owned()).filter(|token| !token.is_empty());
        self
    }

    /// Whether to use the cache alone and never the network.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Hub {
        self.offline = offline;
        self
    }

    /// The folder of a repository: its configuration, its tokenizer and chat template, and its
    /// weights, which must be safetensors, in one file or in several with an index.
    ///
    /// A whole commit that is in the cache is returned without a question. A branch or a tag is
    /// looked up, so that a new commit is seen; if the server cannot be reached, the commit that the
    /// cache has for it is returned. All files are of one commit. `progress` is called while a file
    /// is downloaded; a download that breaks off goes on where it was at the next call.
    ///
    /// # Errors
    /// [`Error::Hub`] if the repository or its revision is not there or must not be read, if it has
    /// no safetensors or no `tokenizer.json`, if the server cannot be reached or breaks off, or if
    /// nothing of it is in the cache while offline.
    pub fn download(
        &self,
        source: &Source,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf> {
        let Some(cache) = &self.cache else {
            return Err(Error::InvalidArgument(
                "there is no home folder to keep downloads in; set HF_HOME".into(),
            ));
        };
        let cache = Cache::new(std::path::absolute(cache).map_err(Error::io("find", cache))?);
        let cached = cached(&cache, source);
        if self.offline {
            return cached.ok_or_else(|| {
                source.error("is not in the cache, and HF_HUB_OFFLINE forbids to download it")
            });
        }
        if let Some(folder) = cached.as_ref().filter(|_| source.is_commit()) {
            return Ok(folder.clone());
        }

        let failed = |what: &str, error| self.explained(source, what, error);
        let api = self.api(&cache).map_err(|error| failed("a client", error))?;
        let info = match (api.repo(repo(source, source.revision())).info(), cached) {
            (Ok(info), _) => info,
            (Err(error), Some(folder)) if status(&error).is_none() => {
                drop(error);
                return Ok(folder);
            }
            (Err(error), _) => return Err(failed("the list of files", error)),
        };
        // It becomes the name of a folder.
        if !source::is_commit(&info.sha) {
            let message = format!("the server names the commit `{}`, which is none", info.sha);
            return Err(source.error(message));
        }
        let listed: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let commit = repo(source, &info.sha);
        let folder = cache.repo(commit.clone()).pointer_path(&info.sha);
        let commit = api.repo(commit);
        let mut fetch = |name: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            if !path.exists() {
                // A link whose blob was deleted would be in the way.
                if path.is_symlink() {
                    std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
                transfer::fetch(&commit, name, progress).map_err(|error| match error {
                    transfer::Broken::Api(error) => failed(name, error),
                    transfer::Broken::Off { done, size } => source.error(format!(
                        "{name}: the server broke off after {done} of {size} bytes; try again"
                    )),
                })?;
            }
            if path.exists() {
                return Ok(path);
            }
            Err(source.error(format!("{name}: the server sent a commit other than {}", info.sha)))
        };
        // The weights last: a folder that has them has everything.
        for name in files::beside_weights(source, &listed)? {
            fetch(name)?;
        }
        match files::weights(source, &listed)? {
            files::Weights::Single => fetch(files::SINGLE).map(drop)?,
            files::Weights::Sharded => {
                let index = fetch(files::INDEX)?;
                for name in files::shards(&index)? {
                    fetch(&name)?;
                }
            }
        }
        // Written when the folder is whole, for the next time that the server is out of reach.
        let named = cache.repo(repo(source, source.revision()));
        named.create_ref(&info.sha).map_err(Error::io("write to", cache.path()))?;
        Ok(folder)
    }

    fn api(&self, cache: &Cache) -> Result<Api, ApiError> {
        ApiBuilder::from_cache(cache.clone())
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_token(self.token.clone())
            .with_progress(false)
            .build()
    }

    /// What went wrong with `what`, and what to do about it.
    fn explained(&self, source: &Source, what: &str, error: ApiError) -> Error {
        let who = match self.token {
            Some(_) => "the token in use may not read it",
            None => "it needs a token: set HF_TOKEN",
        };
        let page = format!("{}/{}", self.endpoint, source.repository());
        let message = match status(&error) {
            Some(401) => format!("{what}: not authorised (401): there is no such repository, or {who}"),
            Some(403) => format!(
                "{what}: forbidden (403): {who}; if the repository is gated, accept its terms at {page}"
            ),
            Some(404) => format!(
                "{what}: not found (404): check the name and the revision `{}` at {page}",
                source.revision()
            ),
            Some(code) => format!("{what}: {} answers with status {code}; try again later", self.endpoint),
            None => match &error {
                ApiError::RequestError(_) => format!(
                    "{what}: {error}, asking {}; check the network and try again",
                    self.endpoint
                ),
                ApiError::IoError(_) => format!(
                    "{what}: {error}; check the network and the disk that the cache is on, and try \
                     again"
                ),
                ApiError::LockAcquisition(_) => {
                    format!("{what}: another program is downloading it; wait for that one")
                }
                _ => format!("{what}: {} does not answer as the Hub does: {error}", self.endpoint),
            },
        };
        Error::Hub { source_name: source.to_string(), message, source: Some(Box::new(error)) }
    }
}

impl fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

fn repo(source: &Source, revision: &str) -> Repo {
    Repo::with_revision(source.repository().into(), RepoType::Model, revision.into())
}

/// The whole folder that the cache has of a source, if it has one.
fn cached(cache: &Cache, source: &Source) -> Option<PathBuf> {
    let repo = cache.repo(repo(source, source.revision()));
    let folder = if source.is_commit() {
        repo.pointer_path(source.revision())
    } else {
        repo.get(files::CONFIG)?.parent()?.to_path_buf()
    };
    files::is_whole(&folder).then_some(folder)
}

/// The status that the server answered with, if it did and that was the trouble.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        Hub::from_variables(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_variables_of_huggingface_hub() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "left by a login\n").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());

        let plain = hub(&[("XDG_CACHE_HOME", "/caches"), ("HF_TOKEN", ""), ("HF_ENDPOINT", "")]);
        assert_eq!(plain.cache.as_deref(), Some(Path::new("/caches/huggingface/hub")));
        assert_eq!((plain.endpoint.as_str(), plain.token, plain.offline), (ENDPOINT, None, false));

        let set = hub(&[home, ("HF_ENDPOINT", "http://mirror"), ("HF_HUB_OFFLINE", "True")]);
        assert_eq!(set.cache, Some(folder.path().join("hub")));
        assert_eq!(set.token.as_deref(), Some("left by a login"));
        assert_eq!((set.endpoint.as_str(), set.offline), ("http://mirror", true));

        let own = [home, ("HF_TOKEN", "mine"), ("HF_HUB_CACHE", "/c"), ("HF_HUB_OFFLINE", "0")];
        let own = hub(&own);
        assert_eq!((own.cache, own.token), (Some("/c".into()), Some("mine".into())));
        assert!(!own.offline);
    }
}
