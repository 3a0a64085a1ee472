//! Named tensors, drawn at random or read from a safetensors file, each checked against the model.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, View};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// How a parameter is drawn where there is no file to read it from.
#[derive(Clone, Copy)]
pub(super) enum Init {
    Zeros,
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

/// Gives a model under construction its parameters, one by one, and in the end says all that was
/// wrong with them.
pub(super) struct Weights {
    device: Device,
    file: Option<Checkpoint>,
    taken: Vec<(String, Tensor)>,
    problems: Vec<String>,
}

impl Weights {
    /// Parameters drawn at random, from libtorch's generator as it stands.
    pub fn random(device: Device) -> Weights {
        Weights { device, file: None, taken: Vec::new(), problems: Vec::new() }
    }

    /// Parameters from a safetensors file.
    pub fn open(path: &Path, device: Device) -> Result<Weights> {
        let file = Some(Checkpoint::open(path)?);
        Ok(Weights { device, file, taken: Vec::new(), problems: Vec::new() })
    }

    /// The parameter of this name and shape, f32, requiring a gradient.
    pub fn parameter(&mut self, name: String, shape: &[i64], init: Init) -> Result<Tensor> {
        let options = (Kind::Float, self.device);
        let tensor = match &mut self.file {
            Some(file) => match file.read(&name, shape) {
                Ok(tensor) => tensor.f_to_kind(Kind::Float)?.f_to_device(self.device)?,
                Err(ReadError::Fatal(error)) => return Err(error),
                Err(ReadError::Misfit(problem)) => {
                    self.problems.push(problem);
                    Tensor::f_zeros([0], options)?
                }
            },
            None => match init {
                Init::Zeros => Tensor::f_zeros(shape, options)?,
                Init::Ones => Tensor::f_ones(shape, options)?,
                // Drawn on the CPU, so that a seed means the same model on every device.
                Init::Normal(std) => Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?
                    .f_normal_(0.0, std)?
                    .f_to_device(self.device)?,
            },
        };
        let tensor = tensor.f_set_requires_grad(true)?;
        self.taken.push((name, tensor.shallow_clone()));
        Ok(tensor)
    }

    /// The parameters taken, in order.
    ///
    /// # Errors
    /// If one was missing or mis-shaped, or the file holds a tensor that was not asked for.
    pub fn finish(mut self) -> Result<Vec<(String, Tensor)>> {
        if let Some(file) = &self.file {
            let unexpected = file.tensors.keys().filter(|name| !is_buffer(name));
            self.problems.extend(unexpected.map(|name| format!("{name}: is not expected")));
            if !self.problems.is_empty() {
                return Err(Error::Tensors { path: file.path.clone(), problems: self.problems });
            }
        }
        Ok(self.taken)
    }
}

/// Constants that older files carry along; they are no parameters.
fn is_buffer(name: &str) -> bool {
    name.ends_with("embeddings.position_ids")
}

enum ReadError {
    /// The tensor does not fit the model; the next ones may still be looked at.
    Misfit(String),
    Fatal(Error),
}

impl From<tch::TchError> for ReadError {
    fn from(error: tch::TchError) -> Self {
        ReadError::Fatal(error.into())
    }
}

/// A safetensors file, read at positions, one tensor at a time.
struct Checkpoint {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Checkpoint {
    fn open(path: &Path) -> Result<Checkpoint> {
        let broken = |message: String| Error::ModelFile { path: path.to_path_buf(), message };
        // The format's own limit; a longer header is a lie about a short file.
        const LONGEST_HEADER: u64 = 100_000_000;

        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut size = [0; 8];
        file.read_exact(&mut size)
            .map_err(|_| broken(format!("has {length} bytes, too few for safetensors")))?;
        let header_len = u64::from_le_bytes(size);
        if header_len > LONGEST_HEADER || header_len > length - 8 {
            return Err(broken(format!(
                "is not safetensors, or truncated: it has {length} bytes and claims a header of \
                 {header_len}"
            )));
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact(&mut header).map_err(Error::io("read", path))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| broken(format!("is not safetensors: {error}")))?;
        let expected = 8 + header_len + metadata.data_len() as u64;
        if length != expected {
            return Err(broken(format!(
                "has {length} bytes, but its header describes {expected}; it is truncated or damaged"
            )));
        }
        let tensors = metadata.tensors().into_iter().map(|(n, info)| (n, info.clone())).collect();
        Ok(Checkpoint { path: path.to_path_buf(), file, data_start: 8 + header_len, tensors })
    }

    /// Takes a tensor out of the file, which afterwards no longer lists it.
    fn read(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, ReadError> {
        let Some(info) = self.tensors.remove(name) else {
            return Err(ReadError::Misfit(format!("{name}: is missing")));
        };
        let found: Vec<i64> = info.shape.iter().map(|&size| size as i64).collect();
        if found != shape {
            return Err(ReadError::Misfit(format!("{name}: is {found:?}, must be {shape:?}")));
        }
        let kind = match info.dtype {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                let problem = format!("{name}: is {other:?}, must be F64, F32, F16 or BF16");
                return Err(ReadError::Misfit(problem));
            }
        };
        let (start, end) = info.data_offsets;
        let mut data = vec![0; end - start];
        self.file
            .seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| self.file.read_exact(&mut data))
            .map_err(|error| ReadError::Fatal(Error::io("read", &self.path)(error)))?;
        // libtorch reads as many bytes as the shape asks for, whatever it is given.
        let expected = shape.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
        if data.len() != expected {
            let problem = format!("{name}: has {} bytes, must have {expected}", data.len());
            return Err(ReadError::Misfit(problem));
        }
        Ok(Tensor::f_from_data_size(&data, shape, kind)?)
    }
}

/// Writes named tensors as safetensors, with the metadata that Python expects.
pub(super) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, t)| Ok((name.as_str(), OnHost::new(t)?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| Error::Io {
        action: "write",
        path: path.to_path_buf(),
        source: match error {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        },
    })
}

/// A tensor whose bytes are copied out when they are written.
struct OnHost {
    tensor: Tensor,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl OnHost {
    fn new(tensor: &Tensor) -> Result<OnHost> {
        let tensor = tensor.f_detach()?;
        let dtype = match tensor.f_kind()? {
            Kind::Double => Dtype::F64,
            Kind::Float => Dtype::F32,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            kind => {
                return Err(Error::InvalidArgument(format!("cannot save a tensor of {kind:?}")))
            }
        };
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        Ok(OnHost { tensor: tensor.f_to_device(Device::Cpu)?.f_contiguous()?, shape, dtype })
    }
}

impl View for OnHost {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        // Cannot fail: the tensor is contiguous, on the host, and as long as its shape says.
        let _ = self.tensor.f_copy_data_u8(&mut bytes, self.tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}
