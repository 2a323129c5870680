//! What evaluations are called, what they measure, and what they do in one line.

use crate::experiment::recipe::{
    Augmentation, Evaluation, Health, Knn, Layer, LinearProbe, Metric, ProbeViews, Robustness, Split, Vote,
};
use crate::experiment::run::Run;

/// What kind of question it is, as records and tables spell it.
pub fn kind(evaluation: &Evaluation) -> &'static str {
    match evaluation {
        Evaluation::Knn(_) => "knn",
        Evaluation::LinearProbe(_) => "linear",
        Evaluation::Health(_) => "health",
        Evaluation::Robustness(_) => "robustness",
    }
}

/// The names that results go by, no two alike: `knn`, `linear`. Where evaluations of one kind see several layers, those
/// of other layers than the backbone say theirs: `knn_head1`, `linear_projection`. A point of a grid says its settings:
/// `knn_k20_t0.07`. The second of a name is `knn_2`, and so on.
pub fn evaluation_names(evaluations: &[Evaluation]) -> Vec<String> {
    let layers_of = |kind_of: &str| {
        let same = evaluations.iter().filter(|evaluation| kind(evaluation) == kind_of);
        same.map(Evaluation::layer).collect::<Vec<Layer>>()
    };
    let stem = |evaluation: &Evaluation| {
        let kind = kind(evaluation);
        let layer = evaluation.layer();
        let says_layer = layers_of(kind).iter().any(|other| *other != layer);
        let layer = match layer {
            Layer::Head(number) if says_layer => format!("_head{number}"),
            Layer::Projection if says_layer => "_projection".to_owned(),
            Layer::Backbone | Layer::Head(_) | Layer::Projection => String::new(),
        };
        format!("{kind}{layer}{}", settings(evaluation))
    };
    let stems: Vec<String> = evaluations.iter().map(stem).collect();
    let numbered =
        |(index, stem): (usize, &String)| match stems[..index].iter().filter(|earlier| *earlier == stem).count() {
            0 => stem.clone(),
            earlier => format!("{stem}_{}", earlier + 1),
        };
    stems.iter().enumerate().map(numbered).collect()
}

/// `_k20_t0.07` of a grid's point; nothing of any other evaluation.
fn settings(evaluation: &Evaluation) -> String {
    let Evaluation::Knn(knn) = evaluation else { return String::new() };
    if !knn.of_grid {
        return String::new();
    }
    let metric = match knn.metric {
        Metric::Cosine => "",
        Metric::Euclidean => "_euclidean",
    };
    let vote = match knn.vote {
        Vote::Weighted => "",
        Vote::Majority => "_majority",
    };
    let temperature = if knn.has_temperature() { format!("_t{}", knn.temperature) } else { String::new() };
    format!("_k{}{temperature}{metric}{vote}", knn.k)
}

/// The names of what it measures, for a run with these views.
pub fn metrics(evaluation: &Evaluation, views: &[Augmentation]) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match evaluation {
        Evaluation::Knn(_) | Evaluation::LinearProbe(_) => named(&["top1", "top5"]),
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

/// What an evaluation of `run` does, in one line: all that a reader must know to compare its numbers with others.
pub fn protocol(run: &Run, evaluation: &Evaluation) -> String {
    let (n_train, n_test) = (run.facts.n_train, run.facts.n_test);
    let split = match run.split {
        Split::Official => "test split".to_owned(),
        Split::HeldOut { fraction, seed } => {
            format!("split held out of the training set ({fraction} of it, seed {seed})")
        }
    };
    let end = format!("final epoch, {split}");
    match evaluation {
        Evaluation::Knn(knn) => {
            let layer = layer(knn.layer);
            format!("{}, {layer}, bank {n_train} train images without augmentation, {end}", vote(knn))
        }
        Evaluation::LinearProbe(probe) => format!("{}, {end}", linear_probe(probe, n_train)),
        Evaluation::Health(Health { layer, rankme_min, feature_std_min }) => format!(
            "RankMe and standard deviation of {n_test} images without augmentation, alignment and uniformity of two \
             augmented views of each, {}, alarm below RankMe {rankme_min} or deviation {feature_std_min}, {end}",
            self::layer(*layer),
        ),
        Evaluation::Robustness(Robustness { knn }) => format!(
            "each augmentation alone and always applied: cosine to the plain image's features, and {}, {}, bank {n_train} \
             train images without augmentation, {end}",
            vote(knn),
            layer(knn.layer),
        ),
    }
}

fn layer(layer: Layer) -> String {
    match layer {
        Layer::Backbone => "backbone".to_owned(),
        Layer::Head(number) => format!("head layer {number}"),
        Layer::Projection => "projection".to_owned(),
    }
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
    let views = match augment {
        ProbeViews::Plain => "without augmentation",
        ProbeViews::CropAndFlip => "cropped and flipped anew every epoch",
    };
    let images = if *labels == 1.0 {
        format!("{n_train} train images")
    } else {
        format!("{}% of the labels of {n_train} train images", labels * 100.0)
    };
    format!(
        "linear probe of {epochs} epochs, SGD batch {batch} rate {learning_rate} momentum {momentum} decay \
         {weight_decay} seed {seed}, {}, {images} {views}",
        self::layer(*layer),
    )
}
