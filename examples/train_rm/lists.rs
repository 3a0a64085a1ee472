//! The lists of a run: trained on from disk, held out in memory.

use std::cell::RefCell;
use std::path::Path;

use reward_model::data::{Dataset, IndexedFile, ReadOptions, Subset};
use reward_model::{Error, RankedList, Result};

use crate::arguments::Arguments;
use crate::support;

/// How many lists rewards' mean and standard deviation are of, at most, and how many a tokenizer is
/// made from.
const LISTS_SAMPLED: usize = 10_000;

/// How many lists of --data are held out, at most.
const LISTS_HELD_OUT: usize = 2000;

pub type Set = (String, Vec<RankedList>);

pub type Lists = dyn Dataset<RankedList>;

/// The lists to train on, the sets to evaluate on with their names, and what the files are.
pub struct Data {
    pub train: Box<Lists>,
    pub sets: Vec<Set>,
    pub opened: String,
}

impl Data {
    pub fn read(arguments: &Arguments) -> Result<Data> {
        let opened = RefCell::new(String::new());
        let mut options = ReadOptions::default();
        if let Some(format) = arguments.format {
            options = options.with_format(format);
        }
        let open = |path: &Path| -> Result<IndexedFile> {
            let lists = IndexedFile::open_with(path, &options)?;
            if lists.is_empty() {
                let message = format!("{}: the file holds no ranked list", path.display());
                return Err(Error::InvalidArgument(message));
            }
            let (count, format) = (lists.len(), lists.format());
            *opened.borrow_mut() += &format!("{}: {count} lists, {format}\n", path.display());
            Ok(lists)
        };
        let set = |path: &Path| -> Result<Set> {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let lists = open(path)?;
            Ok((name, (0..lists.len()).map(|at| lists.get(at)).collect::<Result<_>>()?))
        };
        let mut sets = Vec::new();
        for path in &arguments.eval_data {
            let (name, lists) = set(path)?;
            sets.push((unused(name, &sets), lists));
        }
        let Some(path) = &arguments.data else {
            if sets.is_empty() {
                sets.push(set(&support::shipped("eval.jsonl"))?);
            }
            let train = Box::new(open(&support::shipped("train.jsonl"))?);
            return Ok(Data { train, sets, opened: opened.into_inner() });
        };
        let lists = open(path)?;
        if !sets.is_empty() {
            return Ok(Data { train: Box::new(lists), sets, opened: opened.into_inner() });
        }
        let every = lists.len().div_ceil(LISTS_HELD_OUT).max(10);
        let (held_out, kept): (Vec<_>, Vec<_>) =
            (0..lists.len()).partition(|number| number % every == every - 1);
        let held_out =
            held_out.into_iter().map(|number| lists.get(number)).collect::<Result<_>>()?;
        let (train, sets) =
            (Box::new(Subset::new(lists, kept)?), vec![("held-out".into(), held_out)]);
        Ok(Data { train, sets, opened: opened.into_inner() })
    }
}

/// A name that no set has yet: files in two folders may be called alike.
fn unused(name: String, sets: &[Set]) -> String {
    let free = |name: &String| sets.iter().all(|(other, _)| other != name);
    let numbered = (2..).map(|number| format!("{name} {number}"));
    std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or(name)
}

/// Some of the lists, evenly spread.
pub fn sample(lists: &Lists) -> Result<Vec<RankedList>> {
    let every = lists.len().div_ceil(LISTS_SAMPLED).max(1);
    (0..lists.len()).step_by(every).map(|number| lists.get(number)).collect()
}
