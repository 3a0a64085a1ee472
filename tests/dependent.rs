//! The crate that the README shows, built as its reader would: outside this project, without this
//! project's lock file, with cargo's help ending where the program starts.
//!
//! Which tch it gets is up to what cargo chooses today. It is then built with what cargo chooses among the
//! crates that this machine has, so that another package's release does not compile tch again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FILES: [(&str, &str); 3] = [
    ("Cargo.toml", include_str!("dependent/Cargo.toml.in")),
    ("build.rs", include_str!("dependent/build.rs")),
    ("src/main.rs", include_str!("dependent/src/main.rs")),
];

#[test]
fn the_readme_shows_it() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for (name, text) in FILES {
        assert!(readme.contains(text), "README.md does not show this {name}:\n{text}");
    }
}

#[test]
fn its_program_finds_libtorch_and_gets_the_right_numbers() {
    let outside = tempfile::tempdir().unwrap();
    let home = outside.path();
    fs::create_dir(home.join("src")).unwrap();
    for (name, text) in FILES {
        fs::write(home.join(name), text.replace("../reward-model", ROOT)).unwrap();
    }
    lock(home);

    let run = Command::new(build(home)).env_clear().output().unwrap();
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{printed}{}", String::from_utf8_lossy(&run.stderr));

    let numbers: Vec<f64> = printed
        .split(|c: char| c.is_whitespace() || "[],".contains(c))
        .filter_map(|word| word.parse().ok())
        .collect();
    // Rewards 2, 1, 0: two pairs at distance 1, one at distance 2.
    let softplus = |x: f64| x.exp().ln_1p();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let first = sigmoid(1.0) + sigmoid(2.0) - 2.0;
    let expected = [2.0 * softplus(-1.0) + softplus(-2.0), first, 0.0, -first];
    assert_eq!(numbers.len(), expected.len(), "{printed}");
    for (number, expected) in numbers.iter().zip(expected) {
        approx::assert_relative_eq!(*number, expected, max_relative = 1e-12, epsilon = 1e-15);
    }
}

/// The version of tch that a lock file names.
fn tch_in(lock: &Path) -> String {
    let lock = fs::read_to_string(lock).unwrap();
    let (_, version) = lock.split_once("name = \"tch\"\nversion = \"").expect("tch is locked");
    version.split('"').next().unwrap().to_owned()
}

/// Lets cargo choose versions. The newest tch of the range has to be the one that this project is set up
/// for; in the copy of it that is built with another one, that one is taken as the README says.
fn lock(home: &Path) {
    let lock = home.join("Cargo.lock");
    // Without a network this says no more than the next one.
    let _ = cargo(home, &["generate-lockfile"]);
    let ours = tch_in(&Path::new(ROOT).join("Cargo.lock"));
    let newest = lock.exists().then(|| tch_in(&lock));
    let _ = fs::remove_file(&lock);
    let offline = cargo(home, &["generate-lockfile", "--offline"]);
    assert!(offline.status.success(), "{}", String::from_utf8_lossy(&offline.stderr));
    let newest = newest.unwrap_or_else(|| tch_in(&lock));
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    for package in ["tch", "torch-sys"] {
        let line = format!("cargo update {package} --precise {ours}");
        assert!(
            minor(&ours) == minor(&newest) || readme.contains(&line),
            "cargo chooses tch {newest}, this project is set up for {ours}, and README.md does not \
             show `{line}`"
        );
        let update = cargo(home, &["update", package, "--precise", &ours, "--offline"]);
        assert!(update.status.success(), "{}", String::from_utf8_lossy(&update.stderr));
    }
}

/// Runs cargo there, away from this project's .cargo/config.toml.
fn cargo(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO")).current_dir(home).args(arguments).output().unwrap()
}

/// Builds the crate in `home` with this build's cargo, in a target folder of its own, and returns
/// its program.
///
/// That folder starts with what this build has compiled already, for the sake of tch's C++, which
/// takes minutes; what is linked and how is up to the crate alone.
fn build(home: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dependent");
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let _ = fs::remove_dir_all(&target);
    for kept in ["build", "deps", ".fingerprint"] {
        let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..").join(profile).join(kept);
        take_over(&ours, &target.join(profile).join(kept));
    }

    let mut cargo = Command::new(env!("CARGO"));
    // From elsewhere, or this project's .cargo/config.toml would have a say.
    cargo.current_dir(home).env_remove("LD_LIBRARY_PATH");
    cargo.args(["build", "--locked", "--offline", "--message-format=json-render-diagnostics"]);
    cargo.arg("--target-dir").arg(&target);
    if profile == "release" {
        // As in this project's Cargo.toml: another profile compiles everything again.
        cargo.arg("--release").env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    }
    let named = ["LIBTORCH", "LIBTORCH_USE_PYTORCH"].iter().any(|name| env::var_os(name).is_some());
    if let (false, Some(lib)) = (named, option_env!("REWARD_MODEL_LIBTORCH_LIB")) {
        cargo.env("LIBTORCH", Path::new(lib).parent().unwrap());
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let program = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    program.unwrap_or_else(|| panic!("no executable in cargo's messages:\n{messages}"))
}

/// Gives a folder all files of another one: large ones as links, small ones, which cargo rewrites in
/// place, as copies. Their times, by which cargo tells what is old, stay.
fn take_over(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            take_over(&source, &target);
        } else if metadata.len() > 1 << 16 {
            fs::hard_link(source, target).unwrap();
        } else {
            fs::copy(source, &target).unwrap();
            let file = fs::File::options().write(true).open(target).unwrap();
            file.set_modified(metadata.modified().unwrap()).unwrap();
        }
    }
}
