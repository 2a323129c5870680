//! What every command prints, and what it says to wrong input.

use crate::harness::{MINIATURE, Workplace};

fn swept() -> Workplace {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    place.ablate(&["sweep", "miniature.ron"]).success();
    place
}

#[test]
fn looking_creates_nothing() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    for arguments in [["plan", "miniature.ron"], ["status", "miniature.ron"], ["table", "miniature.ron"]] {
        place.ablate(&arguments).success();
    }
    assert!(!place.path().join("results/store").exists());
    place.ablate(&["plan", "miniature.ron", "--exit-code"]).code(3);
}

/// As behind `2>&1 | head`, when `head` has seen enough.
#[test]
fn nobody_has_to_read_messages() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let sweep = place.command(&["sweep", "miniature.ron"]).stderr(writer).output().expect("the binary starts");
    assert_eq!(sweep.status.code(), Some(0));
    place.ablate(&["plan", "miniature.ron", "--exit-code"]).success();
}

#[test]
fn every_look_at_a_swept_experiment() {
    let place = swept();
    let plan = place.ablate(&["plan", "miniature.ron", "--exit-code"]).success();
    assert!(plan.out.contains("4 runs: 4 complete; to do: 0 trainings, 0 evaluations"), "{}", plan.out);
    let status = place.ablate(&["status", "miniature.ron"]).success();
    assert!(status.out.contains("4 complete"), "{}", status.out);
    let signs = [("text", "±"), ("markdown", "| --"), ("latex", "\\toprule"), ("typst", "#table("), ("csv", "mean")];
    for (format, sign) in signs {
        let table = place.ablate(&["table", "miniature.ron", "--format", format]).success();
        assert!(table.out.contains(sign), "{format}:\n{}", table.out);
    }
    let linear = place.ablate(&["table", "miniature.ron", "--metric", "linear.top1"]).success();
    assert!(linear.out.contains("linear.top1"), "{}", linear.out);
    let json = place.ablate(&["table", "miniature.ron", "--json"]).success().json();
    assert_eq!(json, place.ablate(&["table", "miniature.ron", "--format", "json"]).success().json());
    look_otherwise(&place);
    let picture = place.ablate(&["show-views", "miniature.ron", "-o", "views.png", "--images", "6"]).success();
    assert!(picture.err.contains("6 images"), "{}", picture.err);
    assert!(std::fs::read(place.path().join("views.png")).expect("a picture").starts_with(b"\x89PNG"));
}

/// The table laid out anew, filtered, compared with another baseline.
fn look_otherwise(place: &Workplace) {
    let look = |arguments: &[&str]| place.ablate(&[&["table", "miniature.ron"], arguments].concat());
    let plain = look(&[]).success();
    assert!(plain.out.contains("“0.1”") && plain.out.contains("cannot"), "{}", plain.out);
    let turned = look(&["--columns", "train.temperature"]).success();
    assert!(turned.out.contains("columns: train.temperature"), "{}", turned.out);
    let baseline = look(&["--baseline", "train.temperature=0.5", "--differences", "--interval", "bca"]).success();
    for expected in ["Against “0.5”", "less that of the baseline “0.5”", "BCa bootstrap", "p (Holm)"] {
        assert!(baseline.out.contains(expected), "`{expected}` is not in\n{}", baseline.out);
    }
    let only = look(&["--where", "train.temperature=0.5"]).success();
    assert!(only.out.contains("only train.temperature = 0.5") && !only.out.contains("Against"), "{}", only.out);
    look(&["--best"]).success();
    let predictions = look(&["--predictions", "--json"]).success().json();
    let pairs = predictions["predictions"].as_array().expect("pairs");
    assert_eq!(pairs.len(), 2, "{predictions}");
    assert!(pairs.iter().all(|pair| pair["n_images"] == 24 && pair["mcnemar_p"].is_f64()), "{predictions}");
    let wrong = look(&["--where", "train.temprature=0.5"]).code(2);
    assert!(wrong.err.contains("did you mean `train.temperature`?"), "{}", wrong.err);
    let wrong = look(&["--baseline", "train.temperature=0.7"]).code(2);
    assert!(wrong.err.contains("expected one of `0.1`, `0.5`"), "{}", wrong.err);
    look(&["--where", "train.temperature"]).code(2);
    let quiet = look(&["--predictions", "--metric", "pretrain.loss_last_epoch"]).success();
    assert!(quiet.err.contains("no cell and seed has predictions"), "{}", quiet.err);
}

#[test]
fn show_finds_a_record_by_the_beginning_of_its_key() {
    let place = swept();
    let plan = place.ablate(&["plan", "miniature.ron", "--json"]).success().json();
    let key = plan["runs"][0]["pretrain_key"].as_str().expect("a key").to_owned();
    let shown = place.ablate(&["show", &key[..12]]).success();
    for expected in ["train.temperature = 0.1", "seed = 0", "\"Pretrain\"", "blob checkpoint"] {
        assert!(shown.out.contains(expected), "`{expected}` is not in\n{}", shown.out);
    }
    place.ablate(&["show", &key, "--blob", "checkpoint", "c.safetensors"]).success();
    let bytes = std::fs::read(place.path().join("c.safetensors")).expect("a checkpoint");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    assert_eq!(tensors.tensor("backbone.conv1.weight").expect("a stem").shape(), [64, 3, 7, 7]);
    place.ablate(&["show", "0000"]).code(2);
}

#[test]
fn a_run_is_the_base_recipe_with_its_first_seed() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    let said = place.ablate(&["run", "miniature.ron", "--json"]).success().json();
    assert_eq!(said["seed"], 0);
    assert!(said["images_per_s"].as_f64().is_some_and(|speed| speed > 0.0), "{said}");
    // The base recipe is the cell of temperature 0.5, so the sweep has one run less to do.
    let plan = place.ablate(&["plan", "miniature.ron", "--json"]).success().json();
    assert_eq!(plan["to_train"], 3);
}

#[test]
fn wrong_input_is_told_with_its_place_before_anything_runs() {
    let place = Workplace::new();
    let wrong = MINIATURE.replace("temperature: 0.5,", "temprature: 0.5,").replace("batch: 8,", "batch: 1000,");
    place.write("wrong.ron", &wrong);
    let said = place.ablate(&["sweep", "wrong.ron"]).code(2);
    for expected in ["wrong.ron:6:", "temprature", "did you mean", "temperature", "1000"] {
        assert!(said.err.contains(expected), "`{expected}` is not in\n{}", said.err);
    }
    assert!(said.out.is_empty());
    place.ablate(&["sweep", "absent.ron"]).code(2);
    place.write("binary.ron", "x");
    std::fs::write(place.path().join("binary.ron"), [0xff, 0xfe, 0x00]).expect("a writable file");
    place.ablate(&["plan", "binary.ron"]).code(2);
    place.write("good.ron", MINIATURE);
    let said = place.ablate(&["plan", "good.ron", "train.bach=16"]).code(2);
    assert!(said.err.contains("train.batch") || said.err.contains("`batch`"), "{}", said.err);
    // Nobody has a hundred GPUs; without any the text says what is missing.
    let said = place.ablate(&["sweep", "good.ron", "--device", "cuda:99"]).code(2);
    assert!(said.err.contains("--device cuda"), "{}", said.err);
    place.ablate(&["plan", "good.ron", "--device", "gpu"]).code(2);
}

#[test]
fn a_missing_data_set_is_told_with_the_way_out() {
    let place = Workplace::new();
    let text = MINIATURE
        .replace("Builtin(n_classes: 4, train_per_class: 12, test_per_class: 6, seed: 1)", "Cifar10(root: \"data\")");
    place.write("cifar.ron", &text);
    let said = place.ablate(&["sweep", "cifar.ron"]).code(2);
    for expected in ["data_batch_1.bin", "--data", "--smoke"] {
        assert!(said.err.contains(expected), "`{expected}` is not in\n{}", said.err);
    }
    place.ablate(&["sweep", "cifar.ron", "--smoke"]).success();
}

#[test]
fn neither_folder_nor_locale_nor_time_zone_moves_a_key() {
    let place = Workplace::new();
    place.write("miniature.ron", MINIATURE);
    place.write("elsewhere/deep/miniature.ron", MINIATURE);
    let plan = |folder: &str, variables: &[(&str, &str)]| {
        let mut command = place.command(&["plan", "miniature.ron", "--json"]);
        command.current_dir(place.path().join(folder)).envs(variables.iter().copied());
        crate::harness::Said::from(command.output().expect("the binary starts")).success().json()["runs"].clone()
    };
    let here = plan(".", &[]);
    assert_eq!(here, plan("elsewhere/deep", &[]));
    assert_eq!(here, plan(".", &[("LANG", "de_DE.UTF-8"), ("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Asia/Kolkata")]));
    let one_thread = place.ablate(&["plan", "miniature.ron", "--json", "--threads", "1"]).success().json();
    assert_eq!(here, one_thread["runs"]);
}
