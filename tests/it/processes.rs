//! Several processes, one store, many cells: everything is computed, nothing twice, and each of them ends with the table.

use std::process::Child;
use std::time::Instant;

use crate::harness::{MINIATURE, Said, Workplace, entries, slow_tests, tally, verified_digests};

/// So many trainings, each evaluated in as many ways.
fn sweep(trainings: usize, ways: usize) -> String {
    let temperatures: Vec<String> = (1..=trainings).map(|n| format!("{:.1}", n as f64 / 10.0)).collect();
    let neighbours: Vec<String> = (1..=ways).map(|k| format!("0.{k:03}")).collect();
    MINIATURE
        .replace(
            "n_classes: 4, train_per_class: 12, test_per_class: 6",
            "n_classes: 2, train_per_class: 4, test_per_class: 2",
        )
        .replace("batch: 8", "batch: 4")
        .replace("optimizer: Adam, ", "")
        .replace("checkpoint_every: Steps(2)", "checkpoint_every: Steps(3)")
        .replace("evaluate: [Knn(k: 5), LinearProbe(epochs: 2, batch: 16)]", "evaluate: [Knn(k: 3, temperature: 0.5)]")
        .replace("seeds: [0, 1]", "seeds: [0]")
        .replace(
            "sweep: [Axis(\"train.temperature\", [0.1, 0.5])]",
            &format!(
                "sweep: [Axis(\"train.temperature\", [{}]), Axis(\"evaluate[0].temperature\", [{}])]",
                temperatures.join(", "),
                neighbours.join(", ")
            ),
        )
        .replace(
            "table: (rows: \"train.temperature\",",
            "table: (rows: \"evaluate[0].temperature\", columns: \"train.temperature\",",
        )
}

/// Files of results that differ from the first of their key, in any way: even of equal bits, times differ.
fn divergences(place: &Workplace) -> Vec<String> {
    let shards = place.names_in("records").into_iter();
    let names = shards.flat_map(|shard| place.names_in(&format!("records/{shard}")));
    names.filter(|name| name.contains("divergence")).collect()
}

#[test]
fn processes_share_the_work_and_each_has_the_table() {
    let (processes, trainings, ways) = if slow_tests() { (8, 2, 100) } else { (3, 2, 3) };
    let text = sweep(trainings, ways);
    let alone = Workplace::new();
    alone.write("miniature.ron", &text);
    let table = |said: &Said| said.json()["table"].clone();
    let expected_table = table(&alone.ablate(&["sweep", "miniature.ron", "--json"]).success());

    let place = Workplace::new();
    place.write("miniature.ron", &text);
    let began = Instant::now();
    let arguments = ["sweep", "miniature.ron", "--json", "--threads", "1"];
    let children: Vec<Child> = (0..processes).map(|_| place.start(&arguments)).collect();
    let said: Vec<Said> =
        children.into_iter().map(|child| Said::from(child.wait_with_output().expect("it ends")).success()).collect();
    let computed: Vec<u64> =
        said.iter().map(|said| said.json()["summary"]["computed"].as_u64().expect("a number")).collect();
    println!("{processes} processes computed {computed:?} cells in {:.1?}", began.elapsed());
    let n_cells = (trainings * ways) as u64;
    assert_eq!(divergences(&place), [""; 0], "nothing was computed twice");
    // A cell is both's where one process trained it and another was first to evaluate it.
    let (total, most) = (computed.iter().sum::<u64>(), n_cells + trainings as u64);
    assert!((n_cells..=most).contains(&total), "{computed:?}");
    for said in &said {
        assert_eq!(table(said), expected_table);
    }
    assert_eq!(place.names_in("claims"), [""; 0]);
    assert_eq!(entries(&place.store()).len(), trainings + trainings * ways, "nothing was lost");
    assert_eq!(verified_digests(&place.store()), verified_digests(&alone.store()));
    tally("several processes on one store", "processes: cells", n_cells);
}
