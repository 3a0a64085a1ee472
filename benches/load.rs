//! Time and memory of loading a model folder of about a gigabyte, in a process of its own.
//!
//! What is printed as anonymous memory is the process's own, as the kernel counts it (RssAnon):
//! neither the files of libtorch nor the page cache. The peak must not be above the model's own
//! size and what libtorch has at the start by more than 100 MB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use reward_model::model::{DecoderType, SaveDtype, SaveOptions};
use reward_model::tch::{Device, Kind, Tensor};
use reward_model::{DecoderConfig, LoadOptions, Result, RewardModel, Transformer};

const FOLDER: &str = "REWARD_MODEL_BENCH_LOAD";
const ALLOWED_MB: f64 = 100.0;

fn main() -> ExitCode {
    match std::env::var_os(FOLDER).map(PathBuf::from) {
        Some(folder) => load(&folder),
        None => write_and_load(),
    }
    .unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn write_and_load() -> Result<ExitCode> {
    let config = DecoderConfig {
        vocab_size: 32_000,
        hidden_size: 1024,
        num_hidden_layers: 16,
        num_attention_heads: 16,
        num_key_value_heads: Some(4),
        intermediate_size: Some(4096),
        ..DecoderConfig::of(DecoderType::Llama)
    };
    let folder = tempfile::tempdir().map_err(|source| reward_model::Error::Io {
        action: "make a folder in it",
        path: std::env::temp_dir(),
        source,
    })?;
    let mut done = ExitCode::SUCCESS;
    let mut model = Transformer::random(config, 0, Device::Cpu)?;
    for dtype in [SaveDtype::F32, SaveDtype::Bf16] {
        let mut options = SaveOptions::default();
        (options.dtype, options.max_shard_bytes) = (dtype, 400_000_000);
        model = model.with_save_options(options);
        let dir = folder.path().join(format!("{dtype:?}"));
        reward_model::model::write_folder(&dir, false, |dir| model.save(dir))?;
        // A process that has never had the model in memory.
        let status = std::env::current_exe()
            .and_then(|program| Command::new(program).env(FOLDER, &dir).status());
        if !status.is_ok_and(|status| status.success()) {
            done = ExitCode::FAILURE;
        }
    }
    Ok(done)
}

fn load(folder: &Path) -> Result<ExitCode> {
    // Starts libtorch.
    let _ = Tensor::f_zeros([1], (Kind::Float, Device::Cpu))?;
    let before = anonymous_mb();
    let watch = Watch::start();
    let start = Instant::now();
    let model = Transformer::load(folder, &LoadOptions::default())?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = watch.peak_mb();
    let after = anonymous_mb();

    let own = model.parameters().iter().map(|(_, tensor)| 4 * tensor.numel()).sum::<usize>();
    let (own, disk) = (own as f64 / 1e6, disk_mb(folder));
    let beside = peak - before - own;
    println!(
        "{}: {disk:.0} MB on disk, {own:.0} MB as parameters: {seconds:.2} s, {:.0} MB/s; anonymous \
         memory {before:.0} MB before, {after:.0} MB after, {peak:.0} MB at most: {beside:.1} MB \
         beside the parameters",
        folder.file_name().unwrap_or_default().display(),
        disk / seconds,
    );
    Ok(if beside <= ALLOWED_MB { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn disk_mb(folder: &Path) -> f64 {
    let sizes = fs::read_dir(folder).into_iter().flatten().flatten();
    sizes.filter_map(|entry| Some(entry.metadata().ok()?.len() as f64 / 1e6)).sum()
}

/// RssAnon of this process; 0 where the kernel does not tell.
fn anonymous_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0 / 1e6
}

/// A thread that looks at the memory every millisecond.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<f64>,
}

impl Watch {
    fn start() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = thread::spawn(move || {
            let mut peak = 0.0;
            while !seen.load(Ordering::Relaxed) {
                peak = anonymous_mb().max(peak);
                thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        Watch { stop, thread }
    }

    fn peak_mb(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(f64::INFINITY).max(anonymous_mb())
    }
}
