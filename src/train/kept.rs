//! [`Kept`]: what frozen layers give for each list, computed once.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::TrainConfig;
use crate::model::{FrozenLayers, GraphParts, Mode, RewardModel};
use crate::torch::send;
use crate::{Error, Result, TokenBatch};

/// States of lists, in memory as long as there is room, then in a file without a name, then nowhere.
///
/// They are computed list by list, whether they are kept or not: which lists share a step has no
/// bearing on them, so that a run that keeps them, one that does not and one that was resumed are the
/// same bit for bit.
pub(super) struct Kept {
    of_examples: Vec<Place>,
    memory: Room,
    disk: Room,
    folder: PathBuf,
    file: Option<File>,
}

enum Place {
    Nowhere,
    Memory(Tensor),
    /// Where in the file the numbers begin.
    Disk(u64, Vec<i64>, Kind),
}

/// How many bytes there may be, and how many there are.
struct Room {
    limit: u64,
    taken: u64,
}

impl Room {
    /// Where the next `bytes` begin, if there is room for them.
    fn take(&mut self, bytes: u64) -> Option<u64> {
        let (start, end) = (self.taken, self.taken.checked_add(bytes)?);
        (end <= self.limit).then(|| self.taken = end)?;
        Some(start)
    }
}

impl Kept {
    /// Room for the states of so many examples, the file in this folder or where temporary files are.
    pub fn new(examples: usize, config: &TrainConfig, folder: Option<&Path>) -> Kept {
        let limit = |bytes| if config.cache_frozen { bytes } else { 0 };
        Kept {
            of_examples: (0..examples).map(|_| Place::Nowhere).collect(),
            memory: Room { limit: limit(config.cache_memory), taken: 0 },
            disk: Room { limit: limit(config.cache_disk), taken: 0 },
            folder: folder.map_or_else(std::env::temp_dir, Path::to_owned),
            file: None,
        }
    }

    /// The states of the lists of a batch, which are these examples: one list after another, on the
    /// model's device.
    pub fn states(
        &mut self,
        layers: &dyn FrozenLayers,
        examples: &[usize],
        batch: &TokenBatch,
        device: Device,
    ) -> Result<Tensor> {
        let each = examples.iter().enumerate().map(|(list, &example)| {
            if let Some(known) = self.known(example)? {
                return send(&known, device);
            }
            let states = layers.states(&batch.only(list))?;
            self.keep(example, &states)?;
            Ok(states)
        });
        let each: Vec<Tensor> = each.collect::<Result<_>>()?;
        Ok(Tensor::f_cat(&each, 0)?)
    }

    fn known(&mut self, example: usize) -> Result<Option<Tensor>> {
        let (start, size, kind) = match &self.of_examples[example] {
            Place::Nowhere => return Ok(None),
            Place::Memory(states) => return Ok(Some(states.shallow_clone())),
            Place::Disk(start, size, kind) => (*start, size, *kind),
        };
        let Some(file) = &mut self.file else { return Ok(None) };
        let numbers = size.iter().product::<i64>() as usize;
        let mut bytes = vec![0; numbers * kind.elt_size_in_bytes()];
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io("read a temporary file in", &self.folder))?;
        Ok(Some(Tensor::f_from_data_size(&bytes, size, kind)?))
    }

    fn keep(&mut self, example: usize, states: &Tensor) -> Result<()> {
        let (numbers, kind) = (states.numel(), states.f_kind()?);
        let bytes = numbers * kind.elt_size_in_bytes();
        // Only what is kept is fetched from a GPU, which is waited for.
        let here = || states.f_to_device(Device::Cpu);
        if self.memory.take(bytes as u64).is_some() {
            self.of_examples[example] = Place::Memory(here()?);
        } else if let Some(start) = self.disk.take(bytes as u64) {
            let mut raw = vec![0; bytes];
            here()?.f_contiguous()?.f_copy_data_u8(&mut raw, numbers)?;
            let file = match &mut self.file {
                Some(file) => file,
                none => match tempfile::tempfile_in(&self.folder) {
                    Ok(file) => none.insert(file),
                    Err(_) => {
                        self.disk.limit = 0;
                        return Ok(());
                    }
                },
            };
            match file.seek(SeekFrom::Start(start)).and_then(|_| file.write_all(&raw)) {
                Ok(()) => self.of_examples[example] = Place::Disk(start, states.size(), kind),
                // A full disk is no more room than the settings' limit.
                Err(_) => self.disk.limit = 0,
            }
        }
        Ok(())
    }
}

/// A model that goes on from the states of the one batch that it is asked about.
pub(super) struct Continued<'a> {
    pub model: &'a dyn RewardModel,
    pub layers: &'a dyn FrozenLayers,
    pub states: Tensor,
}

impl RewardModel for Continued<'_> {
    fn forward(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor> {
        self.layers.forward_from(&self.states, batch, mode)
    }

    fn backward_in_parts(
        &self,
        batch: &TokenBatch,
        mode: Mode,
        parts: GraphParts,
        gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.layers.backward_in_parts_from(&self.states, batch, mode, parts, gradient)
    }

    fn activation_bytes(&self, batch: &TokenBatch, mode: Mode, parts: GraphParts) -> Option<u64> {
        self.model.activation_bytes(batch, mode, parts)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    fn device(&self) -> Device {
        self.model.device()
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.model.save(dir)
    }
}
