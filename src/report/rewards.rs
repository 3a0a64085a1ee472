//! Rewards by rank: a histogram for each place in the human order, one below the other.

use std::collections::BTreeMap;

use plotters::backend::DrawingBackend;

use super::axis::{Frame, Ticks};
use super::canvas::{ink, Anchor, Canvas, Picture, Result};
use super::series::{inner_range, widen};

/// Ranks with a histogram of their own; lower ones share the last.
const MOST_RANKS: usize = 8;
const BINS: usize = 44;
const ROW: u32 = 46;
const TOP: u32 = 44;
const BOTTOM: u32 = 44;
/// The share of rewards at either end that stand in the outermost bars.
const OUTLIERS: f64 = 0.002;

/// The rewards of a set, by rank.
#[derive(Clone, Debug, Default)]
pub(super) struct RewardsByRank {
    /// Ranks in order of [`order`].
    ranks: BTreeMap<u64, (f64, Vec<f32>)>,
}

impl RewardsByRank {
    pub fn add(&mut self, rank: f64, reward: f64) {
        if rank.is_finite() && reward.is_finite() {
            self.ranks.entry(order(rank)).or_insert((rank, Vec::new())).1.push(reward as f32);
        }
    }

    /// The picture; `None` if there is nothing to see.
    pub fn picture(&self, title: String) -> Option<Histograms> {
        let all = || self.ranks.values().flat_map(|(_, rewards)| rewards.iter().copied());
        let range = widen(inner_range(all().map(f64::from), OUTLIERS)?, 0.02);
        let mut rows: Vec<Row> = Vec::new();
        let count = self.ranks.len();
        for (index, (rank, rewards)) in self.ranks.values().enumerate() {
            let shared = count > MOST_RANKS && index + 1 >= MOST_RANKS;
            let rank = number(*rank);
            match rows.get_mut(MOST_RANKS - 1).filter(|_| shared) {
                Some(row) => row.rewards.extend(rewards),
                None => rows.push(Row {
                    name: if shared { format!("{rank} and below") } else { format!("rank {rank}") },
                    rewards: rewards.clone(),
                }),
            }
        }
        Some(Histograms { title, range, rows })
    }
}

pub(super) struct Histograms {
    title: String,
    range: (f64, f64),
    rows: Vec<Row>,
}

struct Row {
    name: String,
    rewards: Vec<f32>,
}

impl Row {
    fn mean(&self) -> f64 {
        let sum: f64 = self.rewards.iter().copied().map(f64::from).sum();
        sum / self.rewards.len() as f64
    }

    /// The share of the rewards in each bin.
    fn shares(&self, (low, high): (f64, f64)) -> [f64; BINS] {
        let mut shares = [0.0; BINS];
        for &reward in &self.rewards {
            let place = (f64::from(reward) - low) / (high - low) * BINS as f64;
            shares[(place.max(0.0) as usize).min(BINS - 1)] += 1.0 / self.rewards.len() as f64;
        }
        shares
    }
}

impl Picture for Histograms {
    fn title(&self) -> String {
        self.title.clone()
    }

    fn size(&self) -> (u32, u32) {
        (440, TOP + ROW * self.rows.len() as u32 + BOTTOM)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &mut Canvas<B>) -> Result<()> {
        let (width, height) = self.size();
        canvas.text(&self.title, (12.0, 19.0), Anchor::Left, 15.0, ink::TEXT)?;
        let frame = Frame {
            left: 92.0,
            right: f64::from(width) - 92.0,
            top: f64::from(TOP),
            bottom: f64::from(height - BOTTOM),
            x: self.range,
            y: (0.0, 1.0),
        };
        let ticks = Ticks::new(self.range, 5);
        for &value in &ticks.values {
            let x = frame.across(value);
            canvas.line(&[(x, frame.top), (x, frame.bottom)], ink::GRID, 1.0)?;
        }
        for (index, row) in self.rows.iter().enumerate() {
            let shares = row.shares(self.range);
            let tallest = shares.iter().copied().fold(0.0, f64::max);
            let base = frame.top + f64::from(ROW) * (index as f64 + 1.0);
            let bin = (frame.right - frame.left) / BINS as f64;
            let mut outline = vec![(frame.left, base)];
            for (index, share) in shares.iter().enumerate() {
                let y = base - share / tallest * (f64::from(ROW) - 7.0);
                let x = frame.left + bin * index as f64;
                outline.extend([(x, y), (x + bin, y)]);
            }
            outline.push((frame.right, base));
            canvas.polygon(&outline, ink::FAINT_BLUE)?;
            canvas.line(&outline, ink::BLUE, 1.2)?;
            let mean = frame.across(row.mean());
            let top = base - f64::from(ROW) + 7.0;
            canvas.line(&[(mean, top), (mean, base)], ink::SETS[0], 2.2)?;

            let middle = base - f64::from(ROW) / 2.0;
            canvas.text(&row.name, (12.0, middle + 2.0), Anchor::Left, 12.5, ink::TEXT)?;
            let right = f64::from(width) - 14.0;
            let text = format!("{:.2}", row.mean()).replace('-', "−");
            canvas.text(&text, (right, middle - 5.0), Anchor::Right, 12.5, ink::TEXT)?;
            let text = format!("of {}", row.rewards.len());
            canvas.text(&text, (right, middle + 10.0), Anchor::Right, 11.0, ink::QUIET)?;
        }
        canvas.text("mean", (f64::from(width) - 14.0, 36.0), Anchor::Right, 11.0, ink::QUIET)?;
        frame.draw_x(canvas, &ticks, "reward")
    }
}

/// A number that orders finite ranks as they are.
fn order(rank: f64) -> u64 {
    // −0 and 0 are the same rank.
    let bits = (rank + 0.0).to_bits();
    if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

fn number(rank: f64) -> String {
    let text = format!("{rank:.2}");
    text.trim_end_matches('0').trim_end_matches('.').replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_in_the_order_of_their_numbers() {
        let ranks = [-1e9, -2.0, -0.5, 0.0, 0.5, 1.0, 1.5, 1e9];
        assert!(ranks.windows(2).all(|two| order(two[0]) < order(two[1])));
        assert_eq!(order(0.0), order(-0.0));
    }

    #[test]
    fn the_lowest_ranks_share_a_row_and_no_reward_is_lost() {
        let mut rewards = RewardsByRank::default();
        for rank in 1..=12 {
            for list in 0..5 {
                rewards.add(f64::from(rank), f64::from(list - rank));
            }
        }
        rewards.add(1.0, f64::NAN);
        let picture = rewards.picture("Rewards".into()).unwrap();
        assert_eq!(picture.rows.len(), MOST_RANKS);
        assert_eq!(picture.rows[7].name, "8 and below");
        assert_eq!(picture.rows.iter().map(|row| row.rewards.len()).sum::<usize>(), 60);
        for row in &picture.rows {
            assert!((row.shares(picture.range).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
