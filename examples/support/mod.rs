//! What the examples share.

// Each example uses a part of it.
#![allow(dead_code, unused_imports)]

#[cfg(feature = "train")]
mod progress;
#[cfg(feature = "train")]
pub mod scratch;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
#[cfg(feature = "train")]
pub use progress::{Kept, Progress, StepBar};
use reward_model::{Error, RankedList, Result};

/// Where `train_rm` writes its model folder, and `score` looks for one, unless told otherwise.
pub const DEFAULT_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/reward-model");

/// Where `finetune` writes the source model that it pretrains.
pub const DEFAULT_SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/source-model");

/// A file of the lists that ship with the examples.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(name)
}

/// The model folder that a person means: a path, or `hf:org/name@revision`, which is downloaded.
pub fn resolve(model: &str) -> Result<PathBuf> {
    if !model.starts_with("hf:") {
        return Ok(model.into());
    }
    download(model)
}

/// What to call that model in a model card: a folder's own name, or the name on the Hub.
pub fn model_name(model: &str) -> String {
    let of_hub = model.strip_prefix("hf:").and_then(|name| name.split('@').next());
    let of_path = || Path::new(model).file_name().map(|name| name.to_string_lossy().into_owned());
    of_hub.map(str::to_owned).or_else(of_path).unwrap_or_else(|| model.to_owned())
}

#[cfg(feature = "hub")]
fn download(model: &str) -> Result<PathBuf> {
    let bar = spinner();
    let folder = reward_model::hub::Hub::from_env().download(&model.parse()?, &mut |file| {
        bar.set_message(format!("{}: {} of {} MB", file.name, file.done >> 20, file.size >> 20));
    });
    bar.finish_and_clear();
    folder
}

#[cfg(not(feature = "hub"))]
fn download(model: &str) -> Result<PathBuf> {
    Err(Error::InvalidArgument(format!(
        "{model}: this program was built without downloads; build it with --features hub, or name a \
         folder"
    )))
}

/// All texts of these lists, prompts included: what a tokenizer is trained on.
pub fn texts(lists: &[RankedList]) -> impl Iterator<Item = &str> {
    lists
        .iter()
        .flat_map(|list| list.prompt().into_iter().chain(list.responses().iter().map(|r| r.text())))
}

/// A number of bytes, such as 500M or 4G, of powers of 1024.
pub fn bytes(text: &str) -> std::result::Result<u64, String> {
    let (digits, power) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << power));
    number.ok_or_else(|| "must be a number of bytes, such as 500M or 4G".into())
}

/// Runs a program's body and says in one line what went wrong, if anything did.
pub fn report(body: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    // libtorch's oneDNN keeps a kernel of 256 kB for each of the last 1024 shapes. Without padding
    // every step has a shape of its own, so that nothing is found there again.
    const KERNELS: &str = "ONEDNN_PRIMITIVE_CACHE_CAPACITY";
    if std::env::var_os(KERNELS).is_none() {
        std::env::set_var(KERNELS, "64");
    }
    match body() {
        Ok(code) => code,
        // As a shell tells of a program that SIGINT ended.
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a person has pressed Ctrl-C. The first time lets the run finish its step; the second time
/// ends the program at once.
#[derive(Clone)]
pub struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    pub fn watched() -> Result<Interrupts> {
        let pressed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&pressed);
        let handler = move || {
            if seen.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        };
        match ctrlc::set_handler(handler) {
            Ok(()) => Ok(Interrupts(pressed)),
            Err(error) => Err(Error::InvalidArgument(format!("Ctrl-C cannot be watched: {error}"))),
        }
    }

    /// [`Error::Interrupted`] if Ctrl-C was pressed.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}

/// Prints a line; whoever has stopped reading (as `head` does) has seen enough.
pub fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A sign of life on standard error, if a person sees it.
pub fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(draw_target());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn draw_target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    }
}

pub fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// One list with the reward of each response, best to worst as people ranked them.
pub fn show_list(list: &RankedList, rewards: &[f32]) {
    if let Some(prompt) = list.prompt() {
        say(format!("  {}", shortened(prompt, 88)));
    }
    let mut above: Option<usize> = None;
    for (response, reward) in list.responses().iter().zip(rewards) {
        let tie = if above == Some(response.rank()) { '=' } else { ' ' };
        say(format!(
            "  {:>2}{tie} {reward:>+7.3}  {}",
            response.rank(),
            shortened(response.text(), 76)
        ));
        above = Some(response.rank());
    }
    say("");
}

/// A text's beginning, as wide as `columns` of a terminal; Chinese characters take two.
fn shortened(text: &str, columns: usize) -> String {
    let mut width = 0;
    let mut short = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        width += if c >= '\u{2e80}' { 2 } else { 1 };
        if width > columns {
            short.push('…');
            break;
        }
        short.push(c);
    }
    short
}
