//! What is in the data, before a run begins.

use super::{EvaluationSet, Trainer};
use crate::data::{DataReport, Dataset, Reporter, Split};
use crate::{RankedList, Result};

/// Lists whose tokens are counted, at most, evenly spread over the data: enough for percentiles.
const TOKENISED: usize = 20_000;

impl Trainer {
    /// What is in the training data and in the sets to evaluate on: counts, lengths, duplicates,
    /// contradictions, what both have in common, and whether better responses are longer. Lengths in
    /// tokens are those of at most 20 000 lists of each, evenly spread over the data.
    ///
    /// It becomes `data_report.json` of the next run's [`RunFolder`](crate::RunFolder), before the
    /// first step, and of the model folder.
    ///
    /// # Errors
    /// If a list cannot be read, the tokenizer fails, or there is no room for temporary files.
    pub fn data_report(
        &mut self,
        train: &dyn Dataset<RankedList>,
        sets: &[EvaluationSet<'_, RankedList>],
    ) -> Result<DataReport> {
        let mut reporter = Reporter::new();
        self.report_on(&mut reporter, Split::Training, train)?;
        for set in sets {
            self.report_on(&mut reporter, Split::Evaluation, &set.examples)?;
        }
        let report = reporter.finish()?;
        self.report = Some(report.clone());
        Ok(report)
    }

    fn report_on(
        &self,
        reporter: &mut Reporter,
        split: Split,
        lists: &dyn Dataset<RankedList>,
    ) -> Result<()> {
        let every = lists.len().div_ceil(TOKENISED).max(1);
        for number in 0..lists.len() {
            let list = lists.get(number)?;
            let tokenized = match number % every {
                // A list that is too long has no tokens that would be trained on.
                0 => self.scorer().tokenizer().encode_list(&list).ok(),
                _ => None,
            };
            let tokens = tokenized.map(|tokenized| {
                let texts = tokenized.texts.iter();
                texts.map(|text| text.ids.len() - text.prompt_len).collect::<Vec<_>>()
            });
            reporter.add(split, &list, tokens.as_deref())?;
        }
        Ok(())
    }
}
