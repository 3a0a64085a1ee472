//! The metrics of a regression.

use serde::{Deserialize, Serialize};

use super::Scored;
use crate::{Error, Ranking, Result};

/// Gathers what was predicted for texts whose labels are numbers, one or several a text.
///
/// All numbers are kept, since a rank correlation is of all of them together.
///
/// ```
/// use reward_model::metrics::ValueMeter;
///
/// let mut meter = ValueMeter::new(1);
/// for (truth, predicted) in [(1.0, 1.5), (2.0, 2.0), (3.0, 5.0)] {
///     meter.add(&[truth], &[predicted])?;
/// }
/// let metrics = meter.metrics();
/// assert_eq!(metrics.mse, Some((0.25 + 0.0 + 4.0) / 3.0));
/// assert_eq!(metrics.spearman, Some(1.0));
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ValueMeter {
    outputs: Vec<Output>,
}

#[derive(Clone, Debug, Default)]
struct Output {
    truth: Vec<f64>,
    predicted: Vec<f32>,
}

/// The metrics of a regression.
///
/// In JSON `None` is `null`, and so is a NaN or an infinity, which JSON cannot say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ValueMetrics {
    /// The mean of [`OutputMetrics::mse`] over the outputs; `None` if nothing was added.
    pub mse: Option<f64>,
    /// The mean of [`OutputMetrics::spearman`] over the outputs that have one.
    pub spearman: Option<f64>,
    /// The metrics of each output.
    pub outputs: Vec<OutputMetrics>,
    /// How many texts were added.
    pub count: usize,
}

/// The metrics of one output of a regression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OutputMetrics {
    /// The mean squared error, (1/n)·Σ (predicted − truth)², in f64; `None` if nothing was added.
    /// A prediction that is NaN makes it NaN.
    ///
    /// Equals `sklearn.metrics.mean_squared_error`.
    pub mse: Option<f64>,
    /// Spearman's rank correlation, from −1 to 1: Pearson's correlation of the ranks, where tied
    /// numbers have the mean of the ranks that they share.
    ///
    /// `None` for fewer than two texts, and if all labels are equal or all predictions are: a
    /// constant has no order. Otherwise a prediction that is NaN makes it NaN.
    ///
    /// Equals `scipy.stats.spearmanr`, which gives NaN where this is `None`.
    pub spearman: Option<f64>,
}

impl ValueMeter {
    /// A meter of this many outputs.
    pub fn new(outputs: usize) -> ValueMeter {
        ValueMeter { outputs: vec![Output::default(); outputs] }
    }

    /// Adds a text by its label and what was predicted for it, a number for each output.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if either has not as many numbers as the meter has outputs, or if
    /// a number of the label is NaN or infinite. Nothing is added then.
    pub fn add(&mut self, truth: &[f64], predicted: &[f32]) -> Result<()> {
        let outputs = self.outputs.len();
        for (what, len) in [("the label", truth.len()), ("the prediction", predicted.len())] {
            if len != outputs {
                return Err(Error::InvalidArgument(format!(
                    "{what} has {len} numbers for {outputs} outputs; give one for each"
                )));
            }
        }
        if let Some(value) = truth.iter().find(|value| !value.is_finite()) {
            return Err(Error::InvalidArgument(format!(
                "the label has the number {value}; expected finite numbers"
            )));
        }
        for (output, (&truth, &predicted)) in
            self.outputs.iter_mut().zip(truth.iter().zip(predicted))
        {
            output.truth.push(truth);
            output.predicted.push(predicted);
        }
        Ok(())
    }

    /// The metrics of all texts so far: O(n log n) for n of them.
    pub fn metrics(&self) -> ValueMetrics {
        let outputs: Vec<OutputMetrics> = self
            .outputs
            .iter()
            .map(|output| OutputMetrics { mse: output.mse(), spearman: output.spearman() })
            .collect();
        ValueMetrics {
            mse: mean(outputs.iter().filter_map(|output| output.mse)),
            spearman: mean(outputs.iter().filter_map(|output| output.spearman)),
            count: self.outputs.first().map_or(0, |output| output.truth.len()),
            outputs,
        }
    }
}

impl Output {
    fn mse(&self) -> Option<f64> {
        let errors = self.truth.iter().zip(&self.predicted);
        mean(errors.map(|(truth, &predicted)| (f64::from(predicted) - truth).powi(2)))
    }

    /// That of a list that the labels rank and the predictions reward. It fails for an empty one
    /// alone.
    fn spearman(&self) -> Option<f64> {
        let ranking = Ranking::from_scores(&self.truth).ok()?;
        Scored::new(&self.predicted, ranking.ranks()).ok()?.spearman()
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}
