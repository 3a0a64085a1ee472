//! Scores ranked lists with a model folder: one JSON object a list, in the order of the input.
//!
//! ```text
//! cargo run --release --example score -- --model target/reward-model --input lists.jsonl
//! echo '{"prompt": "Any good?", "responses": ["Superb!", "Broke at once."]}' |
//!     cargo run --release --example score
//! ```
//!
//! `{"rewards":[1.25,-0.5]}` has a reward for each response in the order of the input line; a list
//! that cannot be scored gives `{"rewards":null,"error":"..."}`, and the exit status is then 1.

mod support;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use reward_model::{data, parse_device, Error, RankedList, Result, Scorer};
use serde_json::json;

/// Lists that are read, and scored in batches of similar length, before any of them is printed.
const LISTS_AT_ONCE: usize = 512;

/// Score ranked lists with a reward model folder.
#[derive(Parser)]
struct Arguments {
    /// The model folder, or hf:org/name[@revision] to download (with --features hub)
    #[arg(long, value_name = "DIR", default_value = support::DEFAULT_MODEL)]
    model: String,
    /// Lists to score, in any format and container that train_rm reads [default: standard input,
    /// JSONL or TSV]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// cpu, cuda or cuda:N
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
}

fn main() -> ExitCode {
    support::report(|| run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut lists: Box<dyn Iterator<Item = Result<RankedList>>> = match &arguments.input {
        Some(file) => Box::new(data::open(file)?),
        None => Box::new(data::from_stdin()),
    };
    let scorer =
        Scorer::load(support::resolve(&arguments.model)?, parse_device(&arguments.device)?)?;

    let bar = support::spinner();
    let (mut all, mut failed) = (0, 0);
    loop {
        let chunk: Vec<Result<RankedList>> = lists.by_ref().take(LISTS_AT_ONCE).collect();
        if chunk.is_empty() {
            break;
        }
        let results = score(&scorer, chunk)?;
        all += results.len();
        failed += results.iter().filter(|result| result.is_err()).count();
        match bar.suspend(|| print(&results)) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(source) => {
                return Err(Error::Io { action: "write", path: "<stdout>".into(), source })
            }
            Ok(()) => {}
        }
        bar.set_message(format!("{all} lists"));
    }
    bar.finish_and_clear();
    if failed > 0 {
        eprintln!("{failed} of {all} lists could not be scored; the output says why");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The rewards of each list in the order of its input line, or why there are none.
fn score(scorer: &Scorer, chunk: Vec<Result<RankedList>>) -> Result<Vec<Result<Vec<f32>, String>>> {
    let good: Vec<RankedList> =
        chunk.iter().filter_map(|list| list.as_ref().ok().cloned()).collect();
    let mut scored = good.iter().zip(scorer.score(&good)?);
    chunk
        .into_iter()
        .map(|list| match list {
            // Nothing more can be read.
            Err(error @ Error::Io { .. }) => Err(error),
            Err(error) => Ok(Err(error.to_string())),
            Ok(_) => Ok(match scored.next() {
                Some((list, Ok(rewards))) => in_input_order(list, &rewards),
                Some((_, Err(error))) => Err(error.to_string()),
                None => Err("not scored".into()),
            }),
        })
        .collect()
}

fn in_input_order(list: &RankedList, rewards: &[f32]) -> Result<Vec<f32>, String> {
    let mut ordered = vec![0.0; rewards.len()];
    for (response, &reward) in list.responses().iter().zip(rewards) {
        if !reward.is_finite() {
            return Err(format!("responses[{}]: the reward is {reward}", response.position()));
        }
        ordered[response.position()] = reward;
    }
    Ok(ordered)
}

fn print(results: &[Result<Vec<f32>, String>]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for result in results {
        match result {
            // Not through `Value`, which widens an f32 and with it its digits.
            Ok(rewards) => writeln!(out, "{{\"rewards\":{}}}", serde_json::to_string(rewards)?)?,
            Err(error) => writeln!(out, "{}", json!({ "rewards": null, "error": error }))?,
        }
    }
    out.flush()
}
