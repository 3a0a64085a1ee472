//! The model card: what a person who finds a model folder needs to know of it.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{Start, TrainConfig};
use crate::model::RewardScale;
use crate::text::Layout;

/// What a run cannot know of itself, for the model card (`README.md`) of the folder it writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// The model that was started from; `None` is random weights.
    pub base_model: Option<String>,
    /// The training data.
    pub data: Option<String>,
    /// The data of the evaluation.
    pub evaluation_data: Option<String>,
}

impl Provenance {
    /// Nothing known yet.
    pub fn new() -> Provenance {
        Provenance::default()
    }

    /// The same with the model that was started from.
    #[must_use]
    pub fn with_base_model(self, name: impl Into<String>) -> Provenance {
        Provenance { base_model: Some(name.into()), ..self }
    }

    /// The same with names of the data to train and to evaluate on.
    #[must_use]
    pub fn with_data(self, train: impl Into<String>, evaluation: impl Into<String>) -> Provenance {
        let (data, evaluation_data) = (Some(train.into()), Some(evaluation.into()));
        Provenance { data, evaluation_data, ..self }
    }
}

/// What a run did.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub start: Start,
    /// The epoch whose weights the model has.
    pub epoch: u32,
    pub seconds: f64,
    pub evaluation: Value,
    /// If that epoch was chosen.
    pub chosen: Option<Chosen>,
}

/// Weights that were chosen among those of several evaluations.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// The set that they did best on.
    pub set: String,
    /// The evaluation of that set after the last step.
    pub last: Value,
}

pub(super) fn write(
    provenance: &Provenance,
    config: &TrainConfig,
    record: Option<&Record>,
    layout: Layout,
    scale: Option<RewardScale>,
) -> String {
    let mut card = String::new();
    // Writing into a string cannot fail.
    let _ = front_matter(&mut card, provenance)
        .and_then(|()| introduction(&mut card, provenance))
        .and_then(|()| loading(&mut card, layout))
        .and_then(|()| match record {
            Some(record) => run(&mut card, provenance, record),
            None => Ok(()),
        })
        .and_then(|()| scale.map_or(Ok(()), |scale| rewards(&mut card, scale)))
        .and_then(|()| settings(&mut card, config));
    card
}

fn front_matter(card: &mut String, provenance: &Provenance) -> std::fmt::Result {
    writeln!(card, "---\nlibrary_name: transformers\npipeline_tag: text-classification")?;
    if let Some(base) = &provenance.base_model {
        // A JSON string is a YAML string.
        writeln!(card, "base_model: {}", Value::from(base.as_str()))?;
    }
    writeln!(card, "tags:\n- reward-model\n---\n")
}

fn introduction(card: &mut String, provenance: &Provenance) -> std::fmt::Result {
    let from = match &provenance.base_model {
        Some(base) => format!("fine-tuned from {}", code(base)),
        None => "trained from random weights".into(),
    };
    writeln!(
        card,
        "# Reward model\n\nA transformer with a linear head, {from} with the Rust library \
         `reward-model`.\n"
    )
}

fn loading(card: &mut String, layout: Layout) -> std::fmt::Result {
    let (text, note) = match layout {
        Layout::Continuation => (
            "prompt + response + tokenizer.eos_token",
            "A conversation in place of a text, where the tokenizer has a chat template: \
             `tokenizer.apply_chat_template(messages, return_dict=True, return_tensors=\"pt\")`.",
        ),
        _ => ("prompt, response", "Without a prompt: `tokenizer(response, ...)`."),
    };
    writeln!(
        card,
        r#"## How to load

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".").eval()
with torch.no_grad():
    reward = model(**tokenizer({text}, return_tensors="pt")).logits
```

{note}

```rust
let scorer = reward_model::Scorer::load(".", reward_model::tch::Device::Cpu)?;
let rewards = scorer.score_list(&list)?;
```
"#
    )
}

fn run(card: &mut String, provenance: &Provenance, record: &Record) -> std::fmt::Result {
    let Start { lists, evaluation_lists, too_long, without_pairs, prompts_cut, groups, .. } =
        &record.start;
    let named = |name: &Option<String>| match name {
        Some(name) => format!(" of {}", code(name)),
        None => String::new(),
    };
    writeln!(card, "## Data\n")?;
    writeln!(card, "- trained on: {lists} examples{}", named(&provenance.data))?;
    writeln!(
        card,
        "- evaluated on: {evaluation_lists} examples{}",
        named(&provenance.evaluation_data)
    )?;
    for (count, what) in [
        (too_long, "left out of the training data: too long"),
        (without_pairs, "left out of the training data: no response ranked above another"),
        (prompts_cut, "kept with the start of the prompt cut off"),
    ] {
        if *count > 0 {
            writeln!(card, "- {count} {what}")?;
        }
    }
    writeln!(card, "\n## Evaluation\n")?;
    let (epoch, seconds) = (record.epoch, record.seconds);
    match &record.chosen {
        None => writeln!(
            card,
            "After epoch {epoch} ({seconds:.0} s of training):\n\n| | |\n|---|---|"
        )?,
        Some(Chosen { set, .. }) => writeln!(
            card,
            "The weights are those after epoch {epoch}, which did best on {}, the examples that these \
             figures are of ({seconds:.0} s of training). The choice makes the figures of the chosen \
             weights too good; those after the last step are beside them.\n\n\
             | | chosen | last |\n|---|---|---|",
            code(set)
        )?,
    }
    for (name, value) in record.evaluation.as_object().unwrap_or(&Map::new()) {
        let Some(shown) = cell(value) else { continue };
        match &record.chosen {
            None => writeln!(card, "| {name} | {shown} |")?,
            Some(Chosen { last, .. }) => {
                let last = last.get(name).and_then(cell).unwrap_or_default();
                writeln!(card, "| {name} | {shown} | {last} |")?;
            }
        }
    }
    writeln!(
        card,
        "\n## What was trained\n\n| part | parameters | trained | learning rate |\n|---|---|---|---|"
    )?;
    for group in groups {
        let rate = match group.trainable {
            0 => "frozen".into(),
            _ => format!("{:e}", group.learning_rate),
        };
        let (name, all, trained) = (&group.name, group.parameters, group.trainable);
        writeln!(card, "| {name} | {all} | {trained} | {rate} |")?;
    }
    writeln!(card)
}

/// A figure as the card shows it, if it is one number.
fn cell(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) if number.is_f64() => Some(format!("{:.4}", number.as_f64()?)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn rewards(card: &mut String, scale: RewardScale) -> std::fmt::Result {
    let RewardScale { mean, std, normalized, offset } = scale;
    writeln!(card, "## Rewards\n")?;
    writeln!(card, "On training data: mean {mean:.4}, standard deviation {std:.4}.")?;
    if normalized {
        writeln!(card, "The head was then changed so that they are 0 and 1.")?;
    }
    if offset != 0.0 {
        writeln!(
            card,
            "The head has no bias in Python, so this is what `reward_model::Scorer` gives; in Python \
             subtract {offset} (`model.config.reward_scale[\"offset\"]`)."
        )?;
    }
    writeln!(card)
}

fn settings(card: &mut String, config: &TrainConfig) -> std::fmt::Result {
    let json = serde_json::to_string_pretty(config).map_err(|_| std::fmt::Error)?;
    writeln!(card, "## Settings\n\n```json\n{json}\n```")
}

/// A text from outside as code in Markdown, whatever it holds.
fn code(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("`` {} ``", line.replace('`', "'"))
}
