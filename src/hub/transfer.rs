//! The transfer of one file.

use std::path::Path;

use hf_hub::api::sync::{ApiError, ApiRepo};

use super::Progress;

/// Why a file did not arrive.
pub(super) enum Broken {
    Api(ApiError),
    Off { done: u64, size: u64 },
}

/// Downloads one file into the cache. The client does not compare its length with what the server
/// said that it would be, so that is done here.
pub(super) fn fetch(
    commit: &ApiRepo,
    name: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Broken> {
    let mut size = 0;
    let watch = Watch { name, done: 0, size: &mut size, progress };
    let path = commit.download_with_progress(name, watch).map_err(Broken::Api)?;
    let done = std::fs::metadata(&path).map_err(|error| Broken::Api(error.into()))?.len();
    if done == size {
        return Ok(());
    }
    remove(&path).map_err(|error| Broken::Api(error.into()))?;
    Err(Broken::Off { done, size })
}

/// Removes a file of a snapshot and the blob that it is a link to.
fn remove(path: &Path) -> std::io::Result<()> {
    let blob = path.canonicalize()?;
    std::fs::remove_file(path)?;
    if blob.exists() {
        std::fs::remove_file(blob)?;
    }
    Ok(())
}

struct Watch<'a> {
    name: &'a str,
    done: u64,
    size: &'a mut u64,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl hf_hub::api::Progress for Watch<'_> {
    fn init(&mut self, size: usize, _: &str) {
        *self.size = size as u64;
        self.done = 0;
    }

    fn update(&mut self, bytes: usize) {
        self.done += bytes as u64;
        (self.progress)(Progress { name: self.name, done: self.done, size: *self.size });
    }

    fn finish(&mut self) {}
}
