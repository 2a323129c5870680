//! The linear probe of a run: on all labels or a few, on images as they are or augmented anew every epoch.

use std::borrow::Cow;

use crate::evaluate::answer::AnswerError;
use crate::evaluate::asking::Asking;
use crate::evaluate::linear_probe::augmented;
use crate::evaluate::{Features, Outcome, check_pair, few_labels, outcome};
use crate::experiment::recipe::{Augmentation, Classification, Filter, LinearProbe, ProbeViews};
use crate::views::view;

/// The augmentation of the SimCLR paper, appendix B.6, and of Lightly's linear protocol: torchvision's default crop, a flip.
pub(super) const CROP_AND_FLIP: [Augmentation; 2] = [
    Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0), filter: Filter::Bilinear },
    Augmentation::HorizontalFlip { p: 0.5 },
];

/// Trains on the bank and tells the queries apart; none when asked to leave.
///
/// Few labels make a smaller bank, which is all that features are standardised by; a batch beyond it is cut to it, and the
/// rate is that of the batch as cut.
pub fn probed(
    asking: &mut Asking,
    probe: &LinearProbe,
    bank: &Features,
    queries: &Features,
) -> Result<Option<Outcome>, AnswerError> {
    let n_classes = asking.n_classes();
    check_pair(bank, queries, n_classes)?;
    let examples = examples(&bank.labels, n_classes, probe);
    let bank = chosen(bank, &examples);
    let probe = LinearProbe { batch: probe.batch.min(examples.len() as u32), ..*probe };
    match probe.augment {
        ProbeViews::Plain => Ok(Some(asking.told_apart(&Classification::LinearProbe(probe), &bank, queries)?)),
        ProbeViews::CropAndFlip => {
            let pipeline = asking.pipeline(&CROP_AND_FLIP, probe.seed);
            let (pool, train) = (asking.pool, &asking.dataset.train);
            let of_epoch = &mut |epoch| asking.of_views(train, &examples, &pipeline, (epoch, view::PROBE));
            let rankings = augmented::classify(&bank, queries, n_classes, &probe, pool, of_epoch)?;
            Ok(rankings.map(|rankings| outcome(&rankings, &queries.labels, n_classes as usize)))
        }
    }
}

/// The images whose labels may be used.
fn examples(labels: &[u32], n_classes: u32, probe: &LinearProbe) -> Vec<u32> {
    if probe.labels == 1.0 {
        return (0..labels.len() as u32).collect();
    }
    few_labels::chosen(labels, n_classes, probe.labels, probe.seed)
}

fn chosen<'f>(bank: &'f Features, rows: &[u32]) -> Cow<'f, Features> {
    if rows.len() == bank.len() {
        return Cow::Borrowed(bank);
    }
    let values = rows.iter().flat_map(|&row| &bank.values[row as usize * bank.width..][..bank.width]).copied();
    let labels = rows.iter().map(|&row| bank.labels[row as usize]);
    Cow::Owned(Features { values: values.collect(), width: bank.width, labels: labels.collect() })
}
