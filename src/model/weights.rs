//! The parameters of a model under construction: drawn at random or read from a folder, each
//! checked against the model.

use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, ReadError};
use crate::{Error, Result};

/// Parameters by name, in an order that never changes.
pub(super) type Parameters = Vec<(String, Tensor)>;

/// How a parameter is drawn where there is no file to read it from.
#[derive(Clone, Copy)]
pub(super) enum Init {
    Zeros,
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// In row p, sin(p / 10000^(2i/width)) at 2i and the cosine of the same at 2i + 1 (Vaswani et
    /// al. 2017).
    Sines,
}

/// Gives a model under construction its parameters, one by one, and in the end says all that was
/// wrong with them.
pub(super) struct Weights {
    device: Device,
    source: Source,
    taken: Parameters,
    drawn: Vec<String>,
    problems: Vec<String>,
}

enum Source {
    Random,
    Folder {
        tensors: Checkpoint,
        /// What the names of those start with that are drawn if they are not there.
        fresh: Vec<String>,
    },
}

impl Weights {
    /// Parameters drawn at random, from libtorch's generator as it stands.
    pub fn random(device: Device) -> Weights {
        Weights::new(Source::Random, device)
    }

    /// Parameters from a folder; those whose names start with one of `fresh` are drawn at random if
    /// they are not there.
    pub fn read(tensors: Checkpoint, fresh: Vec<String>, device: Device) -> Weights {
        Weights::new(Source::Folder { tensors, fresh }, device)
    }

    fn new(source: Source, device: Device) -> Weights {
        Weights { device, source, taken: vec![], drawn: vec![], problems: vec![] }
    }

    /// The parameter of this name and shape, f32, requiring a gradient.
    pub fn parameter(&mut self, name: String, shape: &[i64], init: Init) -> Result<Tensor> {
        let options = (Kind::Float, self.device);
        let tensor = match &mut self.source {
            Source::Folder { tensors, fresh }
                if tensors.contains(&name) || !fresh.iter().any(|f| name.starts_with(f)) =>
            {
                let tensor = if tensors.contains(&name) {
                    Tensor::f_empty(shape, options)?
                } else {
                    Tensor::f_empty([0], options)?
                };
                match tensors.read_into(&name, &tensor) {
                    Ok(()) => {}
                    Err(ReadError::Fatal(error)) => return Err(error),
                    Err(ReadError::Misfit(problem)) => self.problems.push(problem),
                }
                tensor
            }
            // What is missing or mis-shaped is known; a head of a size that may be absurd is not.
            Source::Folder { .. } if !self.problems.is_empty() => Tensor::f_empty([0], options)?,
            source => {
                if !matches!(source, Source::Random) {
                    self.drawn.push(name.clone());
                }
                match init {
                    Init::Zeros => Tensor::f_zeros(shape, options)?,
                    Init::Ones => Tensor::f_ones(shape, options)?,
                    // Drawn on the CPU, so that a seed means the same model on every device.
                    Init::Normal(std) => Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?
                        .f_normal_(0.0, std)?
                        .f_to_device(self.device)?,
                    Init::Sines => sines(shape)?.f_to_device(self.device)?,
                }
            }
        };
        let tensor = tensor.f_set_requires_grad(true)?;
        self.taken.push((name, tensor.shallow_clone()));
        Ok(tensor)
    }

    /// The parameters taken, in order, and the names of those that were drawn though there is a
    /// folder.
    ///
    /// # Errors
    /// If one was missing or mis-shaped, or the folder holds a tensor that was not asked for.
    pub fn finish(mut self) -> Result<(Parameters, Vec<String>)> {
        if let Source::Folder { tensors, .. } = &self.source {
            self.problems.extend(tensors.names().map(|name| format!("{name}: is not expected")));
            if !self.problems.is_empty() {
                return Err(Error::Tensors { path: tensors.path.clone(), problems: self.problems });
            }
        }
        Ok((self.taken, self.drawn))
    }
}

fn sines(shape: &[i64]) -> Result<Tensor> {
    let width = shape.last().copied().unwrap_or(1);
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|at| {
            let (row, column) = (at / width, at % width);
            let pair = (column - column % 2) as f64;
            let angle = row as f64 / 10_000_f64.powf(pair / width as f64);
            (if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
        })
        .collect();
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?)
}
