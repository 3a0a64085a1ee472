//! The layer over libtorch: devices, uploads, dtypes. Nothing below it names `tch`.

#[cfg(target_os = "linux")]
mod cuda;
mod device;
#[cfg(feature = "models")]
mod random;
mod tensor;

pub use device::parse_device;
#[cfg(feature = "models")]
pub(crate) use random::seeded;
#[cfg(feature = "train")]
pub(crate) use tensor::checksum;
#[cfg(feature = "models")]
pub(crate) use tensor::to_vec_f32;
pub(crate) use tensor::{compute_kind, upload, upload_indices};
