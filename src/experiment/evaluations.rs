//! What evaluations are called, what they measure, and what they do in one line.

use crate::experiment::recipe::{
    Augmentation, Builtin, Classification, Dataset, Evaluation, FineTune, Health, Knn, Layer, LinearProbe, Metric,
    ProbeViews, Robustness, Split, Transfer, Vote,
};
use crate::experiment::run::Run;

/// What kind of question it is, as records and tables spell it.
pub fn kind(evaluation: &Evaluation) -> &'static str {
    match evaluation {
        Evaluation::Knn(_) => "knn",
        Evaluation::LinearProbe(_) => "linear",
        Evaluation::Health(_) => "health",
        Evaluation::Robustness(_) => "robustness",
        Evaluation::Transfer(_) => "transfer",
        Evaluation::FineTune(_) => "finetune",
    }
}

/// The kind, and of a transfer where to and by what: `transfer_cifar100_linear`.
fn subject(evaluation: &Evaluation) -> String {
    let kind = kind(evaluation);
    let Evaluation::Transfer(transfer) = evaluation else { return kind.to_owned() };
    let dataset = match &transfer.dataset {
        Dataset::Builtin(_) => "builtin",
        Dataset::Cifar10 { .. } => "cifar10",
        Dataset::Cifar100 { .. } => "cifar100",
        Dataset::ImageFolder { .. } => "folder",
    };
    let protocol = match transfer.protocol {
        Classification::Knn(_) => "knn",
        Classification::LinearProbe(_) => "linear",
    };
    format!("{kind}_{dataset}_{protocol}")
}

/// The names that results go by, no two alike: `knn`, `linear`. Where evaluations of one kind see several layers, those
/// of other layers than the backbone say theirs: `knn_head1`, `linear_projection`. A point of a grid says its settings:
/// `knn_k20_t0.07`. A transfer says where to and by what:
/// `transfer_cifar100_knn`. A fine-tuning on a share of the labels says which: `finetune_labels0.01`. The second of a name is `knn_2`, and so on.
pub fn evaluation_names(evaluations: &[Evaluation]) -> Vec<String> {
    let subjects: Vec<String> = evaluations.iter().map(subject).collect();
    let stem = |(subject, evaluation): (&String, &Evaluation)| {
        let layer = evaluation.layer();
        let mut same = subjects.iter().zip(evaluations).filter(|(other, _)| *other == subject);
        let says_layer = same.any(|(_, other)| other.layer() != layer);
        let layer = match layer {
            Layer::Head(number) if says_layer => format!("_head{number}"),
            Layer::Projection if says_layer => "_projection".to_owned(),
            Layer::Backbone | Layer::Head(_) | Layer::Projection => String::new(),
        };
        format!("{subject}{layer}{}", settings(evaluation))
    };
    let stems: Vec<String> = subjects.iter().zip(evaluations).map(stem).collect();
    let numbered =
        |(index, stem): (usize, &String)| match stems[..index].iter().filter(|earlier| *earlier == stem).count() {
            0 => stem.clone(),
            earlier => format!("{stem}_{}", earlier + 1),
        };
    stems.iter().enumerate().map(numbered).collect()
}

/// `_k20_t0.07` of a grid's point, `_labels0.01` of a fine-tuning on a share of them; nothing of any other evaluation.
fn settings(evaluation: &Evaluation) -> String {
    match evaluation {
        Evaluation::Knn(knn) => grid_settings(knn),
        Evaluation::FineTune(FineTune { labels, .. }) if *labels != 1.0 => format!("_labels{labels}"),
        Evaluation::FineTune(_)
        | Evaluation::LinearProbe(_)
        | Evaluation::Health(_)
        | Evaluation::Robustness(_)
        | Evaluation::Transfer(_) => String::new(),
    }
}

fn grid_settings(knn: &Knn) -> String {
    let Some(k) = knn.grid_k else { return String::new() };
    let metric = match knn.metric {
        Metric::Cosine => "",
        Metric::Euclidean => "_euclidean",
    };
    let vote = match knn.vote {
        Vote::Weighted => "",
        Vote::Majority => "_majority",
    };
    let temperature = if knn.has_temperature() { format!("_t{}", knn.temperature) } else { String::new() };
    format!("_k{k}{temperature}{metric}{vote}")
}

/// The names of what it measures, for a run with these views.
pub fn metrics(evaluation: &Evaluation, views: &[Augmentation]) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match evaluation {
        Evaluation::Knn(_) | Evaluation::LinearProbe(_) | Evaluation::Transfer(_) | Evaluation::FineTune(_) => {
            named(&["top1", "top5"])
        }
        Evaluation::Health(_) => named(&["rankme", "feature_std", "alignment", "uniformity", "collapsed"]),
        Evaluation::Robustness(_) => {
            let each = augmentation_names(views).into_iter().flatten();
            let each = each.flat_map(|name| [format!("{name}_cosine"), format!("{name}_top1")]);
            ["cosine", "top1"].map(str::to_owned).into_iter().chain(each).collect()
        }
    }
}

/// What each of the views is called: `crop`, `color_jitter`, the second of a kind `crop_2`. Normalisation has no name: it
/// is no augmentation, and evaluations apply it to every image.
pub fn augmentation_names(views: &[Augmentation]) -> Vec<Option<String>> {
    let stem = |view: &Augmentation| match view {
        Augmentation::RandomResizedCrop { .. } => Some("crop"),
        Augmentation::HorizontalFlip { .. } => Some("horizontal_flip"),
        Augmentation::VerticalFlip { .. } => Some("vertical_flip"),
        Augmentation::Rotate90 { .. } => Some("rotate90"),
        Augmentation::Rotate { .. } => Some("rotate"),
        Augmentation::ColorJitter { .. } => Some("color_jitter"),
        Augmentation::Grayscale { .. } => Some("grayscale"),
        Augmentation::GaussianBlur { .. } => Some("gaussian_blur"),
        Augmentation::Solarize { .. } => Some("solarize"),
        Augmentation::Normalize { .. } => None,
    };
    let stems: Vec<Option<&str>> = views.iter().map(stem).collect();
    let name = |(index, found): (usize, &Option<&str>)| {
        let found = (*found)?;
        Some(match stems[..index].iter().filter(|earlier| **earlier == Some(found)).count() {
            0 => found.to_owned(),
            earlier => format!("{found}_{}", earlier + 1),
        })
    };
    stems.iter().enumerate().map(name).collect()
}

/// The names of all that is asked of a run, no two alike: those of the final encoder as in [`evaluation_names`], and of the
/// snapshots `knn@epoch10`, or `knn@step15` within an epoch.
pub fn asked_names(run: &Run) -> Vec<String> {
    let names = evaluation_names(&run.evaluate);
    let of_snapshot = |steps: u64| {
        let kept = names.iter().zip(&run.evaluate).filter(|(_, evaluation)| evaluation.is_of_snapshots());
        kept.map(move |(name, _)| format!("{name}@{}", moment(run, steps, ""))).collect::<Vec<_>>()
    };
    let of_snapshots: Vec<String> = run.snapshots().into_iter().flat_map(of_snapshot).collect();
    [names, of_snapshots].concat()
}

/// The evaluation's name in a name of [`asked_names`].
pub fn without_snapshot(name: &str) -> &str {
    name.split_once('@').map_or(name, |(evaluation, _)| evaluation)
}

/// `epoch10`, or `step15` within an epoch, with `gap` before the number.
fn moment(run: &Run, steps: u64, gap: &str) -> String {
    let per_epoch = run.steps_per_epoch();
    if steps.is_multiple_of(per_epoch) {
        format!("epoch{gap}{}", steps / per_epoch)
    } else {
        format!("step{gap}{steps}")
    }
}

/// Which encoders of a run a number is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// The last, which every run has.
    Final,
    /// The one after so many steps.
    Snapshot(u64),
    /// Of the final one and the snapshots, whichever came out best.
    Best,
}

/// The metrics whose best epoch is looked for.
pub fn metrics_of_best(evaluation: &Evaluation) -> &'static [&'static str] {
    match evaluation {
        Evaluation::Knn(_) | Evaluation::LinearProbe(_) | Evaluation::Transfer(_) => &["top1", "top5"],
        Evaluation::Health(_) | Evaluation::Robustness(_) | Evaluation::FineTune(_) => &[],
    }
}

/// What the best of an evaluation's metrics is called, `top1_best`, and the epoch it was reached at, `top1_best_epoch`.
pub fn best_names(metric: &str) -> [String; 2] {
    [format!("{metric}_best"), format!("{metric}_best_epoch")]
}

/// How the best epoch was chosen. What is chosen on the images that it is then told of comes out too high.
pub fn best_words(run: &Run, evaluation: &Evaluation) -> String {
    let snapshots = run.snapshots();
    let n = snapshots.len() + 1;
    let are_epochs = snapshots.iter().all(|steps| steps.is_multiple_of(run.steps_per_epoch()));
    let what = match (are_epochs, n) {
        (true, 1) => "epoch",
        (true, _) => "epochs",
        (false, _) => "snapshots",
    };
    let images =
        if is_chosen_on_test(run, evaluation) { "on the test images: optimistic" } else { "on the held-out images" };
    format!("best of {n} {what} {images}")
}

/// Whether the best epoch is chosen on the very test images that it is told of. A transfer is asked about the other data's
/// test images, whatever the run's own split is.
pub fn is_chosen_on_test(run: &Run, evaluation: &Evaluation) -> bool {
    matches!(evaluation, Evaluation::Transfer(_)) || run.split == Split::Official
}

/// What the final encoder's evaluation does, in one line: all that a reader must know to compare its numbers with others.
pub fn protocol(run: &Run, evaluation: &Evaluation) -> String {
    protocol_of(run, evaluation, Encoder::Final)
}

/// As [`protocol`], of another encoder.
pub fn protocol_of(run: &Run, evaluation: &Evaluation, encoder: Encoder) -> String {
    let encoder = match encoder {
        Encoder::Final => "final epoch".to_owned(),
        Encoder::Snapshot(steps) => {
            let length = run.train.length_steps;
            let per_epoch = run.steps_per_epoch();
            let are_epochs = steps.is_multiple_of(per_epoch) && length.is_multiple_of(per_epoch);
            let of = if are_epochs { length / per_epoch } else { length };
            let moment = if are_epochs { moment(run, steps, " ") } else { format!("step {steps}") };
            format!("{moment} of {of}")
        }
        Encoder::Best => best_words(run, evaluation),
    };
    let (n_train, n_test) = (run.facts.n_train, run.facts.n_test);
    let split = match run.split {
        Split::Official => "test split".to_owned(),
        Split::HeldOut { fraction, seed } => {
            format!("split held out of the training set ({fraction} of it, seed {seed})")
        }
    };
    let end = format!("{encoder}, {split}");
    match evaluation {
        Evaluation::Knn(knn) => format!("{}, {end}", banked(knn, n_train)),
        Evaluation::LinearProbe(probe) => format!("{}, {end}", linear_probe(probe, n_train)),
        Evaluation::Transfer(transfer) => transferred(transfer, &encoder),
        Evaluation::FineTune(tuning) => format!("{}, {end}", fine_tuning(tuning, n_train)),
        Evaluation::Health(Health { layer, rankme_min, feature_std_min }) => format!(
            "RankMe and standard deviation of {n_test} images without augmentation, alignment and uniformity of two \
             augmented views of each, {}, alarm below RankMe {rankme_min} or deviation {feature_std_min}, {end}",
            self::layer(*layer),
        ),
        Evaluation::Robustness(Robustness { knn }) => format!(
            "each augmentation alone and always applied: cosine to the plain image's features, and {}, {end}",
            banked(knn, n_train),
        ),
    }
}

fn transferred(transfer: &Transfer, encoder: &str) -> String {
    let n_bank = transfer.facts.map_or(0, |facts| facts.n_train);
    let protocol = match &transfer.protocol {
        Classification::Knn(knn) => banked(knn, n_bank),
        Classification::LinearProbe(probe) => linear_probe(probe, n_bank),
    };
    let dataset = match &transfer.dataset {
        Dataset::Builtin(Builtin { n_classes, seed, .. }) => {
            format!("the built-in set of {n_classes} classes and seed {seed}")
        }
        Dataset::Cifar10 { .. } => "CIFAR-10".to_owned(),
        Dataset::Cifar100 { .. } => "CIFAR-100".to_owned(),
        Dataset::ImageFolder { root } => format!("the images in {root}"),
    };
    format!("transfer to {dataset}: {protocol}, {encoder}, test split")
}

fn layer(layer: Layer) -> String {
    match layer {
        Layer::Backbone => "backbone".to_owned(),
        Layer::Head(number) => format!("head layer {number}"),
        Layer::Projection => "projection".to_owned(),
    }
}

fn banked(knn: &Knn, n_bank: u32) -> String {
    format!("{}, {}, bank {n_bank} train images without augmentation", vote(knn), layer(knn.layer))
}

fn vote(knn: &Knn) -> String {
    let metric = match knn.metric {
        Metric::Cosine => "cosine",
        Metric::Euclidean => "euclidean",
    };
    let temperature = if knn.has_temperature() { format!(" T={}", knn.temperature) } else { String::new() };
    let vote = match knn.vote {
        Vote::Weighted => "",
        Vote::Majority => " majority",
    };
    format!("k-NN k={}{temperature} {metric}{vote}", knn.k)
}

fn linear_probe(probe: &LinearProbe, n_train: u32) -> String {
    let LinearProbe { epochs, batch, learning_rate, momentum, weight_decay, seed, layer, augment, labels } = probe;
    let images = learned_from(*labels, *augment, n_train);
    format!(
        "linear probe of {epochs} epochs, SGD batch {batch} rate {learning_rate} momentum {momentum} decay \
         {weight_decay} seed {seed}, {}, {images}",
        self::layer(*layer),
    )
}

fn fine_tuning(tuning: &FineTune, n_train: u32) -> String {
    let FineTune { epochs, batch, learning_rate, momentum, weight_decay, seed, augment, labels } = tuning;
    format!(
        "fine-tuning of {epochs} epochs, encoder and linear classifier, f32 on the processor, SGD batch {batch} rate \
         {learning_rate} Nesterov momentum {momentum} decay {weight_decay} seed {seed}, {}",
        learned_from(*labels, *augment, n_train),
    )
}

/// The images of a probe or a fine-tuning.
fn learned_from(labels: f64, augment: ProbeViews, n_train: u32) -> String {
    let views = match augment {
        ProbeViews::Plain => "without augmentation",
        ProbeViews::CropAndFlip => "cropped and flipped anew every epoch",
    };
    if labels == 1.0 {
        format!("{n_train} train images {views}")
    } else {
        format!("{}% of the labels of {n_train} train images {views}", labels * 100.0)
    }
}
