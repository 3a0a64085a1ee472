//! A line of TSV: responses, best first, separated by tabs.

use super::Problem;
use crate::RankedList;

pub(super) fn parse(line: &str) -> Result<RankedList, Problem> {
    Ok(RankedList::new(line.split('\t'))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_are_all_that_counts() {
        let list = parse("\"a\" \t b,c\\t").unwrap();
        let texts: Vec<&str> = list.responses().iter().map(|r| r.text()).collect();
        assert_eq!(texts, ["\"a\" ", " b,c\\t"]);
        assert_eq!(parse("alone").unwrap().len(), 1);
        for (line, field) in [("a\t", 1), ("\ta", 0), ("a\t\tb", 1), ("\t", 0)] {
            let expected = format!("responses[{field}]: is empty; every response needs text");
            assert_eq!(parse(line).unwrap_err().to_string(), expected);
        }
    }
}
