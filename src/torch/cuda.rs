//! libtorch's CUDA half, loaded when it is asked for.
//!
//! Linkers drop `libtorch_cuda`, in which a program names no symbol. Loaded at run time it registers
//! itself with libtorch, so that one build serves machines with and without a GPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// Loads `libtorch_cuda` from the folder of the libtorch that is in this process, and from nowhere
/// else: another version of it would not fit. Has an effect only before libtorch is first asked
/// for CUDA. The error says what is missing.
pub(super) fn load() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(try_load).clone()
}

fn try_load() -> Result<(), String> {
    let maps = fs::read_to_string("/proc/self/maps")
        .map_err(|error| format!("cannot read /proc/self/maps: {error}"))?;
    if mapped(&maps, "libtorch_cuda.so").is_some() {
        return Ok(());
    }
    let library = mapped(&maps, "libtorch_cpu.so")
        .map(|cpu| cpu.with_file_name("libtorch_cuda.so"))
        .filter(|library| library.exists())
        .ok_or(
            "the libtorch that is loaded is a CPU build (`make libtorch CUDA=1` sets up the other)",
        )?;
    // SAFETY: runs the initialisers of a library that belongs to the libtorch in this process.
    let library = unsafe { Library::open(Some(&library), RTLD_NOW | RTLD_GLOBAL) }
        .map_err(|error| format!("{} cannot be loaded: {error}", library.display()))?;
    // What it registered stays in use until the process ends.
    std::mem::forget(library);
    Ok(())
}

/// The file of this name that is mapped into the process.
fn mapped(maps: &str, name: &str) -> Option<PathBuf> {
    maps.lines()
        .filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])))
        .find(|file| file.file_name().is_some_and(|found| found == name))
        .map(Path::to_path_buf)
}
