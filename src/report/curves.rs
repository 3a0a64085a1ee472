//! Training curves: a figure of the steps, and the same figure of the evaluations between them.

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;

use super::axis::{Frame, Ticks};
use super::canvas::{ink, Anchor, Canvas, Picture, Result};
use super::series::{around, inner_range, moving_mean, thin, widen, window, Point};

/// Points of a curve that a picture shows; it has no more pixels across.
pub(super) const MOST_POINTS: usize = 800;
/// The share of outliers at either end that do not stretch the picture.
const OUTLIERS: f64 = 0.005;
/// More evaluations than these are a line without dots.
const MOST_DOTS: usize = 40;

/// A figure over the steps of a run.
#[derive(Default)]
pub(super) struct Curves {
    title: String,
    /// The batches' figures, thinned.
    raw: Vec<Point>,
    /// Their moving mean, thinned.
    mean: Vec<Point>,
    /// Evaluated sets by name.
    sets: Vec<(String, Vec<Point>)>,
    /// A line at this height, with its name.
    reference: Option<(f64, &'static str)>,
    /// The step whose weights were kept.
    kept: Option<f64>,
    x: (f64, f64),
    y: (f64, f64),
    /// Points that are above or below the picture.
    pub outside: usize,
    /// How many points one of the mean stands for.
    pub window: usize,
    pub points: usize,
}

impl Curves {
    /// The figure of the steps `raw`, whose mean is drawn if it is to be `smooth`, and of evaluated
    /// `sets`; `None` if there is nothing to see.
    pub fn new(
        title: &str,
        raw: impl Iterator<Item = Point>,
        smooth: bool,
        sets: Vec<(String, Vec<Point>)>,
    ) -> Option<Curves> {
        let raw: Vec<Point> = raw.filter(|point| point.1.is_finite()).collect();
        let sets: Vec<_> = sets.into_iter().filter(|(_, points)| !points.is_empty()).collect();
        let window = if smooth { window(raw.len()) } else { 1 };
        let mean = moving_mean(&raw, window);

        let of_sets = || sets.iter().flat_map(|(_, points)| points.iter().copied());
        let last = raw.iter().copied().chain(of_sets()).map(|point| point.0).fold(0.0, f64::max);
        let y = around(
            inner_range(raw.iter().map(|point| point.1), OUTLIERS),
            inner_range(of_sets().chain(mean.iter().copied()).map(|point| point.1), 0.0),
        )?;
        let y = widen(y, 0.05);
        Some(Curves {
            title: title.to_owned(),
            outside: raw.iter().filter(|point| point.1 < y.0 || point.1 > y.1).count(),
            points: raw.len(),
            window,
            raw: thin(&raw, MOST_POINTS),
            mean: thin(&mean, MOST_POINTS),
            sets,
            x: (0.0, last.max(1.0)),
            y,
            ..Curves::default()
        })
    }

    /// The picture ends where no figure is to be expected: at a bound that none is beyond.
    pub fn within(mut self, (low, high): (f64, f64)) -> Curves {
        let of_sets = self.sets.iter().flat_map(|(_, points)| points);
        let all = self.raw.iter().chain(&self.mean).chain(of_sets).map(|point| point.1);
        let (least, most) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), y| {
            (least.min(y), most.max(y))
        });
        if least >= low {
            self.y.0 = self.y.0.max(low);
        }
        if most <= high {
            self.y.1 = self.y.1.min(high);
        }
        self
    }

    pub fn with_reference(mut self, height: f64, name: &'static str) -> Curves {
        self.reference = Some((height, name));
        self
    }

    pub fn with_kept(mut self, step: Option<u64>) -> Curves {
        self.kept = step.map(|step| step as f64);
        self
    }

    pub fn has_steps(&self) -> bool {
        !self.raw.is_empty()
    }

    pub fn has_sets(&self) -> bool {
        !self.sets.is_empty()
    }

    pub fn is_thinned(&self) -> bool {
        self.points > MOST_POINTS
    }

    /// What the curves are called, from left to right as far as there is room.
    fn draw_legend<B: DrawingBackend>(&self, canvas: &mut Canvas<B>) -> Result<()> {
        const SIZE: f64 = 12.0;
        let mut right = f64::from(self.size().0) - 14.0;
        let training = self.has_steps().then_some(("training", ink::BLUE));
        let sets = self.sets.iter().enumerate();
        let sets = sets.map(|(index, (name, _))| (name.as_str(), set_ink(index)));
        let entries: Vec<_> = training.into_iter().chain(sets).collect();
        if entries.len() < 2 && self.has_steps() {
            return Ok(());
        }
        let room = canvas.width(&self.title, 15.0)? + 24.0;
        for (name, colour) in entries.into_iter().rev() {
            // The font of an SVG is wider on some screens than the one that is measured.
            let left = right - 1.25 * canvas.width(name, SIZE)?;
            if left - 22.0 < room {
                continue;
            }
            canvas.text(name, (right, 19.0), Anchor::Right, SIZE, ink::TEXT)?;
            canvas.line(&[(left - 19.0, 19.5), (left - 6.0, 19.5)], colour, 2.5)?;
            right = left - 30.0;
        }
        Ok(())
    }
}

impl Picture for Curves {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        (440, 270)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &mut Canvas<B>) -> Result<()> {
        let (width, height) = self.size();
        canvas.text(&self.title, (12.0, 19.0), Anchor::Left, 15.0, ink::TEXT)?;
        self.draw_legend(canvas)?;
        let frame = Frame {
            left: 52.0,
            right: f64::from(width) - 16.0,
            top: 42.0,
            bottom: f64::from(height) - 42.0,
            x: self.x,
            y: self.y,
        };
        frame.draw_y(canvas, &Ticks::new(self.y, 5))?;
        if let Some((height, name)) =
            self.reference.filter(|(height, _)| (self.y.0..=self.y.1).contains(height))
        {
            let y = frame.up(height);
            canvas.dashes((frame.left, y), (frame.right, y), ink::AXIS, 1.2)?;
            canvas.text(name, (frame.right, y - 8.0), Anchor::Right, 11.0, ink::QUIET)?;
        }
        if let Some(step) = self.kept {
            let x = frame.across(step);
            canvas.dashes((x, frame.top), (x, frame.bottom), ink::AXIS, 1.2)?;
            let beside = if x > (frame.left + frame.right) / 2.0 {
                (x - 4.0, Anchor::Right)
            } else {
                (x + 4.0, Anchor::Left)
            };
            canvas.text("kept", (beside.0, frame.top + 5.0), beside.1, 11.0, ink::QUIET)?;
        }
        let place = |points: &[Point]| -> Vec<Point> {
            points.iter().map(|&point| frame.at(point)).collect()
        };
        // Where the mean is of one point, it is the curve.
        if self.window > 1 {
            canvas.line(&place(&self.raw), ink::FAINT_BLUE, 1.0)?;
        }
        canvas.line(&place(&self.mean), ink::BLUE, 2.2)?;
        for (index, (_, points)) in self.sets.iter().enumerate() {
            let placed = place(&thin(points, MOST_POINTS));
            canvas.line(&placed, set_ink(index), 2.0)?;
            if placed.len() <= MOST_DOTS {
                for &centre in &placed {
                    canvas.circle(centre, 3.6, ink::PAPER)?;
                    canvas.circle(centre, 2.7, set_ink(index))?;
                }
            }
        }
        frame.draw_x(canvas, &Ticks::whole(self.x, 6), "step")
    }
}

fn set_ink(index: usize) -> RGBColor {
    ink::SETS[index % ink::SETS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_ends_at_a_bound_that_no_figure_is_beyond() {
        let picture = |figures: [f64; 3]| {
            let points = figures.into_iter().enumerate().map(|(step, y)| (step as f64, y));
            let curves = Curves::new("", points, false, Vec::new()).unwrap();
            curves.within((0.0, f64::INFINITY)).y
        };
        assert_eq!(picture([0.7, 0.02, 0.01]).0, 0.0);
        // A loss that is negative, as the sigmoid pair function's.
        let (low, high) = picture([-0.98, -0.5, -0.03]);
        assert!(low < -0.98 && high > -0.03, "{low} {high}");
    }
}
