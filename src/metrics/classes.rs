//! The metrics of a classifier.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Counts which class was predicted for texts of which class.
///
/// ```
/// use reward_model::metrics::ClassMeter;
///
/// let mut meter = ClassMeter::new(3);
/// for (truth, predicted) in [(0, 0), (0, 1), (1, 1), (1, 1)] {
///     meter.add(truth, predicted)?;
/// }
/// let metrics = meter.metrics();
/// assert_eq!(metrics.accuracy, Some(0.75));
/// // F1 is 2/3 for class 0 and 4/5 for class 1; class 2 occurs nowhere.
/// assert!((metrics.macro_f1.unwrap() - 11.0 / 15.0).abs() < 1e-12);
/// assert_eq!(metrics.confusion, [[1, 1, 0], [0, 2, 0], [0, 0, 0]]);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClassMeter {
    /// By truth, then by prediction.
    confusion: Vec<Vec<usize>>,
}

/// The metrics of a classifier; a metric is `None` if nothing was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClassMetrics {
    /// The share of texts whose class was predicted.
    pub accuracy: Option<f64>,
    /// The mean of F1 = 2·TP / (2·TP + FP + FN) over the classes that occur as a truth or as a
    /// prediction, each of the same weight. A class that occurs nowhere is left out, and one that
    /// is never predicted rightly has F1 = 0.
    ///
    /// Equals `sklearn.metrics.f1_score(truth, predicted, average="macro")`.
    pub macro_f1: Option<f64>,
    /// How many texts of each class (the rows) were given each class (the columns).
    ///
    /// Equals `sklearn.metrics.confusion_matrix(truth, predicted, labels=range(classes))`.
    pub confusion: Vec<Vec<usize>>,
    /// How many texts were counted.
    pub count: usize,
}

impl ClassMeter {
    /// A meter of this many classes, which takes memory for the square of it.
    pub fn new(classes: usize) -> ClassMeter {
        ClassMeter { confusion: vec![vec![0; classes]; classes] }
    }

    /// Adds a text by its class and the class that was predicted for it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if either is not one of the meter's classes, which are counted
    /// from 0. Nothing is added then.
    pub fn add(&mut self, truth: usize, predicted: usize) -> Result<()> {
        let classes = self.confusion.len();
        for (what, class) in [("the label", truth), ("the prediction", predicted)] {
            if class >= classes {
                return Err(Error::InvalidArgument(format!(
                    "{what} is class {class}, but there are {classes} classes, counted from 0"
                )));
            }
        }
        if let Some(cell) = self.confusion.get_mut(truth).and_then(|row| row.get_mut(predicted)) {
            *cell += 1;
        }
        Ok(())
    }

    /// The metrics of all texts so far.
    pub fn metrics(&self) -> ClassMetrics {
        let of_truth: Vec<usize> = self.confusion.iter().map(|row| row.iter().sum()).collect();
        let mut of_prediction = vec![0; self.confusion.len()];
        for row in &self.confusion {
            for (sum, cell) in of_prediction.iter_mut().zip(row) {
                *sum += cell;
            }
        }
        let right = || self.confusion.iter().enumerate().filter_map(|(class, row)| row.get(class));
        let count: usize = of_truth.iter().sum();

        // 2·TP + FP + FN is how often a class occurs, as a truth and as a prediction.
        let f1: Vec<f64> = right()
            .zip(of_truth.iter().zip(&of_prediction))
            .map(|(&right, (truth, predicted))| (right, truth + predicted))
            .filter(|&(_, occurs)| occurs > 0)
            .map(|(right, occurs)| 2.0 * right as f64 / occurs as f64)
            .collect();
        ClassMetrics {
            accuracy: (count > 0).then(|| right().sum::<usize>() as f64 / count as f64),
            macro_f1: (count > 0).then(|| f1.iter().sum::<f64>() / f1.len() as f64),
            confusion: self.confusion.clone(),
            count,
        }
    }
}
