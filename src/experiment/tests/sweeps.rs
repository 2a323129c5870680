//! Expansion: order, labels, zips, overrides, limits, smoke and the table.

use super::{facts, first_run, loaded, options, sound};
use crate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, Dataset, DecayScope, Evaluation, Filter, Head, Knn, LearningRate,
    Metric, Numerics, Optimizer, Scaling, Schedule, Split, Stem, WarmupForm,
};
use crate::experiment::run::Run;
use crate::experiment::{AxisLabel, Experiment, LoadOptions, evaluation_names, load};

fn cifar(fields: &str) -> String {
    format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {fields})")
}

fn labels(experiment: &Experiment) -> Vec<String> {
    experiment.cells.iter().map(|cell| cell.labels.join(" | ")).collect()
}

#[test]
fn without_a_sweep_there_is_one_cell() {
    let experiment = sound(&cifar(""));
    assert_eq!((experiment.name.as_str(), experiment.axes.len(), experiment.cells.len()), ("x", 0, 1));
    assert_eq!(experiment.seeds, [0, 1, 2]);
    let seeds: Vec<u64> = experiment.cells[0].runs.iter().map(|run| run.seed).collect();
    assert_eq!(seeds, [0, 1, 2]);
    assert!(experiment.table.rows.is_empty() && experiment.table.columns.is_empty());
}

#[test]
fn the_last_axis_is_the_fastest_and_labels_are_the_text() {
    let experiment = sound(&cifar(
        "sweep: [Axis(\"train.batch\", [64, 0x80]), Axis(\"train.learning_rate.scaling\", [Linear( per : /* one */ 256, ), Sqrt])]",
    ));
    assert_eq!(labels(&experiment), ["64 | Linear(per: 256)", "64 | Sqrt", "0x80 | Linear(per: 256)", "0x80 | Sqrt"]);
    let batches: Vec<u32> = experiment.cells.iter().map(|cell| cell.runs[0].train.batch).collect();
    assert_eq!(batches, [64, 64, 128, 128]);
    assert_eq!(experiment.cells[1].runs[2].train.learning_rate, LearningRate { base: 0.06, scaling: Scaling::Sqrt });
    assert_eq!(experiment.table.rows, ["train.batch", "train.learning_rate.scaling"]);
}

#[test]
fn zipped_axes_move_together_and_variants_have_names() {
    let experiment = sound(&cifar(
        "sweep: [
            Zip([Axis(\"train.batch\", [64, 128]), Axis(\"train.temperature\", [0.1, 0.5])]),
            Variants(\"model.head\", {\"none\": None, \"deep\": Mlp(layers: 3)}),
        ], table: (columns: \"model.head\")",
    ));
    assert_eq!(labels(&experiment), ["64 | 0.1 | none", "64 | 0.1 | deep", "128 | 0.5 | none", "128 | 0.5 | deep"]);
    assert_eq!(experiment.cells[2].runs[0].model.head, Head::None);
    assert_eq!(experiment.table.rows, ["train.batch", "train.temperature"]);
    assert_eq!(experiment.table.columns, ["model.head"]);
}

#[test]
fn a_baseline_is_told_by_its_labels() {
    let check = |baseline: &str, expected: &[(&str, &str)]| {
        let text = cifar(&format!(
            "sweep: [
                Zip([Axis(\"train.batch\", [64, 0x80]), Axis(\"train.temperature\", [0.1, 0.5])]),
                Variants(\"model.head\", {{\"none\": None, \"deep\": Mlp(layers: 3)}}),
            ], table: (rows: [\"train.batch\", \"train.temperature\"]{baseline})"
        ));
        let pair = |label: &AxisLabel| (label.path.clone(), label.label.clone());
        let found: Vec<(String, String)> = sound(&text).table.baseline.iter().map(pair).collect();
        let expected: Vec<(String, String)> =
            expected.iter().map(|(path, label)| ((*path).to_owned(), (*label).to_owned())).collect();
        assert_eq!(found, expected);
    };
    check("", &[]);
    check(", baseline: {}", &[]);
    check(", baseline: {\"train.batch\": 0x80}", &[("train.batch", "0x80")]);
    check(
        ", baseline: {\"model.head\": \"deep\", \"train.temperature\": 0.5}",
        &[("model.head", "deep"), ("train.temperature", "0.5")],
    );
    let of_texts = sound(&cifar(
        "sweep: [Zip([Axis(\"dataset.root\", [\"a\", \"b\"]), Axis(\"train.batch\", [64, 128])])],
         table: (baseline: {\"dataset.root\": \"b\"})",
    ));
    let [baseline] = &of_texts.table.baseline[..] else { panic!("one label") };
    assert_eq!(baseline.label, "\"b\"", "the text of a value keeps its quotes");
    assert!(of_texts.has_label(1, baseline) && !of_texts.has_label(0, baseline));
    let alone = cifar("sweep: [Axis(\"train.batch\", [64, 128])], table: (baseline: {\"train.batch\": 128})");
    let alone = load("x.ron", &alone, &LoadOptions { ignore_sweep: true, ..options(&[]) });
    assert_eq!(alone.map(|experiment| experiment.table.baseline), Ok(Vec::new()));
}

#[test]
fn an_axis_reaches_into_lists_and_variants_and_inserts_what_is_left_out() {
    let experiment = sound(&cifar(
        "evaluate: [Knn, Knn(k: 5)], views: [RandomResizedCrop, ColorJitter(strength: 1.0)],
         train: (learning_rate: 0.3, schedule: WarmupCosine),
         sweep: [
            Axis(\"evaluate[1].k\", [1, 3]),
            Axis(\"views[1].strength\", [0.25, 0.5]),
            Axis(\"train.schedule.warmup\", [Epochs(1)]),
            Axis(\"train.learning_rate.scaling\", [Linear(per: 128)]),
            Axis(\"split\", [HeldOut(fraction: 0.5)]),
         ]",
    ));
    let last = &experiment.cells[3].runs[0];
    assert!(matches!(last.evaluate[1], Evaluation::Knn(Knn { k: 3, .. })));
    assert_eq!(last.split, Split::HeldOut { fraction: 0.5, seed: 0 });
    assert_eq!(last.train.learning_rate, LearningRate { base: 0.3, scaling: Scaling::Linear { per: 128 } });
    let expected = Schedule::WarmupCosine { warmup_steps: 25_000 / 256, form: WarmupForm::Google };
    assert_eq!(last.train.schedule, expected);
    assert_eq!(last.facts.n_train, 25_000);
}

#[test]
fn overrides_replace_what_the_file_says_before_the_sweep() {
    let text = cifar("train: (batch: 64), sweep: [Axis(\"train.temperature\", [0.1, 0.5])]");
    let overrides = ["train.batch=512", " seeds = [7] ", "evaluate=[Knn(k: 20)]", "evaluate[0].metric=Euclidean"];
    let overrides = overrides.map(str::to_owned);
    let experiment = load("a/b.c.ron", &text, &options(&overrides)).unwrap_or_else(|problems| panic!("{problems}"));
    let run = &experiment.cells[1].runs[0];
    assert_eq!((experiment.name.as_str(), run.train.batch, run.seed), ("b.c", 512, 7));
    let knn = Knn { k: 20, temperature: 0.1, metric: Metric::Euclidean, ..Knn::DEFAULT };
    assert_eq!(run.evaluate, [Evaluation::Knn(knn)]);
    assert_eq!(experiment.cells.len(), 2);
}

#[test]
fn the_recipe_alone_is_one_cell() {
    let text = cifar("sweep: [Axis(\"train.batch\", [64, 128])], table: (rows: \"train.batch\")");
    let options = LoadOptions { ignore_sweep: true, data_root: Some("elsewhere"), ..options(&[]) };
    let experiment = load("x.ron", &text, &options).unwrap_or_else(|problems| panic!("{problems}"));
    let run = &experiment.cells[0].runs[0];
    assert_eq!((experiment.cells.len(), experiment.axes.len(), run.train.batch), (1, 0, 256));
    assert_eq!(run.dataset, Dataset::Cifar10 { root: "elsewhere".to_owned() });
    assert!(experiment.table.rows.is_empty());
}

#[test]
fn numerics_follow_the_backend() {
    let check = |numerics: &str, backend, expected: Option<Numerics>| {
        let text = cifar(&format!("train: (numerics: {numerics})"));
        let loaded = load("x.ron", &text, &LoadOptions { backend, ..options(&[]) });
        assert_eq!(loaded.ok().map(|experiment| experiment.cells[0].runs[0].train.numerics), expected, "{numerics}");
    };
    check("Native", Backend::Cpu, Some(Numerics::F32));
    check("Native", Backend::Reference, Some(Numerics::F32));
    check("Native", Backend::Cuda, Some(Numerics::Bf16));
    check("F32", Backend::Cuda, Some(Numerics::F32));
    check("Bf16", Backend::Cuda, Some(Numerics::Bf16));
    check("Bf16", Backend::Cpu, None);
}

#[test]
fn smoke_shrinks_everything_and_says_so() {
    let text = cifar(
        "train: (length: Epochs(100), batch: 1024, schedule: WarmupCosine(warmup: Epochs(10))),
         evaluate: [Knn(k: 5000), LinearProbe(batch: 8192)], split: HeldOut(fraction: 0.1),
         sweep: [Axis(\"train.batch\", [64, 128, 1024])]",
    );
    let asked = std::cell::RefCell::new(Vec::new());
    let watched = |dataset: &Dataset, split: Split| {
        asked.borrow_mut().push(dataset.clone());
        facts(dataset, split)
    };
    let options = LoadOptions { smoke: true, facts: &watched, ..options(&[]) };
    let experiment = load("x.ron", &text, &options).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(experiment.smoke && experiment.seeds == [0, 1]);
    let batches: Vec<u32> = experiment.cells.iter().map(|cell| cell.runs[0].train.batch).collect();
    assert_eq!(batches, [4, 8, 64]);
    for run in experiment.cells.iter().flat_map(|cell| &cell.runs) {
        assert!(run.smoke && run.split == Split::Official && run.facts.n_train == 200);
        assert_eq!(run.train.length_steps, 3);
        assert_eq!(run.bookkeeping.metrics_every_steps, 1);
        assert!(run.bookkeeping.checkpoint_every_steps > 3, "a checkpoint is written");
        assert_eq!(run.train.schedule, Schedule::WarmupCosine { warmup_steps: 1, form: WarmupForm::Google });
        let [Evaluation::Knn(knn), Evaluation::LinearProbe(probe)] = run.evaluate.as_slice() else {
            panic!("the evaluations are those of the file");
        };
        assert_eq!((knn.k, probe.batch, probe.epochs), (200, 200, 5));
    }
    assert!(asked.borrow().iter().all(|dataset| matches!(dataset, Dataset::Builtin(_))), "real data were looked at");
}

/// A shrunk batch in pieces stays in pieces: even, and taken in halves.
#[test]
fn smoke_keeps_pieces() {
    let check = |batch: u32, micro_batch: u32, expected: (u32, u32)| {
        let text = cifar(&format!(
            "train: (batch: {batch}, micro_batch: {micro_batch}, batch_norm_scope: MicroBatchJoint, length: Steps(2))"
        ));
        let full = &sound(&text).cells[0].runs[0];
        assert_eq!((full.train.batch, full.train.micro_batch), (batch, Some(micro_batch)));
        let loaded = load("x.ron", &text, &LoadOptions { smoke: true, ..options(&[]) });
        let train = &loaded.unwrap_or_else(|problems| panic!("{problems}")).cells[0].runs[0].train;
        assert_eq!((train.batch, train.micro_batch), (expected.0, Some(expected.1)), "{batch} in {micro_batch}");
        assert_eq!(train.batch_norm_scope, BatchNormScope::MicroBatchJoint);
    };
    check(1024, 64, (64, 32));
    check(256, 128, (16, 8));
    check(112, 16, (6, 3));
    check(4, 2, (4, 2));
    check(16384, 512, (200, 100));
}

#[test]
fn pieces_are_swept_with_their_scope() {
    let train = |size: &str, scope: &str| format!("(batch: 128, micro_batch: {size}, batch_norm_scope: {scope})");
    let variants = [train("None", "View"), train("64", "MicroBatchView"), train("32", "MicroBatchView")].join(", ");
    let whole = sound(&cifar(&format!("sweep: [Axis(\"train\", [{variants}])]")));
    let zipped = sound(&cifar(
        "train: (batch: 128),
         sweep: [Zip([Axis(\"train.micro_batch\", [None, 64, 32]),
                      Axis(\"train.batch_norm_scope\", [View, MicroBatchView, MicroBatchView])])]",
    ));
    for experiment in [&whole, &zipped] {
        let sizes: Vec<Option<u32>> = experiment.cells.iter().map(|cell| cell.runs[0].train.micro_batch).collect();
        assert_eq!(sizes, [None, Some(64), Some(32)]);
    }
    let keys =
        |experiment: &Experiment| experiment.cells.iter().map(|cell| cell.runs[0].pretrain_key()).collect::<Vec<_>>();
    assert_eq!(keys(&whole), keys(&zipped));
}

#[test]
fn a_data_set_is_looked_at_once() {
    let text =
        cifar("sweep: [Axis(\"train.batch\", [64, 128, 256]), Axis(\"split.fraction\", [0.1, 0.2])], split: HeldOut");
    let n_looks = std::cell::Cell::new(0);
    let watched = |dataset: &Dataset, split: Split| {
        n_looks.set(n_looks.get() + 1);
        facts(dataset, split)
    };
    let experiment = load("x.ron", &text, &LoadOptions { facts: &watched, ..options(&[]) });
    assert_eq!((experiment.map(|experiment| experiment.cells.len()), n_looks.get()), (Ok(6), 2));
}

#[test]
fn ten_thousand_cells_load_fast_and_a_billion_are_refused_faster() {
    let numbers = |from: u32, to: u32| (from..to).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text = cifar(&format!(
        "seeds: [0], sweep: [Axis(\"train.batch\", [{}]), Axis(\"evaluate[0].k\", [{}])], evaluate: [Knn]",
        numbers(100, 200),
        numbers(1, 101)
    ));
    let start = std::time::Instant::now();
    assert_eq!(sound(&text).cells.len(), 10_000);
    let many = start.elapsed();
    let axis = |path: &str| format!("Axis(\"{path}\", [{}]),", numbers(2, 1002));
    let text =
        cifar(&format!("sweep: [{} {} {}]", axis("train.batch"), axis("train.temperature"), axis("evaluate[0].k")));
    let start = std::time::Instant::now();
    let problems = loaded(&text).expect_err("a billion cells are too many");
    assert!(problems.summary().contains("3000000000 runs are more than the limit of 10000"), "{problems}");
    let billion = start.elapsed();
    println!("10,000 cells: {many:?}, 10⁹ cells refused: {billion:?}");
    assert!(many.as_secs_f64() < 5.0 && billion.as_secs_f64() < 2.0, "{many:?}, {billion:?}");
}

#[test]
fn evaluations_have_names() {
    let run = first_run("evaluate: [Knn, LinearProbe, Knn(k: 1), Knn(k: 2)]");
    assert_eq!(evaluation_names(&run.evaluate), ["knn", "linear", "knn_2", "knn_3"]);
    let check = |fields: &str, metric: &str| assert_eq!(sound(&cifar(fields)).table.metric, metric);
    check("", "knn.top1");
    check("evaluate: [LinearProbe, Knn]", "knn.top1");
    check("evaluate: [LinearProbe]", "linear.top1");
    check("evaluate: [Knn, Knn(k: 5)], table: (metric: \"knn_2.top5\")", "knn_2.top5");
}

#[test]
fn an_untrained_encoder_has_no_steps_and_any_warm_up() {
    let run = first_run("train: (length: Epochs(0), schedule: WarmupCosine(warmup: Epochs(10)))");
    assert_eq!(run.train.length_steps, 0);
    assert_eq!(first_run("train: (length: Examples(513))").train.length_steps, 3);
}

/// The minimal file, which leaves out everything that it can, after one override.
fn minimal_with(text: &str) -> Experiment {
    let minimal = "Experiment(question: \"q\", dataset: Builtin)";
    let loaded = load("x.ron", minimal, &options(&[text.to_owned()]));
    loaded.unwrap_or_else(|problems| panic!("{text}: {problems}"))
}

#[test]
fn a_path_leads_into_a_default_and_changes_nothing_beside_its_leaf() {
    let check = |text: &str, change: fn(&mut Run)| {
        let found = minimal_with(text).cells[0].runs[0].clone();
        let mut expected = minimal_with("seeds=[0]").cells[0].runs[0].clone();
        change(&mut expected);
        assert_eq!(found, expected, "{text}");
    };
    check("model.backbone.stem=Cifar", |run| run.model.backbone = Backbone::ResNet18 { stem: Stem::Cifar });
    check("model.head.hidden=1024", |run| {
        run.model.head =
            Head::Mlp { layers: 2, hidden: 1024, output: 128, batch_norm: true, bias: false, output_shift: true };
    });
    check("train.optimizer.momentum=0.9", |run| {
        run.train.optimizer =
            Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0, decay: DecayScope::All };
    });
    check("train.learning_rate.base=0.1", |run| run.train.learning_rate.base = 0.1);
    check("train.length[0]=2", |run| run.train.length_steps = 2 * (5_000 / 256));
    check("views[0].scale[0]=0.5", |run| {
        run.views[0] =
            Augmentation::RandomResizedCrop { scale: (0.5, 1.0), ratio: (0.75, 4.0 / 3.0), filter: Filter::Bilinear };
    });
    check("views[1].p=0.3", |run| run.views[1] = Augmentation::HorizontalFlip { p: 0.3 });
    check("evaluate[0].k=20", |run| {
        run.evaluate = vec![Evaluation::Knn(Knn { k: 20, temperature: 0.1, metric: Metric::Cosine, ..Knn::DEFAULT })];
    });
    check("table.metric=\"knn.top5\"", |_| {});
    check("views[5][0]=Cifar100", |run| {
        run.views[5] = Augmentation::Normalize { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] };
    });
    assert_eq!(minimal_with("seeds[0]=7").seeds, [7, 1, 2]);
}

#[test]
fn a_path_leads_into_the_default_of_the_variant_that_the_file_chose() {
    let check = |fields: &str, path: &str, spelled: &str| {
        let text = format!("Experiment(question: \"q\", dataset: Builtin, {fields})");
        let loaded = load("x.ron", &text, &options(&[path.to_owned()]));
        let found = loaded.unwrap_or_else(|problems| panic!("{path}: {problems}"));
        assert_eq!(found, sound(&format!("Experiment(question: \"q\", dataset: Builtin, {spelled})")), "{path}");
    };
    check(
        "views: [HorizontalFlip, RandomResizedCrop]",
        "views[1].ratio[1]=1.5",
        "views: [HorizontalFlip, RandomResizedCrop(ratio: (0.75, 1.5))]",
    );
    check("views: [Rotate]", "views[0].degrees[0]=-5", "views: [Rotate(degrees: (-5, 30))]");
    check(
        "train: Train(length: Epochs(40), schedule: WarmupCosine)",
        "train.schedule.warmup[0]=3",
        "train: (length: Epochs(40), schedule: WarmupCosine(warmup: Epochs(3)))",
    );
}

#[test]
fn an_axis_leads_into_a_default() {
    let experiment = sound(&cifar("sweep: [Axis(\"model.backbone.stem\", [ImageNet, Cifar])]"));
    let stems: Vec<Backbone> = experiment.cells.iter().map(|cell| cell.runs[0].model.backbone).collect();
    assert_eq!(stems, [Stem::ImageNet, Stem::Cifar].map(|stem| Backbone::ResNet18 { stem }));
    let experiment = sound(&cifar("sweep: [Axis(\"evaluate[0].k\", [5, 10])]"));
    let sizes = experiment.cells.iter().map(|cell| match &cell.runs[0].evaluate[..] {
        [Evaluation::Knn(knn)] => knn.k,
        others => panic!("one k-NN, not {others:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [5, 10]);
}

#[test]
fn a_shrunk_experiment_has_two_seeds() {
    let check = |seeds: &str, expected: [u64; 2]| {
        let text = cifar(&format!("seeds: {seeds}, max_cells: 3"));
        let loaded = load("x.ron", &text, &LoadOptions { smoke: true, ..options(&[]) });
        assert_eq!(loaded.map(|experiment| experiment.seeds), Ok(expected.to_vec()), "{seeds}");
    };
    check("[4]", [4, 5]);
    check("[18446744073709551615]", [u64::MAX, 0]);
    check("[3, 9, 1]", [3, 9]);
}
