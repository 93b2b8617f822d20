//! Medians, spreads and ratios. A noisy machine slows neighbours in time alike, so ratios are taken round by round.

use serde::{Deserialize, Serialize};

/// A figure with how far its rounds lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median of the rounds.
    pub median: f64,
    /// The lowest round.
    pub min: f64,
    /// The highest round.
    pub max: f64,
}

impl Spread {
    /// Of these rounds; `None` if there are none.
    #[must_use]
    pub fn of(rounds: &[f64]) -> Option<Self> {
        let median = quantile(rounds, 0.5)?;
        let min = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let max = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { median, min, max })
    }

    /// Of the ratio `a ÷ b`, round by round; `None` if there are none, or if the rounds do not pair.
    #[must_use]
    pub fn of_ratio(a: &[f64], b: &[f64]) -> Option<Self> {
        if a.len() != b.len() {
            return None;
        }
        let ratios: Vec<f64> = a.iter().zip(b).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }

    /// One value that was measured once.
    #[must_use]
    pub const fn exactly(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }
}

/// How far the same cost lies apart in several places, of which each has its rounds: that with the largest median ÷ that with the
/// smallest, round by round. (Not the largest of each round: that would call noise a difference.)
#[must_use]
pub fn largest_to_smallest(places: &[Vec<f64>]) -> Option<Spread> {
    let median = |rounds: &&Vec<f64>| quantile(rounds, 0.5).unwrap_or(0.0);
    let by_median = |a: &&Vec<f64>, b: &&Vec<f64>| median(a).total_cmp(&median(b));
    Spread::of_ratio(places.iter().max_by(by_median)?, places.iter().min_by(by_median)?)
}

/// The value below which the share `q` (0 to 1) of `values` lies, between two of them linearly; `None` of nothing.
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    let part = place - place.floor();
    Some(sorted[low] * (1.0 - part) + sorted[high] * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, 2.0], 1.0), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.0), Some(1.0));
    }

    #[test]
    fn a_spread_names_the_extremes() {
        let spread = Spread::of(&[5.0, 1.0, 9.0]).unwrap_or(Spread::exactly(0.0));
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 5.0, 9.0));
    }

    #[test]
    fn the_largest_place_is_compared_with_the_smallest_round_by_round() {
        let places = [vec![3.0, 30.0, 3.0], vec![2.0, 20.0, 2.0], vec![2.5, 24.0, 2.4]];
        assert_eq!(largest_to_smallest(&places), Some(Spread::exactly(1.5)));
        assert_eq!(largest_to_smallest(&places[..1]), Some(Spread::exactly(1.0)));
        assert_eq!(largest_to_smallest(&[]), None);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        // Half as fast in both rounds, though the machine was ten times slower in the second.
        let spread = Spread::of_ratio(&[50.0, 5.0], &[100.0, 10.0]);
        assert_eq!(spread, Some(Spread::exactly(0.5)));
        assert_eq!(Spread::of_ratio(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(Spread::of_ratio(&[1.0, 1.0], &[0.0, 2.0]), Some(Spread::exactly(0.5)));
    }
}
