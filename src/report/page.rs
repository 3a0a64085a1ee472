//! The page: everything in one file that asks for nothing else.

use serde_json::{Map, Value};

use super::data::data;
use super::evaluation::{by_list_size, by_rank_distance, cards, reliability, table};
use super::figures::Figure;
use super::held_out::SetLists;
use super::lines::{number, Unreadable};
use super::records::Records;
use super::samples::samples;
use super::tables::{duration, figure, object, text};

const STYLE: &str = include_str!("style.css");

/// What a page is made of.
pub(super) struct Page<'a> {
    /// The folder's name.
    pub name: &'a str,
    pub records: &'a Records,
    pub training: &'a [Figure],
    pub sets: Vec<Set<'a>>,
    pub data_report: Option<Result<Map<String, Value>, String>>,
    pub settings: Option<Result<Map<String, Value>, String>>,
    /// Lines of evaluation.jsonl that are left out.
    pub unreadable_lists: Unreadable,
}

/// A set of held-out data.
pub(super) struct Set<'a> {
    pub name: &'a str,
    pub lists: Option<&'a SetLists>,
    pub rewards: Option<Figure>,
    pub reliability: Option<Figure>,
}

impl Page<'_> {
    pub fn html(&self) -> String {
        let sections = [
            ("result", "Result", self.result()),
            ("training", "Training", self.training()),
            ("held-out", "Held-out data", self.held_out()),
            ("lists", "Sample lists", self.samples()),
            ("data", "Data", described(&self.data_report, "data_report.json", data)),
            ("settings", "Settings", described(&self.settings, "train_config.json", object)),
            ("records", "Records", self.records()),
        ];
        let (mut links, mut body) = (String::new(), String::new());
        for (id, title, content) in sections.iter().filter(|section| !section.2.is_empty()) {
            links += &format!("<a href=\"#{id}\">{title}</a>");
            body += &format!("<section id=\"{id}\"><h2>{title}</h2>{content}</section>\n");
        }
        let name = text(self.name, 120);
        let title = super::escape::escape(self.name);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>Reward model {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header><p class=\"kind\">Reward model</p><h1>{name}</h1>{summary}\
             <nav>{links}</nav></header>\n<main>\n{body}</main>\n</body>\n</html>\n",
            summary = self.summary(),
        )
    }

    fn summary(&self) -> String {
        let start = &self.records.start;
        let mut facts = Vec::new();
        let last = self.records.steps.last();
        match (last, start.get("steps").and_then(Value::as_f64)) {
            (Some(last), Some(steps)) if last.step as f64 != steps => {
                facts.push(format!("{} of {} steps", figure(last.step as f64), figure(steps)));
            }
            (Some(last), _) => facts.push(format!("{} steps", figure(last.step as f64))),
            (None, _) => facts.push("no step yet".into()),
        }
        if let Some(last) = last {
            facts.push(format!(
                "{} {}",
                last.epoch,
                if last.epoch == 1 { "epoch" } else { "epochs" }
            ));
            if last.seconds.is_finite() {
                facts.push(duration(last.seconds));
            }
        }
        let mut count = |name: &str, what: &str| {
            let count = number(start, name);
            if count.is_finite() {
                facts.push(format!("{} {what}", figure(count)));
            }
        };
        count("lists", "training lists");
        count("evaluation_lists", "held-out lists");
        count("trainable_parameters", "parameters trained");
        if let Some(step) = self.records.stopped_early {
            facts.push(format!("stopped early at step {}", figure(step as f64)));
        }
        if let Some(step) = self.records.kept {
            facts.push(format!("weights of step {} kept", figure(step as f64)));
        }
        let facts: String = facts.iter().map(|fact| format!("<li>{fact}</li>")).collect();
        format!("<ul class=\"facts\">{facts}</ul>")
    }

    fn result(&self) -> String {
        let sets = self.records.sets();
        let Some((first, result)) =
            sets.first().and_then(|first| Some((first, self.records.result(first)?)))
        else {
            return "<p>No held-out data have been evaluated, so nothing tells how good the model \
                    is.</p>"
                .into();
        };
        let of = if result.step == 0 {
            "before training".into()
        } else {
            format!("after step {}", figure(result.step as f64))
        };
        let intervals = if result.figures.keys().any(|name| name.ends_with("_interval")) {
            " Intervals say how far a figure could be off because the lists are few."
        } else {
            ""
        };
        let chosen = self.records.last_of_chosen(first).map_or_else(String::new, |last| {
            let of_last = last.figures.get("pairwise_accuracy").or(last.figures.get("accuracy"));
            let accuracy = of_last.and_then(serde_json::Value::as_f64).map(figure);
            let loss = last.figures.get("loss").and_then(serde_json::Value::as_f64).map(figure);
            let figures = [("accuracy", accuracy), ("loss", loss)]
                .into_iter()
                .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
                .collect::<Vec<_>>()
                .join(", ");
            format!(
                " The weights were chosen on this set, which makes its figures too good; after the \
                 last step, {}, they were: {figures}.",
                figure(last.step as f64)
            )
        });
        format!(
            "<p>On lists that the model has not learned from, set <em>{}</em>, \
             {of}.{intervals}{chosen}</p>\
             <div class=\"cards\">{}</div><h3>All figures</h3><div class=\"scroll\">{}</div>",
            text(first, 60),
            cards(&result.figures),
            table(self.records)
        )
    }

    fn training(&self) -> String {
        if self.training.is_empty() {
            return "<p>No step has been recorded, so there are no curves.</p>".into();
        }
        let figures: String = self.training.iter().map(shown).collect();
        format!("<div class=\"figures\">{figures}</div>")
    }

    fn held_out(&self) -> String {
        let mut html = String::new();
        for set in &self.sets {
            let mut of_set = String::new();
            let pictures: String =
                [&set.rewards, &set.reliability].into_iter().flatten().map(shown).collect();
            if !pictures.is_empty() {
                of_set += &format!("<div class=\"figures\">{pictures}</div>");
            }
            if let Some(result) = self.records.result(set.name) {
                let tables = [
                    ("By rank distance", "Pairs whose ranks lie far apart should be easy; an accuracy that does not rise from row to row is a sign of noisy ranks.", by_rank_distance(&result.figures)),
                    ("By list size", "Whether long lists are harder than short ones.", by_list_size(&result.figures)),
                    ("Reliability", "The numbers of the reliability plot.", reliability(&result.figures)),
                ];
                let tables: String = tables
                    .iter()
                    .filter(|table| !table.2.is_empty())
                    .map(|(title, what, table)| {
                        format!(
                            "<div class=\"block\"><h4>{title}</h4><p class=\"quiet\">{what}</p>\
                             <div class=\"scroll\">{table}</div></div>"
                        )
                    })
                    .collect();
                if !tables.is_empty() {
                    of_set += &format!("<div class=\"blocks\">{tables}</div>");
                }
            }
            if !of_set.is_empty() {
                html += &format!("<h3>Set <em>{}</em></h3>{of_set}", text(set.name, 60));
            }
        }
        html
    }

    fn samples(&self) -> String {
        let mut html = String::new();
        for lists in self.sets.iter().filter_map(|set| set.lists) {
            let samples = samples(lists);
            if !samples.is_empty() {
                html += &format!(
                    "<h3>Set <em>{}</em></h3><p>Lists in the right order from first to last: {} of \
                     {}.</p>{samples}",
                    text(&lists.name, 60),
                    figure(lists.right as f64),
                    figure(lists.lists as f64)
                );
            }
        }
        html
    }

    fn records(&self) -> String {
        let records = self.records;
        let mut notes = vec![format!(
            "Steps in events.jsonl: {}; evaluations: {}.",
            figure(records.steps.len() as f64),
            figure(records.evaluations.len() as f64)
        )];
        if records.resumed > 0 {
            notes.push(format!("Times the run was resumed: {}.", figure(records.resumed as f64)));
        }
        if records.skipped > 0 {
            notes.push(format!(
                "Steps skipped because the loss or the gradient was not finite: {}.",
                figure(records.skipped as f64)
            ));
        }
        for (file, unreadable) in
            [("events.jsonl", &records.unreadable), ("evaluation.jsonl", &self.unreadable_lists)]
        {
            if unreadable.count > 0 {
                notes.push(format!(
                    "Lines of {file} that are no JSON objects and are left out: {}, the first of \
                     them line {}.",
                    figure(unreadable.count as f64),
                    figure(unreadable.first as f64)
                ));
            }
        }
        if self.sets.iter().all(|set| set.lists.is_none()) {
            notes.push(
                "There is no evaluation.jsonl, so there are no rewards by rank and no sample lists."
                    .into(),
            );
        }
        let notes: String = notes.iter().map(|note| format!("<li>{note}</li>")).collect();
        let mut html = format!("<ul>{notes}</ul>");
        if let Some(groups) = records.start.get("groups").filter(|groups| groups.is_array()) {
            html += &format!(
                "<h3>What trains</h3><div class=\"scroll\">{}</div>",
                super::tables::value(groups)
            );
        }
        html
    }
}

fn shown(figure: &Figure) -> String {
    format!("<figure>{}<figcaption>{}</figcaption></figure>", figure.svg, figure.caption)
}

/// A file of settings or the like as tables; nothing if it is not there.
fn described(
    content: &Option<Result<Map<String, Value>, String>>,
    file: &str,
    shown: fn(&Map<String, Value>) -> String,
) -> String {
    match content {
        None => String::new(),
        Some(Ok(content)) => format!("<div class=\"scroll\">{}</div>", shown(content)),
        Some(Err(error)) => format!("<p>{file} cannot be shown: {}.</p>", text(error, 200)),
    }
}
