//! [`Callbacks`]: a function each for what happens in a run.

use std::path::Path;

use super::{Evaluation, Event, Step};
use crate::Result;

type OnStep<'a> = Box<dyn FnMut(&Step) -> Result<()> + 'a>;
type OnEvaluation<'a, E> = Box<dyn FnMut(u64, &str, &E) -> Result<()> + 'a>;
type OnCheckpoint<'a> = Box<dyn FnMut(u64, &Path) -> Result<()> + 'a>;

/// Functions that are called while a model trains, any number for each occasion, in the order in
/// which they were added: for whoever is told of every [`Event`] but cares for these alone.
///
/// The first error ends the run, and the functions after it are not called. With
/// [`Error::Interrupted`](crate::Error::Interrupted) the run is saved first, if it has a
/// [`RunFolder`](crate::RunFolder).
///
/// ```
/// use reward_model::{Callbacks, Error};
///
/// let mut losses = Vec::new();
/// let mut callbacks = Callbacks::new()
///     .on_step(|step| {
///         losses.push(step.loss);
///         Ok(())
///     })
///     .on_evaluation(|step, set, evaluation| {
///         println!("{step}, {set}: accuracy {:?}", evaluation.metrics.pairwise_accuracy);
///         Ok(())
///     })
///     .on_checkpoint(|step, path| {
///         println!("{step}: {}", path.display());
///         if step >= 1000 { Err(Error::Interrupted) } else { Ok(()) }
///     });
/// # let _ = || -> reward_model::Result<()> {
/// # let (mut trainer, train, held_out): (reward_model::Trainer, Vec<_>, Vec<_>) = todo!();
/// trainer.train(&train, &held_out, &mut |event| callbacks.tell(event))?;
/// # Ok(())
/// # };
/// ```
pub struct Callbacks<'a, E = Evaluation> {
    on_step: Vec<OnStep<'a>>,
    on_evaluation: Vec<OnEvaluation<'a, E>>,
    on_checkpoint: Vec<OnCheckpoint<'a>>,
}

impl Callbacks<'_> {
    /// None yet; for an objective other than ranked lists, see [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }
}

impl<'a, E> Callbacks<'a, E> {
    /// Calls this after each optimiser step.
    #[must_use]
    pub fn on_step(mut self, call: impl FnMut(&Step) -> Result<()> + 'a) -> Self {
        self.on_step.push(Box::new(call));
        self
    }

    /// Calls this when a set has been evaluated on, with how many steps have been made (0 before
    /// training), the set's name and the figures.
    #[must_use]
    pub fn on_evaluation(mut self, call: impl FnMut(u64, &str, &E) -> Result<()> + 'a) -> Self {
        self.on_evaluation.push(Box::new(call));
        self
    }

    /// Calls this when a checkpoint is complete and on disk, with how many steps have been made and
    /// its folder.
    #[must_use]
    pub fn on_checkpoint(mut self, call: impl FnMut(u64, &Path) -> Result<()> + 'a) -> Self {
        self.on_checkpoint.push(Box::new(call));
        self
    }

    /// Calls those whose occasion this event is.
    ///
    /// # Errors
    /// The first of theirs.
    pub fn tell(&mut self, event: &Event<E>) -> Result<()> {
        match event {
            Event::Step(step) => self.on_step.iter_mut().try_for_each(|call| call(step)),
            Event::Evaluated { step, set, evaluation, .. } => {
                self.on_evaluation.iter_mut().try_for_each(|call| call(*step, set, evaluation))
            }
            Event::Checkpoint { step, path, .. } => {
                self.on_checkpoint.iter_mut().try_for_each(|call| call(*step, path))
            }
            _ => Ok(()),
        }
    }
}

impl<E> Default for Callbacks<'_, E> {
    /// None yet.
    fn default() -> Self {
        Self { on_step: Vec::new(), on_evaluation: Vec::new(), on_checkpoint: Vec::new() }
    }
}

impl<E> std::fmt::Debug for Callbacks<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callbacks")
            .field("on_step", &self.on_step.len())
            .field("on_evaluation", &self.on_evaluation.len())
            .field("on_checkpoint", &self.on_checkpoint.len())
            .finish()
    }
}
