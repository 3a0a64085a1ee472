//! The layer over libtorch: devices, uploads, dtypes. Nothing below it names `tch`.

#[cfg(target_os = "linux")]
mod cuda;
mod device;
#[cfg(all(target_os = "linux", feature = "train"))]
mod dispatcher;
#[cfg(feature = "train")]
mod fused_adamw;
#[cfg(feature = "train")]
mod multi_tensor;
#[cfg(feature = "models")]
mod random;
mod tensor;
#[cfg(feature = "train")]
mod trials;

pub use device::parse_device;
#[cfg(feature = "train")]
pub use fused_adamw::fused_adamw;
#[cfg(feature = "train")]
pub(crate) use fused_adamw::{step as fused_adamw_step, Group, Hyperparameters};
#[cfg(feature = "train")]
pub(crate) use multi_tensor::scale;
#[cfg(feature = "models")]
pub(crate) use random::seeded;
#[cfg(feature = "train")]
pub(crate) use tensor::checksum;
#[cfg(feature = "train")]
pub(crate) use tensor::send;
#[cfg(feature = "models")]
pub(crate) use tensor::to_vec_f32;
pub(crate) use tensor::{compute_kind, overwrite, rows, upload, upload_indices};
