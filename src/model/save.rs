//! Writing tensors as safetensors, in one file or several.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, View};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{INDEX, SINGLE};
use crate::{Error, Result};

/// How a model's tensors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The dtype on disk. Default [`SaveDtype::F32`].
    pub dtype: SaveDtype,
    /// The most bytes of tensors in one file; more go into several with an index. A tensor that is
    /// larger has a file of its own. Default 5·10⁹.
    pub max_shard_bytes: u64,
}

impl Default for SaveOptions {
    fn default() -> Self {
        SaveOptions { dtype: SaveDtype::F32, max_shard_bytes: 5_000_000_000 }
    }
}

/// A dtype on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveDtype {
    /// 32 bits, what the parameters are trained in: nothing is lost.
    F32,
    /// 16 bits with 11 of precision; values above 65504 become infinite.
    F16,
    /// 16 bits with 8 of precision.
    Bf16,
}

impl SaveDtype {
    fn kind(self) -> Kind {
        match self {
            SaveDtype::F32 => Kind::Float,
            SaveDtype::F16 => Kind::Half,
            SaveDtype::Bf16 => Kind::BFloat16,
        }
    }

    fn format(self) -> Dtype {
        match self {
            SaveDtype::F32 => Dtype::F32,
            SaveDtype::F16 => Dtype::F16,
            SaveDtype::Bf16 => Dtype::BF16,
        }
    }

    /// Its name in `config.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            SaveDtype::F32 => "float32",
            SaveDtype::F16 => "float16",
            SaveDtype::Bf16 => "bfloat16",
        }
    }
}

/// Writes named tensors into a folder, with the metadata that Python expects.
pub(super) fn write(dir: &Path, tensors: &[(String, Tensor)], options: SaveOptions) -> Result<()> {
    let mut shards: Vec<(u64, Vec<OnHost>)> = Vec::new();
    for (name, tensor) in tensors {
        let tensor = OnHost::new(name, tensor, options.dtype);
        let bytes = tensor.length() as u64;
        match shards.last_mut() {
            Some((size, shard)) if *size + bytes <= options.max_shard_bytes => {
                *size += bytes;
                shard.push(tensor);
            }
            _ => shards.push((bytes, vec![tensor])),
        }
    }
    let count = shards.len();
    if count <= 1 {
        let all = shards.pop().map(|(_, shard)| shard).unwrap_or_default();
        return write_file(&dir.join(SINGLE), &all);
    }
    let total: u64 = shards.iter().map(|(size, _)| size).sum();
    let mut map = BTreeMap::new();
    for (number, (_, shard)) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        write_file(&dir.join(&file), shard)?;
        map.extend(shard.iter().map(|tensor| (tensor.name, file.clone())));
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let path = dir.join(INDEX);
    std::fs::write(&path, format!("{index:#}\n")).map_err(Error::io("write", &path))
}

/// Writes named f32 tensors into one file.
#[cfg(feature = "train")]
pub(crate) fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let on_host = tensors.iter().map(|(name, tensor)| OnHost::new(name, tensor, SaveDtype::F32));
    write_file(path, &on_host.collect::<Vec<_>>())
}

fn write_file(path: &Path, tensors: &[OnHost]) -> Result<()> {
    let views = tensors.iter().map(|tensor| (tensor.name, tensor));
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| Error::Io {
        action: "write",
        path: path.to_path_buf(),
        source: match error {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        },
    })?;
    tensors.iter().find_map(|tensor| tensor.failure.take()).map_or(Ok(()), Err)
}

/// A tensor whose bytes are copied out when they are written.
struct OnHost<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    shape: Vec<usize>,
    dtype: SaveDtype,
    /// Why the bytes could not be had; the writer asks for them in a way that cannot tell.
    failure: RefCell<Option<Error>>,
}

impl<'a> OnHost<'a> {
    fn new(name: &'a str, tensor: &'a Tensor, dtype: SaveDtype) -> OnHost<'a> {
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        OnHost { name, tensor, shape, dtype, failure: RefCell::new(None) }
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let tensor = self.tensor.f_detach()?.f_to_device(Device::Cpu)?;
        let tensor = tensor.f_to_kind(self.dtype.kind())?.f_contiguous()?;
        let mut bytes = vec![0; self.length()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    }

    fn length(&self) -> usize {
        self.tensor.numel() * self.dtype.kind().elt_size_in_bytes()
    }
}

impl View for &OnHost<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype.format()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let bytes = self.bytes().unwrap_or_else(|error| {
            self.failure.replace(Some(error));
            Vec::new()
        });
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.length()
    }
}
