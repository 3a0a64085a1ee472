//! Operators that are tried once in a process before they are relied on.

use std::sync::OnceLock;

use tch::Device;

/// What an operator's trials have come to, on a CPU and on CUDA.
pub(super) struct Trials {
    cpu: OnceLock<Result<(), String>>,
    cuda: OnceLock<Result<(), String>>,
}

impl Trials {
    pub const fn new() -> Trials {
        Trials { cpu: OnceLock::new(), cuda: OnceLock::new() }
    }

    /// What `trial` says of the device, of the first time.
    pub fn result(
        &self,
        device: Device,
        trial: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let tried = match device {
            Device::Cpu => &self.cpu,
            Device::Cuda(_) => &self.cuda,
            other => return Err(format!("libtorch has no such operator for {other:?}")),
        };
        tried.get_or_init(trial).clone()
    }
}
