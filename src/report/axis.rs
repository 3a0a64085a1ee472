//! Axes: round numbers to write beside a range, and the frame that has them.

use plotters::backend::DrawingBackend;

use super::canvas::{ink, Anchor, Canvas, Result};

const SMALL: f64 = 12.0;

/// Round numbers within a range, about `count` of them, and how to write them.
pub(super) struct Ticks {
    pub values: Vec<f64>,
    step: f64,
}

impl Ticks {
    pub fn new((low, high): (f64, f64), count: usize) -> Ticks {
        let rough = (high - low) / count.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|digit| digit * power)
            .into_iter()
            .find(|&step| step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let (first, last) = ((low / step - 1e-6).ceil(), (high / step + 1e-6).floor());
        // A range far from zero may be too small for its numbers to differ.
        let count = if (last - first) <= 100.0 { (last - first).max(0.0) as u32 } else { 0 };
        let values = (0..=count).map(|tick| (first + f64::from(tick)) * step).collect();
        Ticks { values, step }
    }

    /// Ticks of something that is counted.
    pub fn whole(range: (f64, f64), count: usize) -> Ticks {
        let mut ticks = Ticks::new(range, count);
        if ticks.step < 1.0 {
            ticks.step = 1.0;
            let (first, last) = (range.0.ceil(), range.1.floor());
            ticks.values =
                (0..=(last - first).max(0.0) as u32).map(|i| first + f64::from(i)).collect();
        }
        ticks
    }

    /// One of the numbers, with as many digits as tell it from its neighbours.
    pub fn text(&self, value: f64) -> String {
        let largest = self.values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let digits = |unit: f64| (-(self.step / unit).log10() - 1e-9).ceil().max(0.0) as usize;
        if value.abs() < self.step * 1e-6 {
            "0".into()
        } else if largest < 1e-2 {
            let power = largest.log10().floor();
            let unit = 10_f64.powf(power);
            format!("{:.*}e{power}", digits(unit), value / unit)
        } else if largest >= 1e9 {
            format!("{value:e}")
        } else if largest >= 1e6 {
            format!("{:.*}M", digits(1e6), value / 1e6)
        } else if largest >= 1e4 {
            format!("{:.*}k", digits(1e3), value / 1e3)
        } else {
            format!("{value:.*}", digits(1.0))
        }
        .replace('-', "−")
    }
}

/// Where the numbers of a picture are on it.
pub(super) struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Frame {
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.across(x), self.up(y))
    }

    pub fn across(&self, x: f64) -> f64 {
        let share = (x - self.x.0) / (self.x.1 - self.x.0);
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// What is outside is at the edge.
    pub fn up(&self, y: f64) -> f64 {
        let share = (y - self.y.0) / (self.y.1 - self.y.0);
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    /// Lines across with their numbers.
    pub fn draw_y<B: DrawingBackend>(&self, canvas: &mut Canvas<B>, ticks: &Ticks) -> Result<()> {
        for &value in &ticks.values {
            let y = self.up(value);
            canvas.line(&[(self.left, y), (self.right, y)], ink::GRID, 1.0)?;
            let text = ticks.text(value);
            canvas.text(&text, (self.left - 7.0, y), Anchor::Right, SMALL, ink::QUIET)?;
        }
        Ok(())
    }

    /// The axis at the bottom with its numbers and its name.
    pub fn draw_x<B: DrawingBackend>(
        &self,
        canvas: &mut Canvas<B>,
        ticks: &Ticks,
        name: &str,
    ) -> Result<()> {
        canvas.line(&[(self.left, self.bottom), (self.right, self.bottom)], ink::AXIS, 1.0)?;
        for &value in &ticks.values {
            let x = self.across(value);
            canvas.line(&[(x, self.bottom), (x, self.bottom + 4.0)], ink::AXIS, 1.0)?;
            let text = ticks.text(value);
            canvas.text(&text, (x, self.bottom + 13.0), Anchor::Middle, SMALL, ink::QUIET)?;
        }
        let at = ((self.left + self.right) / 2.0, self.bottom + 29.0);
        canvas.text(name, at, Anchor::Middle, SMALL, ink::QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(range: (f64, f64)) -> Vec<String> {
        let ticks = Ticks::new(range, 5);
        ticks.values.iter().map(|&value| ticks.text(value)).collect()
    }

    #[test]
    fn ticks_are_round_and_written_with_the_digits_they_need() {
        assert_eq!(texts((0.0, 1.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts((-1.2, 1.1)), ["−1.0", "−0.5", "0", "0.5", "1.0"]);
        assert_eq!(texts((0.0, 5e-4)), ["0", "1e−4", "2e−4", "3e−4", "4e−4", "5e−4"]);
        assert_eq!(texts((0.0, 1e6)), ["0", "0.2M", "0.4M", "0.6M", "0.8M", "1.0M"]);
        assert_eq!(texts((0.0, 25_000.0)), ["0", "5k", "10k", "15k", "20k", "25k"]);
    }

    #[test]
    fn a_range_too_small_for_its_place_has_few_ticks() {
        assert!(Ticks::new((1e18, 1e18 + 256.0), 5).values.len() <= 101);
    }
}
