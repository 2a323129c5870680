//! The classes of one query, best first.

/// How many classes a ranking keeps.
pub const RANKED: usize = 5;

/// The first min(5, classes) classes by falling score; of equal scores the lower class comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranking {
    classes: [u16; RANKED],
    len: usize,
}

impl Ranking {
    /// Of one score a class.
    pub fn of_scores<S: PartialOrd + Copy>(scores: &[S]) -> Ranking {
        let mut ranking = Ranking { classes: [0; RANKED], len: 0 };
        for class in 0..scores.len() {
            ranking.insert(class, scores);
        }
        ranking
    }

    /// Best first.
    pub fn classes(&self) -> &[u16] {
        &self.classes[..self.len]
    }

    /// The best class.
    pub fn first(&self) -> u16 {
        self.classes[0]
    }

    fn insert<S: PartialOrd>(&mut self, class: usize, scores: &[S]) {
        let better = self.classes().iter().take_while(|&&ranked| scores[usize::from(ranked)] >= scores[class]).count();
        if better == RANKED {
            return;
        }
        self.len = RANKED.min(self.len + 1);
        self.classes[better..self.len].rotate_right(1);
        self.classes[better] = class as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_first_and_lower_classes_before_equal_ones() {
        let check = |scores: &[f64], expected: &[u16]| {
            assert_eq!(Ranking::of_scores(scores).classes(), expected, "{scores:?}");
        };
        check(&[0.5], &[0]);
        check(&[1.0, 3.0, 2.0], &[1, 2, 0]);
        check(&[0.0; 7], &[0, 1, 2, 3, 4]);
        check(&[0.0, 1.0, 0.0, 1.0, 2.0, 9.0, 0.0, 1.0], &[5, 4, 1, 3, 7]);
        check(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 10.0], &[6, 0, 1, 2, 3]);
    }
}
