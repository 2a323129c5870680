//! From numbers to places on a figure, and the round numbers to mark on the way.

/// Marks of an axis, about so many.
const TICKS: f64 = 7.0;
/// Positive numbers further apart than this are told apart by their logarithm.
const LOGARITHMIC_FROM: f64 = 30.0;

/// A range of numbers spread over pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    /// Pixels of `low` and of `high`.
    from: f64,
    to: f64,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Linear,
    /// To the base of 10; only of positive numbers.
    Logarithmic,
}

/// A marked number: where, and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub text: String,
}

impl Scale {
    /// A linear scale that holds all finite `values`, a little wider than they reach; of none, from 0 to 1.
    pub fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Scale {
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        let margin = if high > low { 0.04 * (high - low) } else { 0.05 * high.abs().max(0.1) };
        Scale { low: low - margin, high: high + margin, from, to, form: Form::Linear }
    }

    /// As [`Scale::linear`] of values that begin at a place of their own, steps for one: no margin.
    pub fn exact(low: f64, high: f64, from: f64, to: f64) -> Scale {
        let high = if high > low { high } else { low + 1.0 };
        Scale { low, high, from, to, form: Form::Linear }
    }

    /// As [`Scale::linear`], or logarithmic where positive values lie orders of magnitude apart.
    pub fn of_costs(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Scale {
        match extent(values.clone()) {
            Some((low, high)) if low > 0.0 && high / low > LOGARITHMIC_FROM => {
                Scale { low: low / 1.15, high: high * 1.15, from, to, form: Form::Logarithmic }
            }
            Some(_) | None => Scale::linear(values, from, to),
        }
    }

    /// Pixels of a number; beyond the ends for numbers beyond the range.
    pub fn place(&self, value: f64) -> f64 {
        let share = match self.form {
            Form::Linear => (value - self.low) / (self.high - self.low),
            Form::Logarithmic => libm::log(value / self.low) / libm::log(self.high / self.low),
        };
        self.from + share * (self.to - self.from)
    }

    /// Round numbers within the range, ascending.
    pub fn ticks(&self) -> Vec<Tick> {
        let numbers = match self.form {
            Form::Linear => multiples(self.low, self.high),
            Form::Logarithmic => steps_of_decades(self.low, self.high),
        };
        let digits = numbers.windows(2).map(|pair| decimals(pair[1] - pair[0])).max().unwrap_or(2);
        let text = |number: f64| match self.form {
            Form::Linear => signed(format!("{number:.digits$}")),
            Form::Logarithmic => format!("{number}"),
        };
        numbers.into_iter().map(|number| Tick { at: self.place(number), text: text(number) }).collect()
    }
}

/// The smallest and the largest of the finite values.
pub fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// A number with the minus sign of print, and zero without one.
fn signed(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn multiples(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / TICKS;
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = (libm::ceil(low / step), libm::floor(high / step));
    if !(step.is_finite() && step > 0.0 && last - first < 100.0) {
        return Vec::new();
    }
    (0..=(last - first).max(0.0) as u32).map(|n| (first + f64::from(n)) * step).collect()
}

/// 1, 2 and 5 of every decade; powers of ten alone where that is too many.
fn steps_of_decades(low: f64, high: f64) -> Vec<f64> {
    let decades = libm::floor(libm::log10(low)) as i32..=libm::ceil(libm::log10(high)) as i32;
    let factors: &[f64] = if libm::log10(high / low) > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    // Parsed, not multiplied: 0.1 and not 0.1000…01.
    let number = |exponent: i32, factor: f64| format!("{factor}e{exponent}").parse::<f64>().unwrap_or(f64::NAN);
    let all = decades.flat_map(|exponent| factors.iter().map(move |factor| number(exponent, *factor)));
    all.filter(|number| (low..=high).contains(number)).collect()
}

fn decimals(step: f64) -> usize {
    (0..6).find(|digits| step >= 0.95 * libm::pow(10.0, -f64::from(*digits))).unwrap_or(6) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|tick| tick.text).collect()
    }

    #[test]
    fn ends_go_to_the_pixels_they_were_given() {
        let scale = Scale::exact(0.0, 200.0, 50.0, 350.0);
        assert_eq!([0.0, 100.0, 200.0].map(|step| scale.place(step)), [50.0, 200.0, 350.0]);
        let upward = Scale::exact(0.0, 1.0, 200.0, 0.0);
        assert_eq!([0.0, 0.25, 1.0].map(|value| upward.place(value)), [200.0, 150.0, 0.0]);
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(texts(&Scale::exact(0.0, 100.0, 0.0, 1.0)), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(texts(&Scale::exact(-0.5, 0.51, 0.0, 1.0)), ["−0.4", "−0.2", "0.0", "0.2", "0.4"]);
        assert_eq!(texts(&Scale::exact(61.02, 61.09, 0.0, 1.0)), ["61.02", "61.04", "61.06", "61.08"]);
        let costs = Scale::of_costs([2.0, 900.0].into_iter(), 0.0, 100.0);
        assert_eq!(texts(&costs), ["2", "5", "10", "20", "50", "100", "200", "500", "1000"]);
        let wide = Scale::of_costs([0.02, 90_000.0].into_iter(), 0.0, 100.0);
        assert_eq!(texts(&wide), ["0.1", "1", "10", "100", "1000", "10000", "100000"]);
    }

    #[test]
    fn no_numbers_break_a_scale() {
        let rows: [&[f64]; 5] = [&[], &[f64::NAN], &[7.0], &[0.0, 0.0], &[f64::INFINITY, 1e300, -1e300]];
        for values in rows {
            for scale in
                [Scale::linear(values.iter().copied(), 0.0, 100.0), Scale::of_costs(values.iter().copied(), 0.0, 100.0)]
            {
                assert!(scale.ticks().iter().all(|tick| tick.at.is_finite()), "{values:?}");
                let finite = values.iter().filter(|value| value.is_finite());
                assert!(finite.clone().all(|value| (0.0..=100.0).contains(&scale.place(*value))), "{values:?}");
            }
        }
    }
}
