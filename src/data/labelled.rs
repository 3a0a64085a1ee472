//! Labelled texts, and how a line of JSONL says one.

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::json::{self, array, number, string, wrong_type, Object};
use super::Problem;
use crate::{Error, Result};

/// A text, perhaps the answer to a prompt, with what is to be learned of it: a class or numbers.
///
/// It cannot hold nonsense: there is text, and every number of the label is finite.
///
/// # Serde
///
/// It is written as one object of the JSONL form that [`data`](crate::data) describes, and reads
/// back equal. The format must be self-describing (JSON is; bincode is not).
///
/// # Examples
///
/// ```
/// use reward_model::{Label, LabelledText};
///
/// let review = LabelledText::new("a delight from start to end", Label::Class(4))?;
/// assert_eq!(serde_json::to_string(&review)?, r#"{"text":"a delight from start to end","label":4}"#);
///
/// let answer = LabelledText::new("5", Label::Value(0.25))?.with_prompt("2 + 2?");
/// assert_eq!(
///     serde_json::to_string(&answer)?,
///     r#"{"prompt":"2 + 2?","response":"5","label":0.25}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledText {
    prompt: Option<String>,
    text: String,
    label: Label,
}

/// What is to be learned of a text.
///
/// In JSON a class is an integer from 0; a number that is negative, written with a point or an
/// exponent, or too large for a `usize` is a value; an array of numbers is several values. A file
/// may mix them: who learns from it decides what a label must be, by [`as_class`](Label::as_class)
/// or [`values`](Label::values).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Label {
    /// A class, from 0.
    Class(usize),
    /// A number, for regression to one output.
    Value(f64),
    /// Numbers, for regression to as many outputs; at least one.
    Values(Vec<f64>),
}

impl LabelledText {
    /// A text and its label, without a prompt.
    ///
    /// # Errors
    ///
    /// [`Error::LabelledText`] if the text is empty or only white space, if the label has no number
    /// at all, or one that is NaN or infinite.
    pub fn new(text: impl Into<String>, label: Label) -> Result<Self> {
        let text = text.into();
        if text.trim().is_empty() {
            let found = if text.is_empty() { "is empty" } else { "is only white space" };
            return Err(wrong("text", format!("{found}; give the text that the label is of")));
        }
        label.check()?;
        Ok(Self { prompt: None, text, label })
    }

    /// The same with a prompt that the text answers; an empty one is no prompt.
    #[must_use]
    pub fn with_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.prompt = Some(prompt.into()).filter(|prompt| !prompt.is_empty());
        self
    }

    /// The prompt; `None` if there is none, never empty.
    pub fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    /// The text, exactly as given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The label.
    pub fn label(&self) -> &Label {
        &self.label
    }
}

impl Label {
    /// The class; `None` if the label is of values, even of whole ones.
    ///
    /// ```
    /// use reward_model::Label;
    ///
    /// assert_eq!(Label::Class(3).as_class(), Some(3));
    /// assert_eq!(Label::Value(3.0).as_class(), None);
    /// ```
    pub fn as_class(&self) -> Option<usize> {
        match self {
            Self::Class(class) => Some(*class),
            Self::Value(_) | Self::Values(_) => None,
        }
    }

    /// The label as targets of a regression, at least one: a class is its number, since a file of
    /// ratings may write some of them without a point.
    ///
    /// ```
    /// use reward_model::Label;
    ///
    /// assert_eq!(Label::Class(3).values(), [3.0]);
    /// assert_eq!(Label::Values(vec![0.5, -1.0]).values(), [0.5, -1.0]);
    /// ```
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::Class(class) => vec![*class as f64],
            Self::Value(value) => vec![*value],
            Self::Values(values) => values.clone(),
        }
    }

    fn check(&self) -> Result<()> {
        let finite = |field: String, value: f64| {
            if value.is_finite() {
                return Ok(());
            }
            Err(wrong(field, format!("{value} is not a finite number; give one")))
        };
        match self {
            Self::Class(_) => Ok(()),
            Self::Value(value) => finite("label".into(), *value),
            Self::Values(values) if values.is_empty() => {
                Err(wrong("label", "is an empty array; give at least one number"))
            }
            Self::Values(values) => values
                .iter()
                .enumerate()
                .try_for_each(|(index, &value)| finite(format!("label[{index}]"), value)),
        }
    }
}

fn wrong(field: impl Into<String>, message: impl Into<String>) -> Error {
    Error::LabelledText { field: field.into(), message: message.into() }
}

pub(super) fn parse(line: &str) -> Result<LabelledText, Problem> {
    json::parse::<Fields>(line)?.into_labelled()
}

#[derive(serde::Deserialize)]
struct Fields {
    prompt: Option<Value>,
    text: Option<Value>,
    response: Option<Value>,
    label: Option<Value>,
}

impl json::Fields for Fields {
    const EXPECTED: &'static str = "an object such as {\"text\": \"a delight\", \"label\": 1}";
}

impl Fields {
    fn into_labelled(self) -> Result<LabelledText, Problem> {
        let prompt = self.prompt.map(|value| string(&"prompt", value)).transpose()?;
        let (field, text) = match (self.text, self.response) {
            (Some(text), None) => ("text", text),
            (None, Some(response)) => ("response", response),
            (Some(_), Some(_)) => {
                return Err(Problem::of_line(
                    "has both \"text\" and \"response\"; give the text once",
                ))
            }
            (None, None) => {
                return Err(Problem::of_line(
                    "has neither \"text\" nor \"response\"; give the text that the label is of",
                ))
            }
        };
        let text = string(&field, text)?;
        let label = match self.label {
            Some(value) => label(value)?,
            None => {
                return Err(Problem::of_field("label", format!("is missing; expected {LABEL}")));
            }
        };
        let labelled = LabelledText::new(text, label).map_err(|error| {
            let mut problem = Problem::from(error);
            // The line may have called it the response.
            problem.field =
                problem.field.map(|name| if name == "text" { field.to_owned() } else { name });
            problem
        })?;
        Ok(match prompt {
            Some(prompt) => labelled.with_prompt(prompt),
            None => labelled,
        })
    }
}

const LABEL: &str = "a class (an integer from 0), a number, or an array of numbers";

fn label(value: Value) -> Result<Label, Problem> {
    match &value {
        Value::Number(found) => {
            let class = found.as_u64().and_then(|class| usize::try_from(class).ok());
            class.map_or_else(|| number(&"label", value).map(Label::Value), |c| Ok(Label::Class(c)))
        }
        Value::Array(_) => array("label", LABEL, value, number).map(Label::Values),
        _ => Err(wrong_type(&"label", LABEL, &value)),
    }
}

impl<'de> Deserialize<'de> for LabelledText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::<Fields>::deserialize(deserializer)?.0.into_labelled().map_err(de::Error::custom)
    }
}

impl Serialize for LabelledText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Written<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            prompt: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            response: Option<&'a str>,
            label: &'a Label,
        }

        let (text, response) = match self.prompt {
            Some(_) => (None, Some(self.text())),
            None => (Some(self.text()), None),
        };
        Written { prompt: self.prompt(), text, response, label: &self.label }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = label(Value::deserialize(deserializer)?).map_err(de::Error::custom)?;
        read.check().map_err(de::Error::custom)?;
        Ok(read)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Class(class) => class.serialize(serializer),
            Self::Value(value) => value.serialize(serializer),
            Self::Values(values) => values.serialize(serializer),
        }
    }
}
