//! Moving numbers between slices and tensors.

use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// A tensor of these values on `device`.
pub(crate) fn upload<T: tch::kind::Element>(values: &[T], device: Device) -> Result<Tensor> {
    send(&Tensor::f_from_slice(values)?, device)
}

/// A tensor of the host's on `device`, which need not have done by then what it has to do: to wait
/// for it (as `to_device` does) would leave a GPU without work each time. CUDA has taken the values
/// of pageable memory when it returns.
pub(crate) fn send(tensor: &Tensor, device: Device) -> Result<Tensor> {
    Ok(tensor.f_to_device_(device, tensor.f_kind()?, device.is_cuda(), false)?)
}

/// An int64 tensor of these positions on `device`.
pub(crate) fn upload_indices(
    positions: impl IntoIterator<Item = usize>,
    device: Device,
) -> Result<Tensor> {
    let positions: Vec<i64> = positions.into_iter().map(|p| p as i64).collect();
    upload(&positions, device)
}

/// Those rows of a matrix, any number of times. As the lookup in a table that it is: its backward
/// pass adds the rows in one order on every device, and on a CPU the two passes together take about
/// half the time of those of `index_select`.
pub(crate) fn rows(x: &Tensor, places: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_embedding(x, places, -1, false, false)?)
}

/// The dtype to compute a loss in: f32 for half precision, otherwise the tensor's own.
pub(crate) fn compute_kind(tensor: &Tensor) -> Result<Kind> {
    match tensor.f_kind()? {
        Kind::Half | Kind::BFloat16 | Kind::Float => Ok(Kind::Float),
        Kind::Double => Ok(Kind::Double),
        kind => Err(Error::InvalidArgument(format!(
            "the rewards are {kind:?}; they must be Float, Double, Half or BFloat16"
        ))),
    }
}

/// Writes over the value of an f32 scalar on a CPU, as `fill_` does but for its microseconds (and for
/// an infinity, which that refuses to make of a number). What a graph has saved must not be the scalar.
pub(crate) fn overwrite(scalar: &mut Tensor, value: f32) -> Result<()> {
    if scalar.device() != Device::Cpu || scalar.f_kind()? != Kind::Float || scalar.numel() != 1 {
        return Err(Error::InvalidArgument("not an f32 scalar on a CPU".into()));
    }
    // SAFETY: the one f32 of a tensor in the host's memory, which the caller has for himself.
    unsafe { scalar.data_ptr().cast::<f32>().write(value) };
    Ok(())
}

/// The values of a tensor, row by row, as f32 on the host.
#[cfg(feature = "models")]
pub(crate) fn to_vec_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    Ok(Vec::try_from(flat.f_reshape([-1])?.f_contiguous()?)?)
}

/// A number that tensors of other values hardly share: CRC-32 of their f32 values.
#[cfg(feature = "train")]
pub(crate) fn checksum(tensors: &[Tensor]) -> Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    for tensor in tensors {
        for value in to_vec_f32(tensor)? {
            hasher.update(&value.to_le_bytes());
        }
    }
    Ok(hasher.finalize())
}
