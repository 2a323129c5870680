//! How a table is asked for: its metric and layout, which cells it shows, what they are compared with.

use crate::experiment::problem::{nearest, quoted};
use crate::experiment::{AxisLabel, Experiment};
use crate::report::ReportError;
use crate::report::statistics::IntervalMethod;

/// One look at the results of an experiment. [`View::of`] is the file's own.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// `knn.top1`.
    pub metric: String,
    /// Paths of the axes that span the rows; an axis that stands nowhere is added to them.
    pub rows: Vec<String>,
    /// Paths of the axes that span the columns.
    pub columns: Vec<String>,
    /// Cells with other labels are left out; several labels of one path are alternatives. An axis with a single label left
    /// is named below the table instead of beside every cell.
    pub only: Vec<AxisLabel>,
    /// Shows only so many rows, those with the best means, and the baseline's. Comparisons are corrected for all the same.
    pub best: Option<usize>,
    /// The first cell that has these labels is what the others are compared with. `None` takes the file's, or the first
    /// cell shown where the file's is not shown.
    pub baseline: Option<Vec<AxisLabel>>,
    pub interval: IntervalMethod,
    /// What stands behind every mean.
    pub spread: Spread,
}

/// How far the seeds of a cell lie apart, in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// ± the standard deviation of the sample.
    Deviation,
    /// The interval of the mean.
    Interval,
}

impl View {
    pub fn of(experiment: &Experiment) -> View {
        View {
            metric: experiment.table.metric.clone(),
            rows: experiment.table.rows.clone(),
            columns: experiment.table.columns.clone(),
            only: Vec::new(),
            best: None,
            baseline: None,
            interval: IntervalMethod::default(),
            spread: Spread::Deviation,
        }
    }

    /// Lays the table out anew: what is not given takes the axes that the other leaves.
    pub fn lay_out(&mut self, experiment: &Experiment, rows: Option<Vec<String>>, columns: Option<Vec<String>>) {
        let rest = |taken: &[String]| {
            let paths = experiment.axes.iter().map(|axis| axis.path.clone());
            paths.filter(|path| !taken.contains(path)).collect()
        };
        (self.rows, self.columns) = match (rows, columns) {
            (None, None) => return,
            (Some(rows), None) => (rows.clone(), rest(&rows)),
            (None, Some(columns)) => (rest(&columns), columns),
            (Some(rows), Some(columns)) => (rows, columns),
        };
    }

    /// # Errors
    /// On paths and labels that the experiment does not have, and on an axis that stands in the table twice.
    pub fn check(&self, experiment: &Experiment) -> Result<(), ReportError> {
        let paths: Vec<&str> = experiment.axes.iter().map(|axis| axis.path.as_str()).collect();
        let mut seen: Vec<&str> = Vec::new();
        for path in self.rows.iter().chain(&self.columns) {
            known("is not swept", path, &paths)?;
            if seen.contains(&path.as_str()) {
                let problem = format!("`{path}` stands in the table twice; expected every axis once");
                return Err(ReportError::View(problem));
            }
            seen.push(path);
        }
        for AxisLabel { path, label } in self.only.iter().chain(self.baseline.iter().flatten()) {
            known("is not swept", path, &paths)?;
            let axis = experiment.axes.iter().find(|axis| axis.path == *path);
            let labels: Vec<&str> = axis.iter().flat_map(|axis| &axis.labels).map(String::as_str).collect();
            known(&format!("is no label of `{path}`"), label, &labels)?;
        }
        Ok(())
    }

    /// The cells that are shown, by their index.
    ///
    /// # Errors
    /// When there are none.
    pub fn selected(&self, experiment: &Experiment) -> Result<Vec<usize>, ReportError> {
        let is_shown = |&cell: &usize| {
            self.only.iter().all(|AxisLabel { path, .. }| {
                let mut of_path = self.only.iter().filter(|other| other.path == *path);
                of_path.any(|wanted| experiment.has_label(cell, wanted))
            })
        };
        let shown: Vec<usize> = (0..experiment.cells.len()).filter(is_shown).collect();
        if shown.is_empty() && !experiment.cells.is_empty() {
            return Err(ReportError::View(format!("no cell has {}", listed(&self.only))));
        }
        Ok(shown)
    }

    /// Which of the cells shown the others are compared with.
    ///
    /// # Errors
    /// When the one that was asked for is not among them.
    pub fn baseline_of(&self, experiment: &Experiment, shown: &[usize]) -> Result<Option<usize>, ReportError> {
        let first_with = |labels: &[AxisLabel]| {
            let has_all = |cell: &&usize| labels.iter().all(|label| experiment.has_label(**cell, label));
            shown.iter().find(has_all).copied()
        };
        match &self.baseline {
            None => Ok(first_with(&experiment.table.baseline).or(shown.first().copied())),
            Some(labels) => match first_with(labels) {
                Some(cell) => Ok(Some(cell)),
                None => Err(ReportError::View(format!(
                    "no cell of the table has {}, the baseline's labels",
                    listed(labels)
                ))),
            },
        }
    }

    /// The axes that the filter leaves a single label of, with it.
    pub fn fixed(&self, experiment: &Experiment, shown: &[usize]) -> Vec<AxisLabel> {
        let fixed = experiment.axes.iter().enumerate().filter_map(|(index, axis)| {
            self.only.iter().find(|only| only.path == axis.path)?;
            let label = experiment.cells[*shown.first()?].labels.get(index)?;
            let is_single = shown.iter().all(|cell| experiment.cells[*cell].labels.get(index) == Some(label));
            is_single.then(|| AxisLabel { path: axis.path.clone(), label: label.clone() })
        });
        fixed.collect()
    }
}

/// `train.batch = 64, views = crop`.
pub fn listed(labels: &[AxisLabel]) -> String {
    labels.iter().map(|AxisLabel { path, label }| format!("{path} = {label}")).collect::<Vec<_>>().join(", ")
}

fn known(what: &str, found: &str, known: &[&str]) -> Result<(), ReportError> {
    if known.contains(&found) {
        return Ok(());
    }
    let expected =
        if known.is_empty() { "no axis: there is no sweep".to_owned() } else { format!("one of {}", quoted(known)) };
    let hint = nearest(found, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    Err(ReportError::View(format!("`{found}` {what}; expected {expected}{hint}")))
}

#[cfg(test)]
mod tests;
