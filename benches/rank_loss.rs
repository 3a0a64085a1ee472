//! Time and memory of the rank loss, forward and backward, beside the vectorised expressions that
//! people write on libtorch, in one run: `cargo bench --bench rank_loss -- --threads 2 --seconds 4`.
//!
//! All compute the same sum over the same batch of random lists of K responses, and their values
//! and gradients are compared before anything is timed. Every round takes them in another order, since
//! whoever comes after his like finds libtorch's code in the cache; a figure is the median over rounds,
//! of a batch. "Held" is what stays allocated between forward and backward:
//! the result and all that the graph keeps for the backward pass. "Peak" is how far the process's
//! resident memory rises in a round, which tells of long lists only; what comes from pages that the
//! allocator has kept is not seen.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use reward_model::tch::{self, Device, Kind, Tensor};
use reward_model::{RankLoss, Result};

/// Lists in a batch, and responses in a list.
const CASES: [(i64, i64); 4] = [(8, 4), (1024, 4), (16, 64), (16, 1024)];

type Loss = fn(&Tensor) -> Result<Tensor>;

const CONTENDERS: [(&str, Loss); 5] = [
    ("rank_loss", |rewards| RankLoss::new().forward(rewards)),
    ("fused(false)", |rewards| RankLoss::new().fused(false).forward(rewards)),
    ("K x K", square),
    ("pairs", selected),
    ("pairs, kept", selected_again),
];

/// Every difference in a K x K matrix, its upper triangle summed.
fn square(rewards: &Tensor) -> Result<Tensor> {
    let difference = rewards.f_unsqueeze(-1)?.f_sub(&rewards.f_unsqueeze(-2)?)?;
    Ok(difference.f_log_sigmoid()?.f_triu(1)?.f_sum(Kind::Float)?.f_neg()?)
}

/// The differences of the pairs alone.
fn selected(rewards: &Tensor) -> Result<Tensor> {
    differences(rewards, &pairs_of(rewards)?)
}

/// The same, by whoever has lists of one length only and makes their pairs once.
fn selected_again(rewards: &Tensor) -> Result<Tensor> {
    thread_local!(static PAIRS: RefCell<Option<(i64, Tensor)>> = const { RefCell::new(None) });
    PAIRS.with_borrow_mut(|kept| {
        let len = rewards.size()[1];
        let pairs = match kept.take() {
            Some((of, pairs)) if of == len => pairs,
            _ => pairs_of(rewards)?,
        };
        let loss = differences(rewards, &pairs);
        *kept = Some((len, pairs));
        loss
    })
}

fn pairs_of(rewards: &Tensor) -> Result<Tensor> {
    let len = rewards.size()[1];
    Ok(Tensor::f_triu_indices(len, len, 1, (Kind::Int64, rewards.device()))?)
}

fn differences(rewards: &Tensor, pairs: &Tensor) -> Result<Tensor> {
    let of = |row| -> Result<Tensor> { Ok(rewards.f_index_select(1, &pairs.f_select(0, row)?)?) };
    Ok(of(0)?.f_sub(&of(1)?)?.f_log_sigmoid()?.f_sum(Kind::Float)?.f_neg()?)
}

fn main() -> Result<()> {
    let option = |name: &str, default: u64| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    tch::set_num_threads(option("--threads", tch::get_num_threads().unsigned_abs().into()) as i32);
    let budget = Duration::from_secs(option("--seconds", 4));

    println!(
        "pairwise logistic loss, f32, CPU, {} threads; a batch, forward and backward, medians\n",
        tch::get_num_threads()
    );
    println!(
        "{:>5} {:>5}  {:<12} {:>11} {:>11} {:>11} {:>7} {:>12} {:>9} {:>7}",
        "lists", "K", "", "forward", "backward", "both", "ratio", "held", "peak", "rounds"
    );
    for (lists, len) in CASES {
        tch::manual_seed(1);
        let rewards = Tensor::f_randn([lists, len], (Kind::Float, Device::Cpu))?;
        compare(&rewards)?;
        let mut samples = CONTENDERS.map(|_| Samples::default());
        let started = Instant::now();
        let mut order: [usize; CONTENDERS.len()] = std::array::from_fn(|at| at);
        while started.elapsed() < budget {
            shuffle(&mut order);
            for at in order {
                samples[at].round(CONTENDERS[at].1, &rewards)?;
            }
        }
        let fastest = median(&samples[0].both);
        for ((name, loss), samples) in CONTENDERS.iter().zip(samples) {
            let (held, peak) = memory(*loss, &rewards)?;
            println!(
                "{lists:>5} {len:>5}  {name:<12} {:>11} {:>11} {:>11} {:>7.2} {:>12} {:>9} {:>7}",
                micros(median(&samples.forward)),
                micros(median(&samples.backward)),
                micros(median(&samples.both)),
                median(&samples.both).as_secs_f64() / fastest.as_secs_f64(),
                held.map_or("-".into(), |bytes| bytes.to_string()),
                peak.map_or("-".into(), |kilobytes| format!("{kilobytes} kB")),
                samples.both.len(),
            );
        }
    }
    Ok(())
}

/// Another order.
fn shuffle(order: &mut [usize]) {
    for last in (1..order.len()).rev() {
        let other = Tensor::randint(last as i64 + 1, [1], (Kind::Int64, Device::Cpu));
        order.swap(last, other.int64_value(&[0]) as usize);
    }
}

#[derive(Default)]
struct Samples {
    forward: Vec<Duration>,
    backward: Vec<Duration>,
    both: Vec<Duration>,
}

impl Samples {
    fn round(&mut self, loss: Loss, rewards: &Tensor) -> Result<()> {
        let rewards = rewards.copy().f_set_requires_grad(true)?;
        let start = Instant::now();
        let value = loss(&rewards)?;
        let middle = Instant::now();
        value.f_backward()?;
        let end = Instant::now();
        self.forward.push(middle - start);
        self.backward.push(end - middle);
        self.both.push(end - start);
        Ok(())
    }
}

/// All contenders compute the same thing, or their times mean nothing.
fn compare(rewards: &Tensor) -> Result<()> {
    let mut results = Vec::new();
    for (_, loss) in CONTENDERS {
        let rewards = rewards.copy().f_set_requires_grad(true)?;
        let value = loss(&rewards)?;
        value.f_backward()?;
        results.push((value.f_double_value(&[])?, rewards.f_grad()?));
    }
    let (a, da) = &results[0];
    for (b, db) in &results[1..] {
        assert!(((a - b) / b).abs() < 1e-4, "values differ: {a} {b}");
        let difference = da.f_sub(db)?.f_abs()?.f_max()?.f_double_value(&[])?;
        assert!(difference < 1e-2, "gradients differ by {difference}");
    }
    Ok(())
}

fn micros(time: Duration) -> String {
    format!("{:.2} us", time.as_secs_f64() * 1e6)
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Bytes that stay allocated between forward and backward, and kilobytes by which resident memory
/// rises, where the system tells.
fn memory(loss: Loss, rewards: &Tensor) -> Result<(Option<u64>, Option<u64>)> {
    let rewards = rewards.copy().f_set_requires_grad(true)?;
    release();
    let resident = resident("VmRSS:");
    let before = allocated();
    let value = loss(&rewards)?;
    let held = allocated().zip(before).map(|(after, before)| after.saturating_sub(before));
    value.f_backward()?;
    let peak = self::resident("VmHWM:").zip(resident).map(|(peak, was)| peak.saturating_sub(was));
    Ok((held, peak))
}

/// A line of /proc/self/status, in kilobytes.
fn resident(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|found| found.strip_prefix(line))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Gives free memory back, and has the system forget the highest use so far.
fn release() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: gives free pages back; no precondition.
    unsafe {
        libc::malloc_trim(0);
    }
    // Where there is no such file, there is no `VmHWM` either.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
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
