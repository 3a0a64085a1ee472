//! Writing a whole folder, or nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::{Error, Result};

/// Makes the folder `dir` with the files that `write` puts into it: all of them, or none.
///
/// The files are written into a hidden sibling, which takes the place of `dir` when they are
/// complete and on disk. An existing `dir` is replaced only if it is empty, or if `overwrite` is set
/// and it is a model folder (has a `config.json`).
///
/// # Errors
/// If `dir` holds something and `overwrite` is not set, if a file or folder cannot be written, or
/// whatever `write` returns. `dir` is then as it was.
pub fn write_folder(
    dir: impl AsRef<Path>,
    overwrite: bool,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let dir = dir.as_ref();
    check_target(dir, overwrite)?;
    let parent = parent(dir);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let staging = staging_in(parent)?;
    // A temporary folder is closed to others, as is what is made in it through such a folder.
    let new = staging.path().join("new");
    fs::create_dir(&new).map_err(Error::io("create", &new))?;
    write(&new)?;
    settle(&new)?;

    if dir.exists() {
        let old = staging.path().join("old");
        fs::rename(dir, &old).map_err(Error::io("replace", dir))?;
        if let Err(error) = fs::rename(&new, dir) {
            let _ = fs::rename(&old, dir);
            return Err(Error::io("create", dir)(error));
        }
    } else {
        fs::rename(&new, dir).map_err(Error::io("create", dir))?;
    }
    Ok(())
}

/// Whether [`write_folder`] would refuse this target; for asking before the work is done. Leaves
/// nothing behind.
///
/// # Errors
/// If `dir` is a file, or a folder that holds something and must not or cannot be overwritten, or
/// nothing can be written where it is to be.
pub fn check_target(dir: &Path, overwrite: bool) -> Result<()> {
    let refuse =
        |message: &str| Err(Error::ModelFile { path: dir.to_path_buf(), message: message.into() });
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return refuse("is a file, or in one; a folder is to be written here")
        }
        Err(error) => return Err(Error::io("read", dir)(error)),
    };
    if !empty && !overwrite {
        return refuse(
            "is there already and not empty; name another folder, or allow overwriting it",
        );
    }
    if !empty && !dir.join("config.json").is_file() {
        return refuse("holds something that is not a model folder, so it will not be overwritten");
    }
    let mut parent = parent(dir);
    while !parent.exists() {
        parent = self::parent(parent);
    }
    staging_in(parent).map(|_| ())
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// A hidden folder that is removed when it goes out of scope.
fn staging_in(parent: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(".reward-model-")
        .tempdir_in(parent)
        .map_err(Error::io("make a folder in it", parent))
}

/// Gives each file the permissions that new files get, and waits until its content is on disk.
fn settle(dir: &Path) -> Result<()> {
    let probe = dir.join(".permissions");
    fs::write(&probe, "").map_err(Error::io("write", &probe))?;
    let usual = fs::metadata(&probe).map_err(Error::io("read", &probe))?.permissions();
    fs::remove_file(&probe).map_err(Error::io("remove", &probe))?;
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let path = entry.map_err(Error::io("read", dir))?.path();
        if path.is_file() {
            fs::set_permissions(&path, usual.clone()).map_err(Error::io("write", &path))?;
            let file = fs::File::open(&path).map_err(Error::io("read", &path))?;
            file.sync_all().map_err(Error::io("write", &path))?;
        }
    }
    Ok(())
}
