//! What is in the data, before a run begins.

use super::{EvaluationSet, Trainer};
use crate::data::{DataReport, Dataset, Reporter, Split, Tokens};
use crate::{Error, RankedList, Result};

/// About how many lists' tokens are counted, at most: enough for percentiles.
const TOKENISED: usize = 20_000;

impl Trainer {
    /// What is in the training data and in the sets to evaluate on: counts, lengths, duplicates,
    /// contradictions, what both have in common, and whether better responses are longer. Tokens are
    /// counted, and with them what will be left out or cut, in all lists of up to 20 000, and in about
    /// as many of more: every n-th from a list whose number follows from the seed.
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
        let first = self.config().seed as usize % every;
        for number in 0..lists.len() {
            let list = lists.get(number)?;
            if number % every != first {
                reporter.add(split, &list, None)?;
                continue;
            }
            let tokenized = match self.scorer().tokenizer().encode_list(&list) {
                Ok(tokenized) => tokenized,
                Err(Error::TooLong { .. }) => {
                    reporter.add(split, &list, Some(Tokens::TooLong))?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let texts = tokenized.texts.iter();
            let lengths: Vec<usize> = texts.map(|text| text.ids.len() - text.prompt_len).collect();
            let tokens = match tokenized.prompt_cut {
                true => Tokens::PromptCut(&lengths),
                false => Tokens::Whole(&lengths),
            };
            reporter.add(split, &list, Some(tokens))?;
        }
        Ok(())
    }
}
