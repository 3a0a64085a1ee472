//! Time and memory of the rank loss, forward and backward, beside the vectorised expressions that
//! people write on libtorch, in one run: `cargo bench --bench rank_loss -- --threads 2 --seconds 4`.
//!
//! All compute the same sum over the same batch of random lists of K responses, and their values
//! and gradients are compared with those in f64 on a CPU before anything is timed. Every round takes
//! them in another order, since whoever comes after his like finds libtorch's code in the cache; a
//! figure is the median over rounds, of a batch. "Held" is what stays allocated between forward and
//! backward: the result and all that the graph keeps for the backward pass. "Peak" is how far the
//! process's resident memory rises in a round, which tells of long lists only; what comes from pages
//! that the allocator has kept is not seen.
//!
//! `--device cuda` computes on a GPU, and every time ends when the GPU has done its work; memory is
//! not measured there. `--json` prints a line of JSON for each row in place of the table, and in it how
//! far value and gradient are from those in f64.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use reward_model::tch::{self, Cuda, Device, Kind, Tensor};
use reward_model::{parse_device, RankLoss, Result};
use serde_json::json;

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
    Ok(difference.f_log_sigmoid()?.f_triu(1)?.f_sum(rewards.kind())?.f_neg()?)
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
    Ok(of(0)?.f_sub(&of(1)?)?.f_log_sigmoid()?.f_sum(rewards.kind())?.f_neg()?)
}

fn main() -> Result<()> {
    let given = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let option = |name: &str, default: u64| {
        given(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    // First, since libtorch must not have been asked for CUDA before.
    let device = parse_device(given("--device").as_deref().unwrap_or("cpu"))?;
    tch::set_num_threads(option("--threads", tch::get_num_threads().unsigned_abs().into()) as i32);
    let budget = Duration::from_secs(option("--seconds", 4));
    let as_json = std::env::args().any(|argument| argument == "--json");

    if !as_json {
        head(device);
    }
    for (lists, len) in CASES {
        tch::manual_seed(1);
        let rewards = Tensor::f_randn([lists, len], (Kind::Float, Device::Cpu))?;
        let apart = compare(&rewards, device)?;
        let rewards = rewards.f_to_device(device)?;
        let mut samples = CONTENDERS.map(|_| Samples::default());
        let started = Instant::now();
        let mut order: [usize; CONTENDERS.len()] = std::array::from_fn(|at| at);
        while started.elapsed() < budget {
            shuffle(&mut order);
            for at in order {
                samples[at].round(CONTENDERS[at].1, &rewards)?;
            }
        }
        let fastest = median(&samples[0].both).as_secs_f64() * 1e6;
        for (at, samples) in samples.into_iter().enumerate() {
            let ((name, loss), (value, gradient)) = (CONTENDERS[at], apart[at]);
            let (held, peak) = memory(loss, &rewards)?;
            let medians = [&samples.forward, &samples.backward, &samples.both].map(|of| median(of));
            let [forward, backward, both] = medians.map(|time| time.as_secs_f64() * 1e6);
            if as_json {
                let row = json!({
                    "lists": lists, "len": len, "name": name, "rounds": samples.both.len(),
                    "forward_us": forward, "backward_us": backward, "both_us": both,
                    "value_apart": value, "gradient_apart": gradient,
                });
                println!("{row}");
                continue;
            }
            println!(
                "{lists:>5} {len:>5}  {name:<12} {:>11} {:>11} {:>11} {:>7.2} {:>12} {:>9} {:>7}",
                format!("{forward:.2} us"),
                format!("{backward:.2} us"),
                format!("{both:.2} us"),
                both / fastest,
                held.map_or("-".into(), |bytes| bytes.to_string()),
                peak.map_or("-".into(), |kilobytes| format!("{kilobytes} kB")),
                samples.both.len(),
            );
        }
    }
    Ok(())
}

fn head(device: Device) {
    let place = match device {
        Device::Cpu => format!("CPU, {} threads", tch::get_num_threads()),
        other => format!("{other:?}"),
    };
    println!("pairwise logistic loss, f32, {place}; a batch, forward and backward, medians\n");
    println!(
        "{:>5} {:>5}  {:<12} {:>11} {:>11} {:>11} {:>7} {:>12} {:>9} {:>7}",
        "lists", "K", "", "forward", "backward", "both", "ratio", "held", "peak", "rounds"
    );
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
        let start = now(rewards.device());
        let value = loss(&rewards)?;
        let middle = now(rewards.device());
        value.f_backward()?;
        let end = now(rewards.device());
        self.forward.push(middle - start);
        self.backward.push(end - middle);
        self.both.push(end - start);
        Ok(())
    }
}

/// The time at which a device has done all that it was asked to.
fn now(device: Device) -> Instant {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
    Instant::now()
}

/// How far value and gradient of each contender are, on `device` and in f32, from those in f64 on a CPU,
/// by the size of the value and of the largest number of the gradient. All compute the same thing, or
/// their times mean nothing.
fn compare(rewards: &Tensor, device: Device) -> Result<Vec<(f64, f64)>> {
    let differentiate = |loss: Loss, rewards: Tensor| -> Result<(f64, Tensor)> {
        let rewards = rewards.f_set_requires_grad(true)?;
        let value = loss(&rewards)?;
        value.f_backward()?;
        let gradient = rewards.f_grad()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        Ok((value.f_double_value(&[])?, gradient))
    };
    let most = |x: &Tensor| x.f_abs()?.f_max()?.f_double_value(&[]);
    let (exact, slope) = differentiate(selected, rewards.f_to_kind(Kind::Double)?)?;
    let mut apart = Vec::new();
    for (name, loss) in CONTENDERS {
        let (value, gradient) = differentiate(loss, rewards.f_to_device(device)?.copy())?;
        let value = ((value - exact) / exact).abs();
        let gradient = most(&gradient.f_sub(&slope)?)? / most(&slope)?;
        assert!(value < 1e-4, "{name}: the value is {value:.1e} from that in f64");
        assert!(gradient < 1e-4, "{name}: the gradient is {gradient:.1e} from that in f64");
        apart.push((value, gradient));
    }
    Ok(apart)
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Bytes that stay allocated between forward and backward, and kilobytes by which resident memory
/// rises, where the system tells; of a CPU.
fn memory(loss: Loss, rewards: &Tensor) -> Result<(Option<u64>, Option<u64>)> {
    if rewards.device() != Device::Cpu {
        return Ok((None, None));
    }
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
