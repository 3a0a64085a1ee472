//! One operator on many tensors: on CUDA a few kernels, not one for each tensor.

use tch::{Device, Kind, Tensor};

use super::trials::Trials;
use super::upload;
use crate::Result;

/// Multiplies tensors of one device by `factor`, in place; one by one where libtorch's
/// `_foreach_mul_` does not serve. To be called where gradients are not recorded.
pub(crate) fn scale(tensors: &[Tensor], factor: f64) -> Result<()> {
    let Some(first) = tensors.first() else { return Ok(()) };
    if serves(first.device()).is_ok() {
        let factor = Tensor::f_full([0i64; 0], factor, (first.f_kind()?, first.device()))?;
        return multiply(tensors, &factor)
            .map_err(|message| crate::Error::InvalidArgument(format!("scaling: {message}")));
    }
    for tensor in tensors {
        let _ = tensor.shallow_clone().f_mul_scalar_(factor)?;
    }
    Ok(())
}

/// Whether the operator serves on a device, and if not, why not.
fn serves(device: Device) -> std::result::Result<(), String> {
    static TRIALS: Trials = Trials::new();
    TRIALS.result(device, || try_out(device))
}

#[cfg(target_os = "linux")]
fn multiply(tensors: &[Tensor], factor: &Tensor) -> std::result::Result<(), String> {
    use super::dispatcher::{Argument, Dispatcher};

    let arguments = [Argument::Tensors(tensors), Argument::Tensor(factor)];
    Dispatcher::get()?.call(c"aten::_foreach_mul_", c"Tensor", &arguments)
}

#[cfg(not(target_os = "linux"))]
fn multiply(_: &[Tensor], _: &Tensor) -> std::result::Result<(), String> {
    Err("libtorch's operators are called by name on Linux only".into())
}

/// Two tensors, as they must come out.
fn try_out(device: Device) -> std::result::Result<(), String> {
    let _no_grad = tch::no_grad_guard();
    let run = || -> Result<std::result::Result<Vec<f32>, String>> {
        let tensors = [upload(&[1.0f32, -2.0], device)?, upload(&[0.5f32], device)?];
        let factor = Tensor::f_full([0i64; 0], 0.25, (Kind::Float, device))?;
        if let Err(error) = multiply(&tensors, &factor) {
            return Ok(Err(error));
        }
        let all = Tensor::f_cat(&tensors, 0)?.f_to_device(Device::Cpu)?;
        Ok(Ok(Vec::try_from(all)?))
    };
    match run().map_err(|error| error.to_string())?? {
        right if right == [0.25, -0.5, 0.125] => Ok(()),
        wrong => Err(format!("libtorch's _foreach_mul_ gives {wrong:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_one_by_one() {
        assert_eq!(serves(Device::Cpu), Ok(()));
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
            let made = || {
                tch::manual_seed(5);
                let sizes = [vec![3, 4], vec![], vec![0], vec![7]];
                sizes.map(|size| Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(kind))
            };
            let (many, each) = (made(), made());
            let turned = many[0].transpose(0, 1);
            scale(&[turned, many[1].shallow_clone()], 0.3).unwrap();
            scale(&many[2..], 0.3).unwrap();
            for (mut tensor, scaled) in each.into_iter().zip(many) {
                let _ = tensor.f_mul_scalar_(0.3).unwrap();
                assert!(tensor.allclose(&scaled, 1e-7, 0.0, false), "{kind:?}");
            }
        }
        scale(&[], 2.0).unwrap();
    }
}
