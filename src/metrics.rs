//! How well a model does: its rewards on ranked lists, its predictions on labelled texts.
//!
//! # Ranked lists
//!
//! A pair (w, l) of one list is *ordered* if w is ranked better than l. A list without ordered
//! pairs (empty, one response, all tied) says nothing about a model: it is left out and counted,
//! never a 0 or a 1.
//!
//! [`Scored`] has the metrics of one list, [`RankMeter`] those of many:
//!
//! ```
//! use reward_model::metrics::{RankMeter, Scored};
//!
//! let mut meter = RankMeter::default();
//! meter.add(&Scored::new(&[2.0, 1.5, -1.0], &[1, 2, 3])?);
//! meter.add(&Scored::new(&[0.0, 4.0], &[1, 2])?);
//! meter.add(&Scored::new(&[0.5, 0.5], &[1, 1])?);
//!
//! let metrics = meter.metrics();
//! assert_eq!(metrics.pairwise_accuracy, Some(0.75)); // 3 of 4 pairs
//! assert_eq!(metrics.exact_order, Some(0.5)); // 1 of 2 lists
//! assert_eq!((metrics.lists, metrics.lists_without_pairs), (3, 1));
//! # Ok::<(), reward_model::Error>(())
//! ```
//!
//! [`DetailMeter`] looks behind those figures: intervals, calibration, accuracy by distance in rank
//! and by size of list, and whether the model rewards length.
//!
//! # Labelled texts
//!
//! [`ClassMeter`] has accuracy, macro-F1 and the confusion matrix of predicted classes,
//! [`ValueMeter`] mean squared error and Spearman's rho of predicted numbers.

mod bootstrap;
mod classes;
mod details;
mod meter;
mod scored;
mod values;

pub use classes::{ClassMeter, ClassMetrics};
pub use details::{AtDistance, AtSize, DetailMeter, RankDetails, ReliabilityBin};
pub use meter::{RankMeter, RankMetrics};
pub use scored::Scored;
pub use values::{OutputMetrics, ValueMeter, ValueMetrics};
