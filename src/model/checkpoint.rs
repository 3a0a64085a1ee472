//! The tensors of a model folder: one safetensors file or several with an index, read at positions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

use crate::{Error, Result};

/// The file that a folder's tensors are in, if they are in one.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The file that tells which tensor is in which file, if there are several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Bytes that are read at a time. Small, because glibc gives what is above 128 KiB a mapping of its
/// own until such a piece is freed; from then on parameters of that size would lie on the heap
/// between freed pieces, which took 120 MB more for a model of 1.1 GB.
const CHUNK: usize = 64 << 10;

/// What stands in the way of a tensor.
pub(super) enum ReadError {
    /// It does not fit the model; the next ones may still be looked at.
    Misfit(String),
    /// Nothing more can be read.
    Fatal(Error),
}

impl<E: Into<Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        ReadError::Fatal(error.into())
    }
}

/// Reads tensors of one file into tensors of the same names, which are all that it may hold.
#[cfg(feature = "train")]
pub(crate) fn read_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let mut file = Checkpoint::open_file(path.to_path_buf())?;
    let mut problems = Vec::new();
    for (name, tensor) in tensors {
        match file.read_into(name, tensor) {
            Ok(()) => {}
            Err(ReadError::Misfit(problem)) => problems.push(problem),
            Err(ReadError::Fatal(error)) => return Err(error),
        }
    }
    problems.extend(file.names().map(|name| format!("{name}: is not expected")));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Tensors { path: path.to_path_buf(), problems })
    }
}

/// The tensors of a folder that have not been taken yet.
pub(super) struct Checkpoint {
    /// What to name in errors about all of them.
    pub path: PathBuf,
    files: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
}

struct Shard {
    path: PathBuf,
    file: File,
    data_start: u64,
}

struct Entry {
    file: usize,
    info: TensorInfo,
}

impl Checkpoint {
    /// Reads what a folder says of its tensors, and none of their values.
    pub fn open(dir: &Path) -> Result<Checkpoint> {
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        if !single.exists() && index.exists() {
            return Checkpoint::open_sharded(index);
        }
        if !single.exists() && dir.join("pytorch_model.bin").exists() {
            return Err(Error::ModelFile {
                path: dir.join("pytorch_model.bin"),
                message:
                    "is a pickle, which can run code; save the model as safetensors in Python \
                          (save_pretrained) and load that"
                        .into(),
            });
        }
        Checkpoint::open_file(single)
    }

    fn open_file(path: PathBuf) -> Result<Checkpoint> {
        let (shard, tensors) = Shard::open(path.clone())?;
        let tensors = tensors.into_iter().map(|(name, info)| (name, Entry { file: 0, info }));
        Ok(Checkpoint { path, files: vec![shard], tensors: tensors.collect() })
    }

    fn open_sharded(index: PathBuf) -> Result<Checkpoint> {
        let wrong = |message: String| Error::ModelFile { path: index.clone(), message };
        let text = std::fs::read_to_string(&index).map_err(Error::io("read", &index))?;
        let fields: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let Some(Value::Object(map)) = fields.get("weight_map") else {
            return Err(wrong("has no weight_map, which tells the file of each tensor".into()));
        };
        // The tensors that each file must hold.
        let mut names: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
        for (tensor, file) in map {
            match file.as_str() {
                Some(file) if Path::new(file).file_name() == Some(file.as_ref()) => {
                    names.entry(file).or_default().push(tensor);
                }
                _ => {
                    let message = format!("weight_map.{tensor} = {file}: must be a file's name");
                    return Err(wrong(message));
                }
            }
        }
        let (mut files, mut tensors, mut absent) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (number, (file, names)) in names.into_iter().enumerate() {
            let (shard, mut held) = Shard::open(index.with_file_name(file))?;
            files.push(shard);
            for name in names {
                match held.remove(name) {
                    Some(info) => {
                        tensors.insert(name.clone(), Entry { file: number, info });
                    }
                    None => absent.push(format!("{name}: the index says {file}, which has not")),
                }
            }
        }
        if !absent.is_empty() {
            return Err(Error::Tensors { path: index, problems: absent });
        }
        Ok(Checkpoint { path: index, files, tensors })
    }

    /// The names of the tensors not taken yet, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// How many tensors there are of each dtype.
    pub fn dtypes(&self) -> Vec<(Dtype, usize)> {
        let mut counts: Vec<(Dtype, usize)> = Vec::new();
        for Entry { info, .. } in self.tensors.values() {
            match counts.iter_mut().find(|(dtype, _)| *dtype == info.dtype) {
                Some((_, count)) => *count += 1,
                None => counts.push((info.dtype, 1)),
            }
        }
        counts
    }

    /// Gives every tensor the name that `rename` makes of its own; `None` takes it out.
    ///
    /// # Errors
    /// If two tensors come to have one name.
    pub fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) -> Result<()> {
        let mut problems = Vec::new();
        let mut tensors = BTreeMap::new();
        for (name, entry) in std::mem::take(&mut self.tensors) {
            if let Some(new) = rename(&name) {
                if tensors.insert(new.clone(), entry).is_some() {
                    problems.push(format!("{name}: there is another tensor that means {new}"));
                }
            }
        }
        self.tensors = tensors;
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Tensors { path: self.path.clone(), problems })
        }
    }

    /// Takes a tensor out and copies its values, as far as they fit, into `target`, whatever dtype
    /// and device that has. Beside it, no more than two chunks are in memory at a time.
    pub fn read_into(&mut self, name: &str, target: &Tensor) -> Result<(), ReadError> {
        let Some(Entry { file, info }) = self.tensors.remove(name) else {
            return Err(ReadError::Misfit(format!("{name}: is missing")));
        };
        let (shape, found) = (target.size(), &info.shape);
        if !found.iter().map(|&size| size as i64).eq(shape.iter().copied()) {
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
        let expected = target.numel() * kind.elt_size_in_bytes();
        if end.saturating_sub(start) != expected {
            let problem = format!("{name}: has {} bytes, must have {expected}", end - start);
            return Err(ReadError::Misfit(problem));
        }
        self.files[file].copy(start as u64, kind, &target.f_view([-1])?)
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<(Shard, BTreeMap<String, TensorInfo>)> {
        let broken = |message: String| Error::ModelFile { path: path.clone(), message };
        // The format's own limit; a longer header is a lie about a short file.
        const LONGEST_HEADER: u64 = 100_000_000;

        let mut file = File::open(&path).map_err(Error::io("read", &path))?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
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
        file.read_exact(&mut header).map_err(Error::io("read", &path))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| broken(format!("is not safetensors: {error}")))?;
        let expected = 8 + header_len + metadata.data_len() as u64;
        if length != expected {
            return Err(broken(format!(
                "has {length} bytes, but its header describes {expected}; it is truncated or damaged"
            )));
        }
        let tensors = metadata.tensors().into_iter().map(|(n, info)| (n, info.clone())).collect();
        Ok((Shard { path, file, data_start: 8 + header_len }, tensors))
    }

    /// Copies values from `start` bytes into the data on into a flat tensor.
    fn copy(&mut self, start: u64, kind: Kind, target: &Tensor) -> Result<(), ReadError> {
        let size = kind.elt_size_in_bytes();
        let mut data = vec![0; CHUNK.min(target.numel() * size)];
        self.file
            .seek(SeekFrom::Start(self.data_start + start))
            .map_err(Error::io("read", &self.path))?;
        let mut done = 0;
        while done < target.numel() {
            let count = (CHUNK / size).min(target.numel() - done);
            let bytes = &mut data[..count * size];
            self.file.read_exact(bytes).map_err(Error::io("read", &self.path))?;
            let values = Tensor::f_from_data_size(bytes, &[count as i64], kind)?;
            target.f_narrow(0, done as i64, count as i64)?.f_copy_(&values)?;
            done += count;
        }
        Ok(())
    }
}
