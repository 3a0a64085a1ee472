//! A report as a table.

use std::fmt;

use super::{DataReport, Lengths, SplitReport};

impl fmt::Display for DataReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "training data\n{}", self.training)?;
        if let Some(evaluation) = &self.evaluation {
            writeln!(f, "evaluation data\n{evaluation}")?;
        }
        if let Some(overlap) = &self.overlap {
            writeln!(f, "evaluation lists found in the training data")?;
            row(f, "same prompt and responses", overlap.lists_in_training)?;
            row(f, "same prompt", overlap.prompts_in_training)?;
        }
        Ok(())
    }
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "lists", self.lists)?;
        row(f, "  without pairs", self.lists_without_pairs)?;
        row(f, "  that repeat another", self.duplicate_lists)?;
        if self.lists_tokenized > 0 {
            if self.lists_tokenized < self.lists {
                row(f, "  tokenised, a sample", self.lists_tokenized)?;
            }
            row(f, "  too long, to be left out", self.lists_too_long)?;
            row(f, "  with a prompt to be cut", self.prompts_cut)?;
        }
        row(f, "responses", self.responses)?;
        row(f, "pairs", self.pairs)?;
        row(f, "  in both orders", self.contradictory_pairs)?;
        if self.lists_not_compared > 0 {
            row(f, "  not looked for in lists", self.lists_not_compared)?;
        }
        row(f, "tied pairs", self.tied_pairs)?;
        for (name, correlation) in [
            ("better is longer, rho (bytes)", self.length_correlation_bytes),
            ("better is longer, rho (tokens)", self.length_correlation_tokens),
        ] {
            if let Some(correlation) = correlation {
                writeln!(f, "  {name:<32}{correlation:>12.3}")?;
            }
        }
        let heads = ["mean", "min", "50 %", "90 %", "99 %", "max"];
        write!(f, "  {:<20}", "")?;
        heads.iter().try_for_each(|head| write!(f, "{head:>10}"))?;
        writeln!(f)?;
        for (name, lengths) in [
            ("responses a list", &self.responses_per_list),
            ("bytes a prompt", &self.prompt_bytes),
            ("bytes a response", &self.response_bytes),
            ("tokens a response", &self.response_tokens),
        ] {
            if let Some(lengths) = lengths {
                let Lengths { mean, min, p50, p90, p99, max, .. } = lengths;
                writeln!(
                    f,
                    "  {name:<20}{mean:>10.1}{min:>10}{p50:>10}{p90:>10}{p99:>10}{max:>10}"
                )?;
            }
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, count: u64) -> fmt::Result {
    writeln!(f, "  {name:<32}{count:>12}")
}
