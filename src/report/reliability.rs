//! The reliability plot: how often the model is right when it is so sure.

use plotters::backend::DrawingBackend;
use serde_json::{Map, Value};

use super::axis::{Frame, Ticks};
use super::canvas::{ink, Anchor, Canvas, Picture, Result};
use super::lines::number;

/// Pairs of similar confidence. Both means are NaN where there is no pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bin {
    pub from: f64,
    pub to: f64,
    pub pairs: f64,
    pub confidence: f64,
    pub accuracy: f64,
}

/// The bins of an evaluation; none if it has none.
pub(super) fn bins(figures: &Map<String, Value>) -> Vec<Bin> {
    let bins = figures.get("reliability").and_then(Value::as_array);
    let objects = bins.into_iter().flatten().filter_map(Value::as_object);
    objects
        .map(|bin| Bin {
            from: number(bin, "from"),
            to: number(bin, "to"),
            pairs: number(bin, "pairs").max(0.0),
            confidence: number(bin, "confidence"),
            accuracy: number(bin, "accuracy"),
        })
        .collect()
}

pub(super) struct Reliability {
    title: String,
    bins: Vec<Bin>,
}

impl Reliability {
    /// The picture; `None` if no bin has a pair.
    pub fn new(title: String, bins: &[Bin]) -> Option<Reliability> {
        let seen = |bin: &&Bin| {
            [bin.from, bin.to, bin.pairs, bin.confidence, bin.accuracy]
                .iter()
                .all(|x| x.is_finite())
                && bin.pairs > 0.0
        };
        let bins: Vec<Bin> = bins.iter().filter(seen).copied().collect();
        (!bins.is_empty()).then_some(Reliability { title, bins })
    }
}

impl Picture for Reliability {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        (440, 360)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &mut Canvas<B>) -> Result<()> {
        let width = f64::from(self.size().0);
        canvas.text(&self.title, (12.0, 19.0), Anchor::Left, 15.0, ink::TEXT)?;
        let lowest = self.bins.iter().map(|bin| bin.accuracy).fold(0.5, f64::min);
        let first = self.bins.iter().map(|bin| bin.from).fold(0.5, f64::min);
        let x = (first.max(0.0), 1.0);
        let frame = Frame {
            left: 52.0,
            right: width - 16.0,
            top: 56.0,
            bottom: 240.0,
            x,
            y: ((lowest * 10.0).floor() / 10.0 - 0.02, 1.02),
        };
        frame.draw_y(canvas, &Ticks::new(frame.y, 5))?;
        let diagonal = (x.0.max(frame.y.0), 1.0);
        let ends = (frame.at((diagonal.0, diagonal.0)), frame.at((1.0, 1.0)));
        canvas.dashes(ends.0, ends.1, ink::QUIET, 1.3)?;
        let points: Vec<_> =
            self.bins.iter().map(|bin| frame.at((bin.confidence, bin.accuracy))).collect();
        canvas.line(&points, ink::SETS[0], 2.0)?;
        for &centre in &points {
            canvas.circle(centre, 4.8, ink::PAPER)?;
            canvas.circle(centre, 3.8, ink::SETS[0])?;
        }
        canvas.text(
            "accuracy: the share of pairs in the right order",
            (12.0, 39.0),
            Anchor::Left,
            11.0,
            ink::QUIET,
        )?;

        // The numbers of pairs, on the same axis.
        let most = self.bins.iter().map(|bin| bin.pairs).fold(0.0, f64::max);
        let counts = Frame { top: 272.0, bottom: 318.0, y: (0.0, most), ..frame };
        for bin in &self.bins {
            let (left, right) = (counts.across(bin.from) + 1.0, counts.across(bin.to) - 1.0);
            if right > left {
                let from = (left, counts.up(bin.pairs));
                canvas.rectangle(from, (right, counts.bottom), ink::FAINT_BLUE)?;
            }
        }
        let text = format!("pairs, at most {most}");
        canvas.text(&text, (12.0, counts.top - 8.0), Anchor::Left, 11.0, ink::QUIET)?;
        counts.draw_x(canvas, &Ticks::new(x, 5), "confidence")
    }
}
