//! [`Classification`] and [`Regression`]: objectives on labelled texts.

use serde::{Deserialize, Serialize};
use tch::{Device, Reduction, Tensor};

use super::objective::{as_many, BatchLoss, Decisions, Objective, Prepared};
use crate::metrics::{ClassMeter, ClassMetrics, ValueMeter, ValueMetrics};
use crate::model::{Mode, RewardModel};
use crate::score::{self, Scorer};
use crate::text::Tokenizer;
use crate::torch::{upload, upload_indices};
use crate::{Error, Label, LabelledText, RankedList, Result, TokenBatch};

/// Graded classification by cross-entropy: one output a class, classes counted from 0.
///
/// ```text
/// loss = mean over texts of −log softmax(outputs)[class]
/// ```
///
/// Started from a model whose head has as many outputs, for instance one loaded with
/// [`LoadOptions::with_new_head`](crate::LoadOptions::with_new_head).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classification {
    /// How many classes there are.
    pub classes: usize,
}

/// Regression by the mean squared error, to one number a text or to several attributes of it.
///
/// ```text
/// loss = mean over texts and outputs of (output − label)²
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regression {
    /// How many numbers a label has.
    pub outputs: usize,
}

/// How a model does on labelled texts that it does not learn from; `M` are the metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LabelledEvaluation<M> {
    /// The training loss on these texts; `None` if there are none.
    pub loss: Option<f64>,
    /// The metrics.
    #[serde(flatten)]
    pub metrics: M,
    /// Texts left out because they are too long.
    pub too_long: usize,
}

impl Objective for Classification {
    type Example = LabelledText;
    /// The class.
    type Target = usize;
    type Evaluation = LabelledEvaluation<ClassMetrics>;

    fn prepare(&self, tokenizer: &Tokenizer, texts: &[LabelledText]) -> Result<Prepared<usize>> {
        prepare(tokenizer, texts, |label| match label.as_class() {
            Some(class) if class < self.classes => Ok(class),
            _ => Err(format!("must be a class from 0 to {}", self.classes.saturating_sub(1))),
        })
    }

    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        classes: &[&usize],
        mode: Mode,
    ) -> Result<BatchLoss> {
        let logits = score::forward(model, batch, mode, self.classes)?;
        let truth = upload_indices(classes.iter().map(|&&class| class), logits.device())?;
        let loss = cross_entropy(&logits, &truth)?;
        Ok(BatchLoss::mean_of(classes.len(), loss).with_outputs(&logits))
    }

    fn decisions(&self, logits: &[f32], classes: &[&usize]) -> Result<Decisions> {
        as_many(logits, classes.len() * self.classes)?;
        let chosen = logits.chunks(self.classes.max(1)).map(best);
        let right = chosen.zip(classes).filter(|(chosen, class)| chosen == **class).count();
        let count = classes.len();
        let accuracy = (count > 0).then(|| right as f64 / count as f64);
        Ok(Decisions { count, accuracy, margin: None })
    }

    fn needs_outputs_alone(&self) -> bool {
        true
    }

    fn evaluate(&self, scorer: &Scorer, texts: &[LabelledText]) -> Result<Self::Evaluation> {
        let data = self.prepare(scorer.tokenizer(), texts)?;
        let outputs = outputs(scorer, &data, self.classes)?;
        let mut meter = ClassMeter::new(self.classes);
        for (example, logits) in data.examples.iter().zip(outputs.chunks(self.classes.max(1))) {
            meter.add(example.target, best(logits))?;
        }
        let loss = if outputs.is_empty() {
            None
        } else {
            let truth = upload_indices(data.examples.iter().map(|e| e.target), Device::Cpu)?;
            let logits = Tensor::f_from_slice(&outputs)?.f_view([-1, self.classes as i64])?;
            Some(cross_entropy(&logits, &truth)?.f_double_value(&[])?)
        };
        Ok(LabelledEvaluation { loss, metrics: meter.metrics(), too_long: data.too_long })
    }

    fn merit(&self, evaluation: &Self::Evaluation) -> Option<f64> {
        evaluation.metrics.accuracy
    }
}

impl Objective for Regression {
    type Example = LabelledText;
    /// A number for each output.
    type Target = Vec<f64>;
    type Evaluation = LabelledEvaluation<ValueMetrics>;

    fn prepare(&self, tokenizer: &Tokenizer, texts: &[LabelledText]) -> Result<Prepared<Vec<f64>>> {
        prepare(tokenizer, texts, |label| {
            let values = label.values();
            if values.len() == self.outputs {
                Ok(values)
            } else {
                Err(format!("must be {} numbers", self.outputs))
            }
        })
    }

    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        labels: &[&Vec<f64>],
        mode: Mode,
    ) -> Result<BatchLoss> {
        let outputs = score::forward(model, batch, mode, self.outputs)?;
        let truth: Vec<f32> = labels.iter().copied().flatten().map(|&v| v as f32).collect();
        let truth = upload(&truth, outputs.device())?.f_view_as(&outputs)?;
        Ok(BatchLoss::mean_of(labels.len(), outputs.f_mse_loss(&truth, Reduction::Mean)?))
    }

    fn needs_outputs_alone(&self) -> bool {
        true
    }

    fn evaluate(&self, scorer: &Scorer, texts: &[LabelledText]) -> Result<Self::Evaluation> {
        let data = self.prepare(scorer.tokenizer(), texts)?;
        let outputs = outputs(scorer, &data, self.outputs)?;
        let mut meter = ValueMeter::new(self.outputs);
        for (example, values) in data.examples.iter().zip(outputs.chunks(self.outputs.max(1))) {
            meter.add(&example.target, values)?;
        }
        let metrics = meter.metrics();
        Ok(LabelledEvaluation { loss: metrics.mse, metrics, too_long: data.too_long })
    }

    fn merit(&self, evaluation: &Self::Evaluation) -> Option<f64> {
        evaluation.metrics.mse.map(|mse| -mse)
    }
}

/// The texts as tokens, each with the target that `target` makes of its label.
fn prepare<T>(
    tokenizer: &Tokenizer,
    texts: &[LabelledText],
    target: impl Fn(&Label) -> Result<T, String>,
) -> Result<Prepared<T>> {
    let lists = texts.iter().map(|text| {
        Ok(RankedList::new([text.text()])?.with_prompt(text.prompt().unwrap_or_default()))
    });
    let lists = lists.collect::<Result<Vec<_>>>()?;
    let mut prepared = Prepared::default();
    for (number, tokenized) in tokenizer.encode_lists(&lists).into_iter().enumerate() {
        let label = texts[number].label();
        let target = target(label).map_err(|expected| {
            Error::InvalidArgument(format!("the label of text {number} is {label:?}; {expected}"))
        })?;
        match tokenized {
            Ok(list) => {
                prepared.prompts_cut += usize::from(list.prompt_cut);
                prepared.push(number, list.texts, target);
            }
            Err(Error::TooLong { .. }) => prepared.too_long += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(prepared)
}

fn outputs<T>(scorer: &Scorer, data: &Prepared<T>, outputs: usize) -> Result<Vec<f32>> {
    let texts: Vec<_> = data.examples.iter().flat_map(|example| &example.texts).collect();
    scorer.outputs(&texts, outputs)
}

/// The class of the largest of these; of equals the first one, as `argmax` has it in Python.
fn best(logits: &[f32]) -> usize {
    let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
    best.unwrap_or(0)
}

fn cross_entropy(logits: &Tensor, truth: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss::<Tensor>(truth, None, Reduction::Mean, -100, 0.0)?)
}
