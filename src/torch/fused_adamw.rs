//! libtorch's fused AdamW: all parameters of a group in one pass over memory.

use tch::{Device, Kind, Tensor};

use super::trials::Trials;
use super::upload;

/// Whether AdamW steps on `device` are made by libtorch's fused operator, and if not, why not: then
/// by tensor operations, one parameter after the other, with the same results but for rounding.
///
/// The operator is tried once in a process, against numbers known beforehand.
///
/// ```
/// use reward_model::{fused_adamw, tch::Device};
///
/// match fused_adamw(Device::Cpu) {
///     Ok(()) => println!("fused"),
///     Err(reason) => println!("one parameter after the other: {reason}"),
/// }
/// ```
///
/// # Errors
/// The reason: another system than Linux, a libtorch without the interface through which the
/// operator is called (before 2.11), a device other than a CPU or a GPU, or numbers that are wrong.
pub fn fused_adamw(device: Device) -> Result<(), String> {
    static TRIALS: Trials = Trials::new();
    TRIALS.result(device, || try_out(device))
}

/// The numbers of a step that all parameters of a group share.
#[derive(Clone, Copy)]
pub(crate) struct Hyperparameters {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub epsilon: f64,
}

/// Parameters of one device and dtype, all contiguous, with their gradients and moments.
#[derive(Default)]
pub(crate) struct Group {
    pub parameters: Vec<Tensor>,
    pub gradients: Vec<Tensor>,
    pub means: Vec<Tensor>,
    pub squares: Vec<Tensor>,
}

/// The `step`-th step, counted from 1. To be called where gradients are not recorded, and where
/// [`fused_adamw`] has found nothing amiss.
#[cfg(target_os = "linux")]
pub(crate) fn step(group: &Group, numbers: Hyperparameters, step: i32) -> Result<(), String> {
    use super::dispatcher::{Argument, Dispatcher};

    let Some(first) = group.parameters.first() else { return Ok(()) };
    let steps = Tensor::f_full([0i64; 0], f64::from(step), (Kind::Float, first.device()))
        .map_err(|error| error.to_string())?;
    let steps: Vec<Tensor> = group.parameters.iter().map(|_| steps.shallow_clone()).collect();
    Dispatcher::get()?.call(
        c"aten::_fused_adamw_",
        c"",
        &[
            Argument::Tensors(&group.parameters),
            Argument::Tensors(&group.gradients),
            Argument::Tensors(&group.means),
            Argument::Tensors(&group.squares),
            Argument::Tensors(&[]),
            Argument::Tensors(&steps),
            Argument::Double(numbers.learning_rate),
            Argument::Double(numbers.beta1),
            Argument::Double(numbers.beta2),
            Argument::Double(numbers.weight_decay),
            Argument::Double(numbers.epsilon),
            // amsgrad, maximize, grad_scale, found_inf
            Argument::Bool(false),
            Argument::Bool(false),
            Argument::None,
            Argument::None,
        ],
    )
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn step(_: &Group, _: Hyperparameters, _: i32) -> Result<(), String> {
    Err("libtorch's operators are called by name on Linux only".into())
}

/// Two steps on three numbers, as they must come out, in the dtypes of models.
fn try_out(device: Device) -> Result<(), String> {
    [Kind::Float, Kind::Double].into_iter().try_for_each(|kind| try_out_in(kind, device))
}

fn try_out_in(kind: Kind, device: Device) -> Result<(), String> {
    let numbers = Hyperparameters {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        weight_decay: 0.5,
        epsilon: 1e-3,
    };
    let start = [1.0f64, -2.0, 0.5];
    let gradient = [0.5f64, 0.25, -3.0];
    let _no_grad = tch::no_grad_guard();
    let tensor =
        |values: &[f64]| -> crate::Result<Tensor> { Ok(upload(values, device)?.f_to_kind(kind)?) };
    let run = || -> crate::Result<Result<Vec<f64>, String>> {
        let group = Group {
            parameters: vec![tensor(&start)?],
            gradients: vec![tensor(&gradient)?],
            means: vec![tensor(&[0.0; 3])?],
            squares: vec![tensor(&[0.0; 3])?],
        };
        for number in 1..=2 {
            if let Err(error) = step(&group, numbers, number) {
                return Ok(Err(error));
            }
        }
        let stepped = group.parameters[0].f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        Ok(Ok(Vec::try_from(stepped)?))
    };
    let got = run().map_err(|error| error.to_string())??;
    for ((&start, &gradient), &got) in start.iter().zip(&gradient).zip(&got) {
        // With one gradient again and again, the corrected moments are g and g².
        let step = 0.1 * gradient / (gradient.abs() + 1e-3);
        let want = (start * 0.95 - step) * 0.95 - step;
        if (got - want).abs() > 1e-6 {
            return Err(format!("libtorch's fused AdamW gives {got} where {want} is right"));
        }
    }
    Ok(())
}
