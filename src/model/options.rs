//! How a model is loaded, and what became of its folder.

use std::fmt;

use tch::Device;

use super::names::HeadSource;
use super::sharing::Sharing;

/// The dtype that the body computes in. Parameters, norms, head and loss are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16, on CUDA only: a CPU without hardware for it is some 40 to 110 times slower than
    /// with f32.
    Bf16,
}

/// How a folder is to be loaded.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Where the parameters go. Default: the CPU.
    pub device: Device,
    /// What the body computes in. Default: f32, whatever is on disk.
    pub precision: Precision,
    /// Whether the folder's own head is used if it has one. Default: yes.
    pub head: HeadSource,
    /// How many outputs the head has. Default: as many as the folder's own, 1 for a new one.
    pub outputs: Option<i64>,
    /// Seeds what is drawn at random. Default 0.
    pub seed: i64,
    /// Whether the texts of a list share the tokens they begin with. Default: where it is faster.
    pub sharing: Sharing,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            device: Device::Cpu,
            precision: Precision::F32,
            head: HeadSource::Folder,
            outputs: None,
            seed: 0,
            sharing: Sharing::default(),
        }
    }
}

impl LoadOptions {
    /// The defaults, on a device.
    pub fn on(device: Device) -> LoadOptions {
        LoadOptions { device, ..LoadOptions::default() }
    }

    /// The same with a new head of this many outputs, drawn from this seed.
    #[must_use]
    pub fn with_new_head(self, outputs: i64, seed: i64) -> LoadOptions {
        LoadOptions { head: HeadSource::Fresh, outputs: Some(outputs), seed, ..self }
    }

    /// The same with another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> LoadOptions {
        LoadOptions { precision, ..self }
    }

    /// The same with shared prompts as told.
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> LoadOptions {
        LoadOptions { sharing, ..self }
    }

    /// The same with another seed.
    #[must_use]
    pub fn with_seed(self, seed: i64) -> LoadOptions {
        LoadOptions { seed, ..self }
    }
}

/// What became of a folder's tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Tensors of the folder that no reward model has: other heads, constants.
    pub left_out: Vec<String>,
    /// Parameters that the folder did not have and that were drawn at random: the head.
    pub drawn: Vec<String>,
    /// The dtypes on disk, and how many tensors had each.
    pub dtypes: Vec<(String, usize)>,
}

impl fmt::Display for Loaded {
    /// One line, such as `103 tensors (F32); new: classifier.weight, classifier.bias; left out: ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensors: usize = self.dtypes.iter().map(|(_, count)| count).sum();
        let dtypes: Vec<&str> = self.dtypes.iter().map(|(dtype, _)| dtype.as_str()).collect();
        write!(f, "{tensors} tensors ({})", dtypes.join(", "))?;
        for (what, names) in [("new", &self.drawn), ("left out", &self.left_out)] {
            match names.as_slice() {
                [] => {}
                [first, second, third, _, rest @ ..] if !rest.is_empty() => {
                    write!(f, "; {what}: {first}, {second}, {third} and {} more", rest.len() + 1)?;
                }
                names => write!(f, "; {what}: {}", names.join(", "))?,
            }
        }
        Ok(())
    }
}
