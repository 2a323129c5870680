//! What `ablate bench` answers; the times themselves are nobody's to expect.

use std::io::Write;

use crate::harness::Workplace;

const TINY: [&str; 8] = ["--device", "cpu", "--batch", "2", "--seconds", "0", "--threads", "2"];

fn bench(place: &Workplace, what: &str, more: &[&str]) -> crate::harness::Said {
    place.ablate(&[&["bench", what], &TINY[..], more].concat())
}

/// 20 images of noise as a CIFAR-10 in the official format, whose batch files hold one image or more.
fn cifar10(place: &Workplace) {
    let folder = place.path().join("images/cifar-10-batches-bin");
    std::fs::create_dir_all(&folder).expect("a writable folder");
    let record: Vec<u8> = (0..3073_u32).map(|index| if index == 0 { 3 } else { (index * 37 % 251) as u8 }).collect();
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let mut file = std::fs::File::create(folder.join(format!("{name}.bin"))).expect("a writable file");
        (0..4).for_each(|_| file.write_all(&record).expect("a writable file"));
    }
}

#[test]
fn a_training_is_timed_with_its_parts() {
    let place = Workplace::new();
    let said = bench(&place, "train", &["--json"]).success().json();
    let speed = said["speed"].as_object().expect("speeds");
    for name in
        ["pairs_per_s", "step_ms", "views_ms", "gradient_ms", "forward_ms", "loss_ms", "backward_ms", "update_ms"]
    {
        assert!(speed[name].as_f64().is_some_and(|value| value > 0.0), "{name}: {said}");
    }
    assert_eq!((&said["stem"], &said["batch"], &said["backend"]), (&"ImageNet".into(), &2.into(), &"cpu".into()));
    assert!(said["data"].is_null() && speed["steps"] == 1, "{said}");
    cifar10(&place);
    for root in ["images", "images/cifar-10-batches-bin"] {
        let said = bench(&place, "train", &["--data", root]).success();
        let names: Vec<&str> = said.out.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(names, ["pairs/s", "step", "views", "forward", "loss", "backward", "update"], "{}", said.out);
    }
    let said = bench(&place, "train", &["--data", "absent"]).code(2);
    assert!(said.err.contains("absent"), "{}", said.err);
    let said = place.ablate(&["bench", "train", "--seconds", "nan"]).code(2);
    assert!(said.err.contains("expected a number of seconds from 0 on"), "{}", said.err);
}

#[test]
fn every_operation_stands_beside_its_floor() {
    let place = Workplace::new();
    let said = bench(&place, "kernels", &[]).success();
    let width = said.out.lines().map(|line| line.chars().count()).max();
    assert!(width.is_some_and(|width| width <= 80), "{}", said.out);
    for expected in [
        "peak ",
        "memory ",
        "padding skipped",
        "weight gradient",
        "\nconv1 ",
        "\nlayer2.0.downsample.0 ",
        "\nprojection_head.layers.0 ",
        "\nconvolutions ",
        "\nloss ",
        "\nstep without views ",
    ] {
        assert!(said.out.contains(expected), "`{expected}` is not in\n{}", said.out);
    }
    let said = bench(&place, "kernels", &["--json"]).success().json();
    let step = &said["step"];
    assert_eq!(said["flop_counted"], "definition");
    for limit in ["gflop_per_s", "gb_per_s"] {
        assert!(step["roofline"][limit].as_f64().is_some_and(|value| value > 0.0), "{said}");
    }
    let first = &step["operations"][0];
    assert_eq!((&first["name"], &first["kind"]), (&"conv1".into(), &"convolution".into()));
    assert!(first["input_gradient"].is_null(), "{first}");
    for pass in ["forward", "weight_gradient"] {
        for name in ["ms", "flop", "bytes", "floor_ms"] {
            assert!(first[pass][name].as_f64().is_some_and(|value| value > 0.0), "{pass}.{name}: {first}");
        }
    }
    let said = place.ablate(&["bench", "kernels", "--device", "reference"]).code(2);
    assert!(said.err.contains("`cpu` or `cuda`"), "{}", said.err);
}
