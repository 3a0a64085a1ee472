//! AdamW, with its state kept by parameter name.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::selection::Trained;
use super::TrainConfig;
use crate::torch::{fused_adamw, fused_adamw_step, scale, Group, Hyperparameters};
use crate::{Error, Result};

/// AdamW (Loshchilov & Hutter 2019) on the parameters that train, each with its own multiple of the
/// learning rate η:
///
/// ```text
/// m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²
/// p ← (1 − η λ) p − η (m / (1 − β1^t)) / (√(v / (1 − β2^t)) + ε)
/// ```
///
/// Weight decay λ is for matrices; biases and norms, which have one dimension, have none.
pub(super) struct AdamW {
    slots: Vec<Slot>,
    steps: i32,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    /// Whether the fused operator may be used.
    fused: bool,
}

struct Slot {
    name: String,
    parameter: Tensor,
    rate: f64,
    mean: Tensor,
    square: Tensor,
}

impl Slot {
    /// Whether the numbers lie in memory as the fused operator reads them: in one order, whatever
    /// the strides.
    fn is_contiguous(&self) -> bool {
        [&self.parameter, &self.mean, &self.square].iter().all(|tensor| tensor.is_contiguous())
    }

    /// What the fused operator does, by tensor operations.
    fn step(&mut self, gradient: &Tensor, numbers: Hyperparameters, step: i32) -> Result<()> {
        let Hyperparameters { learning_rate, beta1, beta2, weight_decay, epsilon } = numbers;
        let correction1 = 1.0 - beta1.powi(step);
        let correction2 = 1.0 - beta2.powi(step);
        if weight_decay != 0.0 {
            let _ = self.parameter.f_mul_scalar_(1.0 - learning_rate * weight_decay)?;
        }
        let _ = self.mean.f_lerp_(gradient, 1.0 - beta1)?;
        let _ = self.square.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
        let spread =
            self.square.f_sqrt()?.f_div_scalar_(correction2.sqrt())?.f_add_scalar_(epsilon)?;
        let update = self.mean.f_div(&spread)?.f_mul_scalar_(learning_rate / correction1)?;
        let _ = self.parameter.f_sub_(&update)?;
        Ok(())
    }
}

impl AdamW {
    pub fn new(parameters: Vec<Trained>, config: &TrainConfig) -> Result<AdamW> {
        let slots: Vec<Slot> = parameters
            .into_iter()
            .map(|Trained { name, parameter, rate }| {
                let (mean, square) = (parameter.f_zeros_like()?, parameter.f_zeros_like()?);
                let (mean, square) = (mean.f_detach()?, square.f_detach()?);
                Ok(Slot { name, parameter, rate, mean, square })
            })
            .collect::<Result<_>>()?;
        Ok(AdamW {
            slots,
            steps: 0,
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
            fused: true,
        })
    }

    /// A copy of the parameters that train, as they are.
    pub fn weights(&self) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        self.slots.iter().map(|slot| Ok(slot.parameter.f_detach_copy()?)).collect()
    }

    /// Puts a copy's values back.
    pub fn set_weights(&mut self, weights: &[Tensor]) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for (slot, weight) in self.slots.iter_mut().zip(weights) {
            slot.parameter.f_copy_(weight)?;
        }
        Ok(())
    }

    /// All of its state that is a tensor, by name, the parameters among it. Writing into one changes
    /// the state.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let parts = |slot: &Slot| {
            [("weight", &slot.parameter), ("mean", &slot.mean), ("square", &slot.square)]
                .map(|(part, tensor)| (format!("{part}/{}", slot.name), tensor.shallow_clone()))
        };
        self.slots.iter().flat_map(parts).collect()
    }

    /// How many steps it has made.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// Goes on from so many steps.
    pub fn set_steps(&mut self, steps: i32) {
        self.steps = steps;
    }

    /// Multiplies all gradients.
    pub fn scale_gradients(&self, factor: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        scale(&self.gradients().map(|(_, gradient)| gradient).collect::<Result<Vec<_>>>()?, factor)
    }

    /// Forgets all gradients.
    pub fn zero_grad(&mut self) {
        for slot in &mut self.slots {
            slot.parameter.zero_grad();
        }
    }

    /// Scales the gradients so that their norm, all together, is at most `max_norm`; gives the norm
    /// as it was. A norm that is not finite is left for the caller to refuse.
    pub fn clip(&self, max_norm: f64) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let gradients =
            self.gradients().map(|(_, gradient)| gradient).collect::<Result<Vec<_>>>()?;
        // One by one: `_foreach_norm` takes a scalar, which libtorch's C interface cannot pass.
        let norms =
            gradients.iter().map(|gradient| Ok(gradient.f_norm()?)).collect::<Result<Vec<_>>>()?;
        let norms = Tensor::f_stack(&norms, 0)?.f_to_kind(Kind::Double)?;
        let norm = norms.f_norm()?.f_double_value(&[])?;
        if norm > max_norm && norm.is_finite() {
            scale(&gradients, max_norm / norm)?;
        }
        Ok(norm)
    }

    /// The parameters whose gradients hold a NaN or an infinity.
    pub fn not_finite(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for (name, gradient) in self.gradients() {
            if !gradient?.f_sum(Kind::Double)?.f_double_value(&[])?.is_finite() {
                names.push(name.to_string());
            }
        }
        Ok(names)
    }

    /// One step down the gradients: by libtorch's fused operator where it serves, a call for each
    /// rate and decay, and parameter by parameter where not.
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.steps += 1;
        let Some(first) = self.slots.first() else { return Ok(()) };
        let device = first.parameter.device();
        let fused = self.fused && fused_adamw(device).is_ok();
        let AdamW { beta1, beta2, epsilon, .. } = *self;
        let mut groups: BTreeMap<_, (Hyperparameters, Group)> = BTreeMap::new();
        for slot in &mut self.slots {
            let gradient = slot.parameter.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            let decays = slot.parameter.dim() > 1;
            let weight_decay = if decays { self.weight_decay } else { 0.0 };
            let learning_rate = learning_rate * slot.rate;
            let numbers = Hyperparameters { learning_rate, beta1, beta2, weight_decay, epsilon };
            if fused && slot.parameter.device() == device && slot.is_contiguous() {
                let key = (slot.rate.to_bits(), decays, slot.parameter.f_kind()? as i32);
                let (_, group) = groups.entry(key).or_insert_with(|| (numbers, Group::default()));
                group.parameters.push(slot.parameter.shallow_clone());
                group.gradients.push(gradient.f_contiguous()?);
                group.means.push(slot.mean.shallow_clone());
                group.squares.push(slot.square.shallow_clone());
            } else {
                slot.step(&gradient, numbers, self.steps)?;
            }
        }
        for (numbers, group) in groups.values() {
            fused_adamw_step(group, *numbers, self.steps)
                .map_err(|message| Error::InvalidArgument(format!("AdamW: {message}")))?;
        }
        Ok(())
    }

    fn gradients(&self) -> impl Iterator<Item = (&str, Result<Tensor>)> {
        self.slots.iter().filter_map(|slot| match slot.parameter.f_grad() {
            Ok(gradient) if !gradient.defined() => None,
            gradient => Some((slot.name.as_str(), gradient.map_err(Error::from))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::{self, OptimizerConfig};
    use tch::Device;

    fn trained(name: &str, parameter: &Tensor, rate: f64) -> Trained {
        Trained { name: name.into(), parameter: parameter.shallow_clone(), rate }
    }

    /// Ten steps on the same gradients as libtorch's own AdamW.
    #[test]
    fn agrees_with_libtorch() {
        let start = Tensor::randn([4, 3], (Kind::Double, Device::Cpu));
        let target = Tensor::randn([4, 3], (Kind::Double, Device::Cpu));
        let config = TrainConfig { weight_decay: 0.1, ..TrainConfig::default() };

        let ours = start.copy().set_requires_grad(true);
        let mut adam = AdamW::new(vec![trained("p", &ours, 1.0)], &config).unwrap();
        let mut vs = nn::VarStore::new(Device::Cpu);
        let theirs = vs.root().var_copy("p", &start.to_kind(Kind::Float));
        vs.double();
        let theirs = {
            let _ = theirs;
            vs.variables()["p"].shallow_clone()
        };
        tch::no_grad(|| theirs.shallow_clone().copy_(&start));
        let mut reference = nn::adamw(0.9, 0.999, 0.1).build(&vs, 1e-2).unwrap();
        for _ in 0..10 {
            adam.zero_grad();
            (&ours - &target).square().sum(Kind::Double).backward();
            adam.step(1e-2).unwrap();
            reference.backward_step(&(&theirs - &target).square().sum(Kind::Double));
        }
        let difference = (&ours - &theirs).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{difference:e}");
        let moved = (&ours - &start).abs().max().double_value(&[]);
        assert!(moved > 0.05, "{moved}");
    }

    #[test]
    fn clipping_reports_the_norm_and_bounds_it() {
        let tensors: Vec<Trained> = [3.0f32, 4.0]
            .iter()
            .map(|&g| {
                let p = Tensor::from_slice(&[0.0f32]).set_requires_grad(true);
                (&p * f64::from(g)).sum(Kind::Float).backward();
                trained("p", &p, 1.0)
            })
            .collect();
        let adam = AdamW::new(tensors, &TrainConfig::default()).unwrap();
        assert_eq!(adam.clip(10.0).unwrap(), 5.0);
        assert_eq!(adam.clip(1.0).unwrap(), 5.0);
        assert!((adam.clip(10.0).unwrap() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn decay_is_for_matrices_and_follows_the_rate() {
        let make = |size: &[i64]| {
            let p = Tensor::ones(size, (Kind::Float, Device::Cpu)).set_requires_grad(true);
            (&p * 0.0).sum(Kind::Float).backward();
            p
        };
        let (matrix, slow, bias) = (make(&[2, 2]), make(&[2, 2]), make(&[2]));
        let slots =
            vec![trained("a", &matrix, 1.0), trained("b", &slow, 0.1), trained("c", &bias, 1.0)];
        let config = TrainConfig { weight_decay: 0.5, ..TrainConfig::default() };
        let mut adam = AdamW::new(slots, &config).unwrap();
        adam.step(0.1).unwrap();
        assert!((matrix.double_value(&[0, 0]) - 0.95).abs() < 1e-6);
        assert!((slow.double_value(&[0, 0]) - 0.995).abs() < 1e-6);
        assert_eq!(bias.double_value(&[0]), 1.0);
    }

    /// Ten steps, fused, again, and parameter by parameter: two rates, with decay and without, one
    /// parameter without a gradient, one with strides, one whose gradient has them.
    #[test]
    fn fused_steps_agree_and_repeat() {
        assert_eq!(fused_adamw(Device::Cpu), Ok(()));
        let config = TrainConfig { weight_decay: 0.1, ..TrainConfig::default() };
        let run = |fused: bool| -> Vec<Vec<f32>> {
            tch::manual_seed(3);
            let mut parameters: Vec<Tensor> = [&[40, 33][..], &[33, 40], &[77], &[8, 9], &[4, 4]]
                .iter()
                .map(|size| Tensor::randn(*size, (Kind::Float, Device::Cpu)))
                .collect();
            parameters[3] = parameters[3].transpose(0, 1);
            let leaves: Vec<Tensor> =
                parameters.iter().map(|p| p.detach().set_requires_grad(true)).collect();
            let rates = [1.0, 0.3, 0.3, 1.0, 1.0];
            let slots = leaves.iter().zip(rates).map(|(p, rate)| trained("p", p, rate)).collect();
            let mut adam = AdamW { fused, ..AdamW::new(slots, &config).unwrap() };
            for _ in 0..10 {
                adam.zero_grad();
                // The gradient of a transposed view has strides.
                let turned = leaves[0].transpose(0, 1).contiguous();
                let loss = (&turned - &leaves[1]).square().sum(Kind::Float)
                    + (&leaves[2] * 0.1).exp().sum(Kind::Float)
                    + leaves[3].square().sum(Kind::Float);
                loss.backward();
                adam.step(1e-2).unwrap();
            }
            leaves
                .iter()
                .map(|p| Vec::try_from(p.detach().contiguous().reshape([-1])).unwrap())
                .collect()
        };
        let (fused, plain) = (run(true), run(false));
        assert_eq!(fused, run(true));
        for (fused, plain) in fused.concat().iter().zip(plain.concat()) {
            assert!((fused - plain).abs() <= 1e-6 * plain.abs().max(1.0), "{fused} is not {plain}");
        }
    }

    /// `cargo test --release --lib fused_step_times -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn fused_step_times() {
        for (count, side) in [(200, 64), (12, 768)] {
            let make = |fused: bool| {
                let slots = (0..count)
                    .map(|_| {
                        let p = Tensor::randn([side, side], (Kind::Float, Device::Cpu))
                            .set_requires_grad(true);
                        p.square().sum(Kind::Float).backward();
                        trained("p", &p, 1.0)
                    })
                    .collect();
                AdamW { fused, ..AdamW::new(slots, &TrainConfig::default()).unwrap() }
            };
            let mut contenders = [make(true), make(false)];
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..101 {
                for (adam, times) in contenders.iter_mut().zip(&mut times) {
                    let start = std::time::Instant::now();
                    adam.step(1e-4).unwrap();
                    times.push(start.elapsed());
                }
            }
            let [fused, plain] = times.map(|mut times| {
                times.sort_unstable();
                times[times.len() / 2].as_secs_f64() * 1e3
            });
            println!(
                "{count} x [{side}, {side}], {} threads: fused {fused:.3} ms, plain {plain:.3} ms, \
                 {:.1} times",
                tch::get_num_threads(),
                plain / fused
            );
        }
    }
}
