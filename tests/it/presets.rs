//! Presets and shipped experiments through the real command: what tells two recipes apart, and sweeps of seconds.

use crate::harness::Workplace;

fn experiments() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the folder of experiments")
        .map(|file| file.expect("a readable folder").path())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path.display().to_string()))
        .collect();
    files.sort();
    files
}

#[test]
fn two_presets_differ_in_exactly_these_fields() {
    let place = Workplace::new();
    let json = place.ablate(&["diff", "preset:Lightly", "preset:Dkobak", "--json"]).success().json();
    let differences = json["differences"]["meaning"].as_array().expect("a list");
    let texts: Vec<&str> = differences.iter().map(|change| change["text"].as_str().expect("a text")).collect();
    assert_eq!(
        texts,
        [
            "model.head.hidden 512 → 1024",
            "model.head.batch_norm true → false",
            "model.head.bias false → true",
            "model.initialization PyTorchDefault → TorchvisionNewStem",
            "views[0].scale (0.08, 1.0) → (0.2, 1.0)",
            "views[3].p 0.2 → 0.1",
            "views without Normalize(mean: (0.485, 0.456, 0.406), std: (0.229, 0.224, 0.225))",
            "train.length Epochs(200) → Epochs(1000)",
            "train.batch 128 → 512",
            "train.learning_rate.base 0.06 → 0.03",
            "train.learning_rate.scaling.per 128 → 256",
            "evaluate[0].k 200 → 10",
            "evaluate[0].vote Weighted → Majority",
            "evaluate[0].temperature 0.1 → none",
        ]
    );
    assert_eq!((json["a"].as_str(), json["is_equal"].as_bool()), (Some("preset Lightly"), Some(false)));
    let said = place.ablate(&["diff", "preset:Lightly", "preset:SoloLearn"]).success();
    for expected in [
        "a: preset Lightly\nb: preset SoloLearn\nsettings, a → b\n",
        "model.backbone.stem Cifar → CifarPadded",
        "views[0].filter Bilinear → Bicubic",
        "train.optimizer Sgd(momentum: 0.9,",
        "train.temperature 0.5 → 0.2",
    ] {
        assert!(said.out.contains(expected), "{expected}\n{}", said.out);
    }
    place.ablate(&["diff", "preset:Google", "preset:SoloLearn", "--exit-code"]).code(3);
    let same = place.ablate(&["diff", "preset:Google", "preset:Google", "--exit-code"]).success();
    assert_eq!(same.out, "a: preset Google\nb: preset Google\nsettings: equal\n");
    assert_eq!(std::fs::read_dir(place.path()).expect("a folder").count(), 0, "telling apart creates nothing");
}

#[test]
fn files_are_recipes_too() {
    let place = Workplace::new();
    let text = "Experiment(question: \"q\", dataset: Cifar10(root: \"nowhere\"), preset: Dkobak";
    place.write("a.ron", &format!("{text})"));
    place.write(
        "b.ron",
        &format!("{text}, train: (length: Steps(97), batch: 256), sweep: [Axis(\"split\", [Official])])"),
    );
    let same = place.ablate(&["diff", "a.ron", "preset:Dkobak", "--exit-code"]).success();
    assert_eq!(same.out, "a: a.ron\nb: preset Dkobak\nsettings: equal\n");
    let said = place.ablate(&["diff", "a.ron", "b.ron"]).success();
    let changes = "  train.length Steps(97000) → Steps(97)\n  train.batch 512 → 256\n";
    assert_eq!(said.out, format!("a: a.ron\nb: b.ron\nsettings, a → b\n{changes}"));
    place.write("wrong.ron", "Experiment(question: \"q\", preset: Lightly)");
    let said = place.ablate(&["diff", "a.ron", "wrong.ron"]).code(2);
    assert!(said.err.contains("wrong.ron:1:1") && said.err.contains("lacks the field `dataset`"), "{}", said.err);
    let said = place.ablate(&["diff", "preset:Lihgtly", "preset:Google"]).code(2);
    assert!(said.err.contains("there is no preset `Lihgtly`: expected one of `preset:Lightly`"), "{}", said.err);
    let said = place.ablate(&["diff", "preset:Lightly", "0123456789ab"]).code(2);
    assert!(said.err.contains("are not of one kind"), "{}", said.err);
    let said = place.ablate(&["diff", "missing.ron", "preset:Google"]).code(2);
    assert!(said.err.contains("missing.ron"), "{}", said.err);
}

#[test]
fn every_shipped_experiment_has_a_plan_of_seconds() {
    let place = Workplace::new();
    for (name, path) in experiments() {
        let plan = place.ablate(&["plan", &path, "--smoke", "--json"]).success().json();
        let runs = plan["runs"].as_array().expect("runs");
        assert!(runs.len() >= 2, "{name}: {} runs", runs.len());
    }
}

/// Some of them, on a stem that is twenty times cheaper: the override reaches into every preset.
#[test]
fn shipped_experiments_sweep_in_seconds() {
    let place = Workplace::new();
    let shipped = experiments();
    for (file, labels) in
        [("noise_floor.ron", &["knn.top1"][..]), ("presets.ron", &["Lightly", "SoloLearn", "Google", "Dkobak"])]
    {
        let path = &shipped.iter().find(|(name, _)| name == file).expect("a shipped file").1;
        let said = place.ablate(&["sweep", path, "model.backbone.stem=ImageNet", "--smoke"]).success();
        for label in labels {
            assert!(said.out.contains(label), "{file} without {label}:\n{}", said.out);
        }
        assert!(said.out.contains('±'), "{file}:\n{}", said.out);
    }
}
