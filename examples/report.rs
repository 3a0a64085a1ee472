//! Writes a page about a run, `report.html`, and its pictures.
//!
//! ```text
//! cargo run --release --example report -- --model target/reward-model
//! ```
//!
//! Takes the folder of a run that lasts, too; the page is then about what has been done so far.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Write a page about a run, and its pictures
#[derive(Parser)]
struct Arguments {
    /// The model folder, or the folder of a run
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/reward-model"))]
    model: PathBuf,
}

fn main() -> ExitCode {
    match reward_model::report::write(Arguments::parse().model) {
        Ok(written) => {
            for path in written {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
