//! Time and memory of `rank_loss` beside the plain vectorised expression that people write on
//! libtorch, in one run: `cargo bench --bench rank_loss -- --threads 2 --seconds 4`.
//!
//! Both compute the same sum over the same batch of random lists of K responses, and their values
//! and gradients are compared before anything is timed. Rounds alternate between the two; a figure
//! is the median over rounds, divided by the number of lists. "Bytes" is what stays allocated
//! between forward and backward: the result and all that the graph keeps for the backward pass.

use std::time::{Duration, Instant};

use reward_model::tch::{self, Device, Kind, Tensor};
use reward_model::{rank_loss, Result};

/// Responses in a list, and lists in a batch.
const CASES: [(i64, i64); 4] = [(4, 1024), (9, 512), (64, 64), (1024, 1)];

type Loss = fn(&Tensor) -> Result<Tensor>;

const CONTENDERS: [(&str, Loss); 2] = [("rank_loss", rank_loss), ("plain", plain)];

/// Every difference in a K x K matrix, its upper triangle summed.
fn plain(rewards: &Tensor) -> Result<Tensor> {
    let difference = rewards.f_unsqueeze(-1)?.f_sub(&rewards.f_unsqueeze(-2)?)?;
    Ok(difference.f_log_sigmoid()?.f_triu(1)?.f_sum(Kind::Float)?.f_neg()?)
}

#[derive(Default)]
struct Samples {
    forward: Vec<Duration>,
    backward: Vec<Duration>,
    bytes: Option<u64>,
}

fn main() -> Result<()> {
    let option = |name: &str, default: u64| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    tch::set_num_threads(option("--threads", tch::get_num_threads().unsigned_abs().into()) as i32);
    let budget = Duration::from_secs(option("--seconds", 4));

    println!(
        "pairwise logistic loss, f32, CPU, {} threads; per list, medians of alternating rounds\n",
        tch::get_num_threads()
    );
    println!(
        "{:>5} {:>6}  {:<10} {:>12} {:>12} {:>12} {:>8}",
        "K", "lists", "", "forward", "backward", "bytes", "rounds"
    );
    for (len, lists) in CASES {
        tch::manual_seed(1);
        let rewards = Tensor::f_randn([lists, len], (Kind::Float, Device::Cpu))?;
        compare(&rewards)?;
        let mut samples: [Samples; 2] = Default::default();
        let started = Instant::now();
        while started.elapsed() < budget {
            for ((_, loss), samples) in CONTENDERS.iter().zip(&mut samples) {
                round(*loss, &rewards, samples)?;
            }
        }
        for ((name, _), samples) in CONTENDERS.iter().zip(samples) {
            let rounds = samples.forward.len();
            let per_list = |times: Vec<Duration>| {
                format!("{:.3} us", median(times).as_secs_f64() * 1e6 / lists as f64)
            };
            let bytes = samples.bytes.map_or("-".into(), |b| format!("{}", b / lists as u64));
            println!(
                "{len:>5} {lists:>6}  {name:<10} {:>12} {:>12} {bytes:>12} {rounds:>8}",
                per_list(samples.forward),
                per_list(samples.backward),
            );
        }
    }
    Ok(())
}

fn round(loss: Loss, rewards: &Tensor, samples: &mut Samples) -> Result<()> {
    let rewards = rewards.copy().f_set_requires_grad(true)?;
    let before = allocated();
    let start = Instant::now();
    let value = loss(&rewards)?;
    samples.forward.push(start.elapsed());
    let held = allocated().zip(before).map(|(after, before)| after.saturating_sub(before));
    // The first rounds also allocate what libtorch keeps for later.
    samples.bytes = match (samples.bytes, held) {
        (Some(least), Some(held)) => Some(least.min(held)),
        (_, held) => held,
    };
    let start = Instant::now();
    value.f_backward()?;
    samples.backward.push(start.elapsed());
    Ok(())
}

/// The contenders compute the same thing, or their times mean nothing.
fn compare(rewards: &Tensor) -> Result<()> {
    let mut results = Vec::new();
    for (_, loss) in CONTENDERS {
        let rewards = rewards.copy().f_set_requires_grad(true)?;
        let value = loss(&rewards)?;
        value.f_backward()?;
        results.push((value.f_double_value(&[])?, rewards.f_grad()?));
    }
    let [(a, da), (b, db)] = &results[..] else { unreachable!() };
    assert!(((a - b) / b).abs() < 1e-4, "values differ: {a} {b}");
    let difference = da.f_sub(db)?.f_abs()?.f_max()?.f_double_value(&[])?;
    assert!(difference < 1e-2, "gradients differ by {difference}");
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The bytes that malloc has handed out, where it tells.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn allocated() -> Option<u64> {
    // SAFETY: reads the allocator's counters; no precondition.
    let info = unsafe { libc::mallinfo2() };
    Some((info.uordblks + info.hblkhd) as u64)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn allocated() -> Option<u64> {
    None
}
