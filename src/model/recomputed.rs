//! The gradient of a batch with the graph of one layer at a time in memory: layers' inputs are kept,
//! and what is between them is computed again (Chen et al. 2016, "Training Deep Nets with Sublinear
//! Memory Cost"; gradient checkpointing).

use std::ops::Range;

use tch::Tensor;

use super::chunks::{self, checked, drawn};
use super::frozen::Below;
use super::passes::Stages;
use super::transformer::Transformer;
use super::{frozen, Mode, Part};
use crate::{Result, TokenBatch};

/// A batch on its way through the model.
pub(super) struct Recomputed<'a> {
    model: &'a Transformer,
    stages: Box<dyn Stages + 'a>,
    mode: Mode,
}

impl<'a> Recomputed<'a> {
    pub fn new(model: &'a Transformer, stages: Box<dyn Stages + 'a>, mode: Mode) -> Recomputed<'a> {
        Recomputed { model, stages, mode }
    }

    fn layers(&self) -> Range<usize> {
        self.stages.layers()
    }

    /// What goes into the first layer.
    fn input(&self) -> Result<Tensor> {
        drawn(self.mode, 0, || self.stages.input())
    }

    fn layer(&self, number: usize, x: Tensor) -> Result<Tensor> {
        drawn(self.mode, number as u64 + 1, || self.stages.layer(number, x))
    }

    /// The scores, from what goes into the last layer.
    fn scores_of(&self, x: &Tensor) -> Result<Tensor> {
        let training = matches!(self.mode, Mode::Training { .. });
        drawn(self.mode, self.layers().end as u64 + 1, || {
            self.model.head.forward(self.stages.scored(x)?, training)
        })
    }

    /// The scores, with whatever graph is recorded.
    #[cfg(test)]
    pub fn scores(&self) -> Result<Tensor> {
        let x = self.layers().try_fold(self.input()?, |x, number| self.layer(number, x))?;
        self.scores_of(&x)
    }

    /// Adds to the parameters' gradients what the scores' gradient comes to, and returns the scores.
    pub fn backward(self, gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let lowest = self.lowest_wanted();
        // Of the layers through whose graph something trains.
        let mut inputs = Vec::with_capacity(self.layers().len() + 1);
        let scores = {
            let _no_grad = tch::no_grad_guard();
            let mut x = self.input()?;
            for number in self.layers() {
                if number >= lowest.saturating_sub(1) {
                    inputs.push(x.shallow_clone());
                }
                x = self.layer(number, x)?;
            }
            let scores = self.scores_of(&x)?;
            inputs.push(x);
            scores
        };
        let mut flowing = checked(gradient(&scores)?, &scores)?;
        for number in (self.layers().start..=self.layers().end).rev() {
            let Some(x) = inputs.pop() else { break };
            let wanted = number >= lowest;
            let x = x.f_detach()?.f_set_requires_grad(wanted)?;
            let y = match number == self.layers().end {
                true => self.scores_of(&x)?,
                false => self.layer(number, x.shallow_clone())?,
            };
            chunks::backward(&y, &flowing)?;
            if !wanted {
                return Ok(scores);
            }
            flowing = x.f_grad()?;
            if !flowing.defined() {
                return Ok(scores);
            }
        }
        chunks::backward(&self.input()?, &flowing)?;
        Ok(scores)
    }

    /// The lowest layer, from 0, whose input's gradient leads to a parameter.
    fn lowest_wanted(&self) -> usize {
        match frozen::lowest(self.model) {
            Some(Part::Embeddings) => 0,
            Some(Part::Layer(number)) => number + 1,
            _ => usize::MAX,
        }
    }
}

impl Transformer {
    pub(super) fn backward_by_layers(
        &self,
        batch: &TokenBatch,
        below: Option<&Below>,
        mode: Mode,
        gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let packed = self.packed(batch)?;
        let training = matches!(mode, Mode::Training { .. });
        let stages = self.stages(&packed, batch, &[], below, training)?;
        Recomputed::new(self, stages, mode).backward(gradient)
    }
}
