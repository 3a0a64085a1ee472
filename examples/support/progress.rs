//! A run in a terminal: a bar while it trains, and a line for each evaluation.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use reward_model::data::Dataset;
use reward_model::{Evaluation, Event, ParameterGroup, RankedList, Result, Step};

use super::{draw_target, figure, say, spinner};

/// How often the state of a run is told where there is no terminal to draw a bar on.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// A training run as a person sees it: a sign of life while data are read and tokenised, a bar while
/// it trains, a line after each epoch.
pub struct Progress {
    bar: ProgressBar,
    epochs: u32,
    quiet: bool,
    /// Whether evaluations are told apart by step, not by epoch, and whether by their set.
    by_steps: bool,
    several_sets: bool,
    /// Lists and tokens of the steps that this process has made, and the run's seconds before them.
    done: (usize, usize),
    from: f64,
    /// Whether the run has gone on, and the first step, whose end is all that is known, is to come.
    resumed: bool,
    /// When a plain line was last written, if a terminal would have shown a bar.
    plain: Option<Instant>,
    /// The last checkpoint's step.
    pub checkpoint: Option<u64>,
    /// Which weights the model has, if not those after the last step.
    pub kept: Option<Kept>,
}

/// Weights that were chosen by what they do on held-out lists.
#[derive(Clone, serde::Serialize)]
pub struct Kept {
    pub step: u64,
    pub epoch: u32,
    /// The name of the set that they did best on.
    pub chosen_on: String,
    /// The evaluation of that set after the last step.
    pub last: Box<Evaluation>,
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
            done: (0, 0),
            from: 0.0,
            resumed: false,
            plain: (!std::io::stderr().is_terminal()).then(Instant::now),
            checkpoint: None,
            kept: None,
        }
    }

    /// Tells evaluations apart by their step, or by their set.
    pub fn telling(self, by_steps: bool, several_sets: bool) -> Progress {
        Progress { by_steps, several_sets, ..self }
    }

    pub fn show(&mut self, event: &Event) {
        if self.quiet && !matches!(event, Event::Kept { .. } | Event::Checkpoint { .. }) {
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
            Event::Step(step) => self.step(step),
            Event::Resumed { step, damaged } => {
                for checkpoint in damaged {
                    self.line(format!("passed over: {checkpoint}"));
                }
                self.line(format!("going on after step {step}"));
                self.bar.set_position(*step);
                self.bar.reset_eta();
                self.resumed = true;
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
            Event::Kept { step, epoch, set, last } => {
                self.bar.finish_and_clear();
                self.line(format!(
                    "the weights after step {step} (epoch {epoch}) are kept: they did best on {set}"
                ));
                self.kept = Some(Kept {
                    step: *step,
                    epoch: *epoch,
                    chosen_on: set.clone(),
                    last: Box::new(last.clone()),
                });
            }
            _ => {}
        }
    }

    /// A bar for the time in which all of the data is gone through once more.
    pub fn reading<'a>(&self, what: &'static str, data: &'a Lists) -> Watched<'a> {
        let style = "{bar:24} {pos}/{len} lists  {msg}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
        self.bar.set_length(data.len() as u64);
        self.bar.set_position(0);
        self.bar.reset_eta();
        let told = self.plain.filter(|_| !self.quiet).map(|_| Mutex::new(Instant::now()));
        Watched { data, what, bar: self.bar.clone(), told }
    }

    fn step(&mut self, step: &Step) {
        if std::mem::take(&mut self.resumed) {
            self.from = step.seconds;
            return;
        }
        self.done.0 += step.lists;
        self.done.1 += step.tokens;
        let (lists, tokens) = self.done;
        let seconds = (step.seconds - self.from).max(1e-9);
        let message = format!(
            "loss {:.3}  accuracy {}  margin {}  {:.0} lists/s  {:.0} tokens/s",
            step.loss,
            figure(step.accuracy, 2),
            figure(step.margin, 2),
            lists as f64 / seconds,
            tokens as f64 / seconds,
        );
        self.bar.set_position(step.step);
        if self.plain.is_some_and(|last| last.elapsed() >= PLAIN_EVERY) {
            let of = self.bar.length().unwrap_or(0);
            // Zero until it can be told.
            let eta = Some(self.bar.eta()).filter(|eta| !eta.is_zero());
            let left = eta.map_or(String::new(), |eta| format!("  {} left", HumanDuration(eta)));
            eprintln!("step {}/{of}  {message}{left}", step.step);
            self.plain = Some(Instant::now());
        }
        self.bar.set_message(message);
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

type Lists = dyn Dataset<RankedList>;

/// Data that moves a bar whenever a list is read, or is told of in lines where there is none.
pub struct Watched<'a> {
    data: &'a Lists,
    what: &'static str,
    bar: ProgressBar,
    /// When a line was last written.
    told: Option<Mutex<Instant>>,
}

impl Dataset<RankedList> for Watched<'_> {
    fn len(&self) -> usize {
        self.data.len()
    }

    fn get(&self, index: usize) -> Result<RankedList> {
        self.bar.inc(1);
        let (read, all) = (self.bar.position(), self.data.len() as u64);
        // Once all are read they are read again, for steps, which are told of elsewhere.
        if let Some(told) = self.told.as_ref().filter(|_| read < all) {
            let mut last = told.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= PLAIN_EVERY {
                eprintln!("{read} of {all} lists {}", self.what);
                *last = Instant::now();
            }
        }
        self.data.get(index)
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
