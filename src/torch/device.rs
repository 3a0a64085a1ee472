//! Names of devices.

use tch::Device;

use crate::{Error, Result};

/// The device that a name stands for: `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// On Linux, asking for a GPU loads libtorch's CUDA library if the program is not linked with it
/// (linkers drop it); do so before anything else asks libtorch for CUDA.
///
/// # Errors
/// If the name is none of these, if the libtorch that is loaded has no CUDA, or if there is no such
/// GPU: each says what to do.
///
/// ```
/// use reward_model::{parse_device, tch::Device};
///
/// assert_eq!(parse_device("cpu")?, Device::Cpu);
/// assert!(parse_device("gpu").is_err());
/// # Ok::<(), reward_model::Error>(())
/// ```
pub fn parse_device(name: &str) -> Result<Device> {
    let error = |message: String| Error::Device { device: format!("{name:?}"), message };
    let index: usize = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(index)) => index,
            _ => return Err(error("no such device; use cpu, cuda or cuda:N".into())),
        },
    };
    #[cfg(target_os = "linux")]
    super::cuda::load().map_err(|missing| error(format!("{missing}; use cpu")))?;
    if !tch::utils::has_cuda() {
        return Err(error(
            "libtorch finds no CUDA here: no GPU, no NVIDIA driver, a CPU build of libtorch, or it was \
             used before it was asked for CUDA (call parse_device first); use cpu"
                .into(),
        ));
    }
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if index >= count {
        return Err(error(format!("there are {count} GPUs, numbered from 0")));
    }
    Ok(Device::Cuda(index))
}
