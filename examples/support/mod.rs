//! What the examples share: how a run looks in a terminal.

// Each example uses a part of it.
#![allow(dead_code)]

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reward_model::{Error, Evaluation, Event, ParameterGroup, RankedList, Result};

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

/// A training run as a person sees it: a sign of life while data are read and tokenised, a bar while
/// it trains, a line after each epoch.
pub struct Progress {
    bar: ProgressBar,
    epochs: u32,
    quiet: bool,
    /// Whether evaluations are told apart by step, not by epoch, and whether by their set.
    by_steps: bool,
    several_sets: bool,
    /// Lists, tokens and seconds of the steps that this process has made; the first one, whose
    /// seconds are not known, counts as the start.
    done: Option<(usize, usize, f64)>,
    from: f64,
    /// The last checkpoint's step.
    pub checkpoint: Option<u64>,
}

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        let bar = if quiet { ProgressBar::hidden() } else { spinner() };
        bar.set_message("reading and tokenising");
        Progress {
            bar,
            epochs: 0,
            quiet,
            by_steps: false,
            several_sets: false,
            done: None,
            from: 0.0,
            checkpoint: None,
        }
    }

    /// Tells evaluations apart by their step, or by their set.
    pub fn telling(self, by_steps: bool, several_sets: bool) -> Progress {
        Progress { by_steps, several_sets, ..self }
    }

    pub fn show(&mut self, event: &Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::Started(start) => {
                self.bar.finish_and_clear();
                self.epochs = (start.steps / start.steps_per_epoch) as u32;
                self.line(format!(
                    "training on {} lists, {} held out; {} parameters, {} steps",
                    start.lists,
                    start.evaluation_lists,
                    thousands(start.trainable_parameters),
                    start.steps
                ));
                for (count, what) in [
                    (start.too_long, "left out: a response is longer than --max-length allows"),
                    (start.without_pairs, "left out: no response is ranked above another"),
                    (start.prompts_cut, "kept with the start of the prompt cut off"),
                ] {
                    if count > 0 {
                        self.line(format!("{count} training lists {what}"));
                    }
                }
                for line in parts(&start.groups) {
                    self.line(line);
                }
                self.line(format!("\n{}", table_head()));
                self.bar = ProgressBar::new(start.steps);
                self.bar.set_draw_target(draw_target());
                let style = "{bar:24} {pos}/{len}  {msg}  {eta} left";
                if let Ok(style) = ProgressStyle::with_template(style) {
                    self.bar.set_style(style);
                }
                self.bar.enable_steady_tick(Duration::from_millis(250));
            }
            Event::Step(step) => {
                let (lists, tokens, from) = self.done.unwrap_or((0, 0, self.from));
                let (lists, tokens) = (lists + step.lists, tokens + step.tokens);
                self.done = Some((lists, tokens, from));
                let seconds = (step.seconds - from).max(1e-9);
                self.bar.set_position(step.step);
                self.bar.set_message(format!(
                    "loss {:.3}  accuracy {}  margin {}  {:.0} lists/s  {:.0} tokens/s",
                    step.loss,
                    figure(step.accuracy, 2),
                    figure(step.margin, 2),
                    lists as f64 / seconds,
                    tokens as f64 / seconds,
                ));
            }
            Event::Resumed { step, damaged } => {
                for checkpoint in damaged {
                    self.line(format!("passed over: {checkpoint}"));
                }
                self.line(format!("going on after step {step}"));
                self.bar.set_position(*step);
                self.bar.reset_eta();
            }
            Event::Skipped { step, what, .. } => self.line(format!("step {step} left out: {what}")),
            Event::Evaluated { step, epoch, set, evaluation } => {
                let when = match (*epoch, self.by_steps) {
                    (0, _) => "before".into(),
                    (_, true) => step.to_string(),
                    (epoch, false) => format!("{epoch}/{}", self.epochs),
                };
                let set = if self.several_sets { set.as_str() } else { "" };
                self.line(table_row(&when, evaluation, set));
                if *step == self.bar.length().unwrap_or(0) {
                    self.bar.finish_and_clear();
                }
            }
            Event::Checkpoint { step, .. } => self.checkpoint = Some(*step),
            Event::StoppedEarly { step } => {
                self.line(format!("stopped after step {step}: no evaluation was better any more"));
            }
            Event::Kept { step, .. } => {
                self.bar.finish_and_clear();
                self.line(format!("the weights after step {step} are kept, the best of them"));
            }
            _ => {}
        }
    }

    /// Takes the bar away.
    pub fn stop(&self) {
        self.bar.finish_and_clear();
    }

    /// A line above the bar.
    pub fn line(&self, text: String) {
        if !self.quiet {
            self.bar.suspend(|| say(text));
        }
    }
}

/// A bar over the steps of a run whose result is told by somebody else.
pub struct StepBar(ProgressBar);

impl StepBar {
    pub fn new(what: &str, quiet: bool) -> StepBar {
        let bar = if quiet { ProgressBar::hidden() } else { spinner() };
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}  {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        StepBar(bar)
    }

    pub fn show<E>(&self, event: &Event<E>) -> Result<()> {
        match event {
            Event::Started(start) => self.0.set_length(start.steps),
            Event::Step(step) => self.0.set_position(step.step),
            _ => {}
        }
        Ok(())
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
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

fn table_head() -> String {
    format!(
        "{:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "epoch", "loss", "accuracy", "tau-b", "exact", "top-1", "margin"
    )
}

fn table_row(when: &str, evaluation: &Evaluation, set: &str) -> String {
    let m = &evaluation.metrics;
    let row = format!(
        "{when:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8}  {set}",
        figure(evaluation.loss, 4),
        figure(m.pairwise_accuracy, 4),
        figure(m.kendall_tau, 4),
        figure(m.exact_order, 4),
        figure(m.top1, 4),
        figure(m.mean_margin, 3),
    );
    row.trim_end().into()
}

pub fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(" ")
}

/// What trains and how fast, a line for each run of layers that are treated alike; nothing to tell
/// where everything trains at one rate.
fn parts(groups: &[ParameterGroup]) -> Vec<String> {
    let treated = |group: &ParameterGroup| (group.trainable > 0, group.learning_rate);
    if groups.windows(2).all(|pair| treated(&pair[0]) == treated(&pair[1])) {
        return Vec::new();
    }
    let is_layer = |group: &ParameterGroup| group.name.starts_with("layer ");
    groups
        .chunk_by(|a, b| is_layer(a) && is_layer(b) && treated(a) == treated(b))
        .map(|run| {
            let name = match run {
                [first, .., last] => {
                    format!(
                        "layers {} to {}",
                        &first.name["layer ".len()..],
                        &last.name["layer ".len()..]
                    )
                }
                _ => run[0].name.clone(),
            };
            let count = thousands(run.iter().map(|group| group.parameters).sum());
            let (trainable, rate) = (run[0].trainable, run[0].learning_rate);
            let how =
                if trainable > 0 { format!("learning rate {rate:.2e}") } else { "frozen".into() };
            format!("  {name:<14} {count:>13} parameters  {how}")
        })
        .collect()
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
