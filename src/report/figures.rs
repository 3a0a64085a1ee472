//! The pictures of a run, each with a sentence on what it shows.

use super::canvas::{png, svg, Picture, Result};
use super::curves::Curves;
use super::escape::label;
use super::held_out::SetLists;
use super::lines::number;
use super::records::{Records, StepRecord};
use super::reliability::{bins, Reliability};
use super::series::Point;
use super::tables::figure as number_text;

/// A picture in both formats.
pub(super) struct Figure {
    /// Of its files, without extension.
    pub name: String,
    /// What it shows, as a sentence or two.
    pub caption: String,
    pub svg: String,
    pub png: Vec<u8>,
}

/// Something that a curve can be of.
struct Quantity {
    name: &'static str,
    title: &'static str,
    of_step: fn(&StepRecord) -> f64,
    /// Its names in an evaluation; the first that is there counts.
    of_set: &'static [&'static str],
    bounds: (f64, f64),
    /// Whether it differs from batch to batch.
    noisy: bool,
    caption: &'static str,
}

const ANY: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

const QUANTITIES: [Quantity; 5] = [
    Quantity {
        name: "loss",
        title: "Loss",
        of_step: |step| step.loss,
        of_set: &["loss"],
        bounds: (0.0, f64::INFINITY),
        noisy: true,
        caption:
            "What training makes small. It should fall and level off; held-out loss that rises \
                  while training loss falls is overfitting.",
    },
    Quantity {
        name: "accuracy",
        title: "Accuracy",
        of_step: |step| step.accuracy,
        of_set: &["pairwise_accuracy", "accuracy"],
        bounds: (0.0, 1.0),
        noisy: true,
        caption:
            "The share that the model has right: of pairs, those whose better response has the \
                  higher reward. The gap between training and held-out data is what does not carry \
                  over.",
    },
    Quantity {
        name: "margin",
        title: "Reward margin",
        of_step: |step| step.margin,
        of_set: &["mean_margin"],
        bounds: ANY,
        noisy: true,
        caption:
            "The mean of r_w − r_l, the reward of the better response less that of the other: \
                  how far apart the model puts what people told apart. At 0 it prefers neither.",
    },
    Quantity {
        name: "learning-rate",
        title: "Learning rate",
        of_step: |step| step.learning_rate,
        of_set: &[],
        bounds: (0.0, f64::INFINITY),
        noisy: false,
        caption: "The size of a step: rising in the warm-up, then as the schedule says.",
    },
    Quantity {
        name: "gradient-norm",
        title: "Gradient norm",
        of_step: |step| step.grad_norm,
        of_set: &[],
        bounds: (0.0, f64::INFINITY),
        noisy: true,
        caption: "The length of all gradients together, before clipping. Growth without end, or \
                  peaks far above the rest, come before training that diverges.",
    },
];

/// The training curves that the records have something for.
pub(super) fn training(records: &Records) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for quantity in &QUANTITIES {
        let steps = records.steps.iter().map(|step| (step.step as f64, (quantity.of_step)(step)));
        let Some(curves) =
            Curves::new(quantity.title, steps, quantity.noisy, of_sets(records, quantity))
        else {
            continue;
        };
        let mut curves = curves.within(quantity.bounds).with_kept(records.kept);
        if quantity.name == "accuracy" && ranks(records) {
            curves = curves.with_reference(0.5, "chance");
        }
        figures.push(figure(quantity.name.into(), caption(quantity.caption, &curves), &curves)?);
    }
    Ok(figures)
}

/// The rewards of a set by rank, and the reliability of the model on it, as far as they are known.
pub(super) fn of_set(
    set: &str,
    records: &Records,
    lists: Option<&SetLists>,
) -> Result<(Option<Figure>, Option<Figure>)> {
    let rewards =
        lists.and_then(|lists| lists.rewards.picture(format!("Rewards by rank: {}", label(set))));
    let rewards = rewards.map(|picture| {
        let caption = "How the rewards of held-out responses are spread, from those that people \
                       ranked best (at the top) to the last. The upright line is the mean: the \
                       further the means step to the left from row to row, and the less the \
                       histograms overlap, the better the model tells the ranks apart. Each \
                       histogram is as high as its row; its outermost bars hold what is further \
                       out.";
        figure(format!("rewards-{}", file_name(set)), caption.into(), &picture)
    });
    let bins = records.result(set).map(|record| bins(&record.figures)).unwrap_or_default();
    let reliability = Reliability::new(format!("Reliability: {}", label(set)), &bins);
    let reliability = reliability.map(|picture| {
        let caption =
            "How sure the model is of a pair, σ of the difference of its rewards, and how \
                       often it is right when it is so sure. On the dashed line confidence can be \
                       taken at its word; below it the model is too sure of itself. Bars count the \
                       pairs: points that stand on few of them say little.";
        figure(format!("reliability-{}", file_name(set)), caption.into(), &picture)
    });
    Ok((rewards.transpose()?, reliability.transpose()?))
}

fn figure(name: String, caption: String, picture: &impl Picture) -> Result<Figure> {
    Ok(Figure { name, caption, svg: svg(picture)?, png: png(picture)? })
}

fn of_sets(records: &Records, quantity: &Quantity) -> Vec<(String, Vec<Point>)> {
    let curve = |set: &str| {
        let of_set = records.evaluations.iter().filter(|record| record.set == set);
        let points = of_set.filter_map(|record| {
            let names = quantity.of_set.iter().map(|name| number(&record.figures, name));
            let value = names.into_iter().find(|value| value.is_finite())?;
            Some((record.step as f64, value))
        });
        (label(set), points.collect())
    };
    records.sets().into_iter().map(curve).collect()
}

/// Whether the run learns an order, so that half of the pairs are right by chance.
fn ranks(records: &Records) -> bool {
    records.evaluations.iter().any(|record| record.figures.contains_key("pairwise_accuracy"))
}

fn caption(what: &str, curves: &Curves) -> String {
    let mut caption = what.to_owned();
    if curves.window > 1 {
        caption += &format!(
            " Faint: each batch. Strong: the mean over {} steps around each.",
            number_text(curves.window as f64)
        );
    }
    if curves.has_sets() && curves.has_steps() {
        caption += " With dots or in another colour: evaluations of held-out data.";
    }
    if curves.is_thinned() {
        caption += &format!(
            " Of {} steps, the lowest and highest of each stretch are drawn.",
            number_text(curves.points as f64)
        );
    }
    if curves.outside > 0 {
        let outside = number_text(curves.outside as f64);
        caption += &format!(" Batches outside the picture: {outside}.");
    }
    caption
}

/// A set's name as part of a file's name.
fn file_name(set: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | '0'..='9' | '-' => character,
        'A'..='Z' => character.to_ascii_lowercase(),
        _ => '_',
    };
    set.chars().take(40).map(plain).collect()
}
