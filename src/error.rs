//! The one error type of the crate.

use std::path::PathBuf;

/// A result whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed error of another crate.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Everything that can go wrong, with what a person needs to put it right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// What was being done: `"read"`, `"create"`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },

    /// A ranked list that makes no sense: no responses, an empty response, a rank that is not a
    /// number, ...
    #[error("{field}: {message}")]
    RankedList {
        /// The part that is wrong: `"responses[2]"`, `"ranks"`, ...
        field: String,
        /// What was found and what was expected.
        message: String,
    },

    /// A labelled text that makes no sense: no text, no label, a label that is not a number, ...
    #[error("{field}: {message}")]
    LabelledText {
        /// The part that is wrong: `"text"`, `"label[2]"`, ...
        field: String,
        /// What was found and what was expected.
        message: String,
    },

    /// A line of a data file that could not be read.
    #[error("{source_name}:{line}: {field}{message}", field = field.as_ref().map(|f| format!("{f}: ")).unwrap_or_default())]
    Data {
        /// The file's path, or `"<stdin>"`; `"PATH, record"` where records are counted, not lines.
        source_name: String,
        /// The line's number, or the record's, from 1.
        line: u64,
        /// The field, if one is to blame.
        field: Option<String>,
        /// What was found and what was expected.
        message: String,
    },

    /// A setting that is out of its bounds.
    #[error("{field} = {value}: {message}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// Its value, as given.
        value: String,
        /// The bounds, or what to do.
        message: String,
    },

    /// Several things that are wrong, each of which has to be put right.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<Error>),

    /// An argument that does not fit: a tensor of the wrong shape or dtype, offsets that do not
    /// cover the rewards, a NaN rank, ...
    #[error("{0}")]
    InvalidArgument(String),

    /// A JSON file of a model folder that could not be understood.
    #[error("{path}: {message}", path = path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },

    /// Tensors of a model folder that are missing, unexpected, or of the wrong shape; all of them
    /// are listed.
    #[error("{path}: the tensors do not fit the model in config.json:{problems}", path = path.display(), problems = problems.iter().map(|p| format!("\n  {p}")).collect::<String>())]
    Tensors {
        /// The weights file.
        path: PathBuf,
        /// One line a tensor: its name and what is wrong with it.
        problems: Vec<String>,
    },

    /// A tokenizer could not be read, trained or applied.
    #[error("tokenizer: {context}: {source}")]
    Tokenizer {
        /// What was being done.
        context: String,
        /// The cause.
        source: BoxError,
    },

    /// A model could not be had from the Hugging Face Hub.
    #[error("{source_name}: {message}")]
    Hub {
        /// The repository and its revision, as asked for.
        source_name: String,
        /// What happened and what to do.
        message: String,
        /// The cause, if it was not the repository itself.
        source: Option<BoxError>,
    },

    /// A chat template that is broken, asks for too much, or refuses a conversation; or a
    /// conversation without a template.
    #[error("chat template: {message}")]
    ChatTemplate {
        /// What is wrong and where.
        message: String,
    },

    /// A text that does not fit into the model's length without cutting its response.
    #[error("responses[{response}]: {tokens} tokens, but only {room} fit after the prompt; raise max_length or leave the list out")]
    TooLong {
        /// Which response of the list, best first, from 0.
        response: usize,
        /// How many tokens the response has.
        tokens: usize,
        /// How many there is room for.
        room: usize,
    },

    /// The device asked for is not there.
    #[error("device {device}: {message}")]
    Device {
        /// The device, as asked for.
        device: String,
        /// What is missing and what to do.
        message: String,
    },

    /// The loss or a gradient is no longer a finite number.
    #[error("training diverged at step {step}: {what}; try a lower learning rate (lists of the step: {lists})")]
    Diverged {
        /// The optimiser step, from 1.
        step: u64,
        /// What is not finite, with its value.
        what: String,
        /// The numbers of the lists in that step, from 0, in the order of the training data.
        lists: String,
    },

    /// The run was asked to stop. Whoever watches a run returns this to stop it; the trainer saves a
    /// checkpoint, if it has a [`RunFolder`](crate::RunFolder), and returns it too.
    #[error("interrupted")]
    Interrupted,

    /// A run folder, or a checkpoint in it, that cannot be used.
    #[error("{path}: {message}", path = path.display())]
    Run {
        /// The folder or file.
        path: PathBuf,
        /// What was found and what to do.
        message: String,
    },

    /// The device has no memory left.
    #[error("step {step}: {device:?} is out of memory; lower micro_batch_size (--micro-batch-size) or max_length (--max-length), which leaves the result of a step as it is or cuts prompts; libtorch said: {source}")]
    OutOfMemory {
        /// The optimiser step, from 1.
        step: u64,
        /// The device.
        device: tch::Device,
        /// What libtorch said.
        source: tch::TchError,
    },

    /// An error of libtorch.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl Error {
    /// Nothing if there are none; the error itself if there is one.
    #[cfg(feature = "train")]
    pub(crate) fn all(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }

    /// An [`Error::Io`], for `map_err`.
    #[cfg(any(feature = "data", feature = "text", feature = "report"))]
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
