//! Whose code computed what counts: a count over provenances.

/// Stages that count, by whether this program's code computed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeCensus {
    pub stored: usize,
    /// Computed by other code.
    pub other: usize,
    /// The code and the start of the newest of those.
    pub newest: Option<(String, u64)>,
}

impl CodeCensus {
    /// Counts a stage that `code` computed, beginning at a moment; `own` is the digest of this program's source.
    pub fn add(&mut self, (code, started_unix_s): (&str, u64), own: &str) {
        self.stored += 1;
        if code == own {
            return;
        }
        self.other += 1;
        let found = (code.to_owned(), started_unix_s);
        if self.newest.as_ref().is_none_or(|(_, started)| *started < found.1) {
            self.newest = Some(found);
        }
    }

    /// What to know of it, in a sentence; nothing where this program's code computed everything.
    pub fn note(&self, now_unix_s: u64) -> Option<String> {
        let (code, started) = self.newest.as_ref()?;
        let CodeCensus { stored, other, .. } = self;
        let (stages, was, version) = match stored {
            1 => ("stage", "was", "its version is the same, so it counts"),
            _ => ("stages", if *other == 1 { "was" } else { "were" }, "their versions are the same, so they count"),
        };
        let code: String = code.chars().take(12).collect();
        Some(format!(
            "{other} of {stored} stored {stages} {was} computed by other code ({code}, {}); {version}; `--code strict` \
             computes again",
            age(now_unix_s.saturating_sub(*started))
        ))
    }
}

/// How long ago, in the largest unit that is whole.
pub fn age(seconds: u64) -> String {
    let ago = |n: u64, unit: &str| format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" });
    match seconds {
        0..60 => "just now".to_owned(),
        60..3_600 => ago(seconds / 60, "minute"),
        3_600..86_400 => ago(seconds / 3_600, "hour"),
        86_400.. => ago(seconds / 86_400, "day"),
    }
}

/// A moment in universal time: `2026-11-24 20:17 UTC`.
///
/// Days to a date by Howard Hinnant's `civil_from_days`: years begin in March, so that leap days end them.
pub fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3_600, second / 60 % 60)
}
