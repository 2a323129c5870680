use super::*;
use crate::experiment::recipe::{Backend, Numerics};
use crate::report::sample::{complete, experiment, failed, missing, row};

fn rows() -> (crate::experiment::Experiment, Vec<Row>) {
    let experiment =
        experiment(&[("train.batch", &["64", "128"]), ("views", &["crop", "crop, Färbung ✓"])], &[], &[0, 11]);
    let mut rows = complete(&experiment);
    rows[1] = missing(&experiment, 0, 11);
    rows[2] = failed(&experiment, 1, 0, "the loss is not finite\nat \"step\" 3");
    rows[3] = Row {
        encoder: EncoderKind::Best,
        encoder_step: None,
        backend: Backend::Reference,
        ..row(&experiment, 1, 11, f64::MIN_POSITIVE)
    };
    rows[4] = Row { backend: Backend::Cuda, numerics: Numerics::Bf16, smoke: true, ..row(&experiment, 2, 0, -0.25) };
    (experiment, rows)
}

#[test]
fn round_trip_in_any_order() {
    let (experiment, rows) = rows();
    let bytes = to_parquet(&rows, &experiment.axes).unwrap();
    let (read, axes) = from_parquet(&bytes).unwrap();
    assert_eq!(read, rows);
    assert_eq!(axes, ["train.batch", "views"]);
    let reversed: Vec<Row> = rows.iter().rev().cloned().collect();
    assert_eq!(to_parquet(&reversed, &experiment.axes).unwrap(), bytes);
}

#[test]
fn round_trip_without_rows_or_axes() {
    let none = experiment(&[], &[], &[0]);
    for rows in [vec![], complete(&none)] {
        let (read, axes) = from_parquet(&to_parquet(&rows, &none.axes).unwrap()).unwrap();
        assert_eq!((read, axes), (rows, vec![]));
    }
}

#[test]
fn the_schema_and_the_bytes_are_pinned() {
    let (experiment, rows) = rows();
    let bytes = to_parquet(&rows, &experiment.axes).unwrap();
    let schema = parquet::read(SCHEMA, &bytes).unwrap().schema().join("\n");
    assert_eq!(
        schema,
        "experiment: str
smoke: bool
cell: u32
axis.train.batch: str
axis.views: str
seed: u64
evaluation: str
protocol: str
metric: str
encoder: str
encoder_step: u64
encoder_epoch: f64
status: str
value: f64
unit: str
backend: str
numerics: str
pretrain_key: str
evaluation_key: str
n_parameters: u64
steps: u64
train_s: f64
images_per_s: f64
device: str
code: str
ablate_version: str
host: str
started_unix_s: u64
message: str"
    );
    // Moves with the versions of polars and zstd in Cargo.lock, and with nothing else.
    assert_eq!(Key::of_bytes(&bytes).to_string(), "bfe3473ccfa826852f480c257fd27da4814c8ac1a545b95ff9136ced228e0bb8");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (experiment, mut rows) = rows();
    let check = |result: Result<Vec<u8>, ReportError>, expected: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    };
    let twice = vec![experiment.axes[0].clone(), experiment.axes[0].clone()];
    check(to_parquet(&rows, &twice), "axis.train.batch");
    rows[3].labels.pop();
    check(to_parquet(&rows, &experiment.axes), "cell 1 of `batchsize` has 1 labels; expected 2, one an axis");
    let read = |bytes: &[u8]| from_parquet(bytes).map(|_| Vec::new());
    check(read(b"PAR1PAR1PAR1"), "not a table of this program");
    let status = |status: &str| vec![texts("experiment", ["e"].into_iter()), texts("status", [status].into_iter())];
    check(read(&parquet::write("ablate.history/1", status("done")).unwrap()), "found `ablate.history/1`");
    check(read(&parquet::write(SCHEMA, status("done")).unwrap()), "column `smoke`, found only experiment, status");
    let table = parquet::read(SCHEMA, &parquet::write(SCHEMA, status("gone")).unwrap()).unwrap();
    let names = Status::ALL.map(|status| (status.name(), status));
    let error = named(&table, "status", "done, missing or failed", names).unwrap_err().to_string();
    assert_eq!(error, "column `status` of the table of results holds `gone`; expected done, missing or failed");
}

/// Column and type of every row of a section's table: `| `cell` | u32 | ...`, `axis.<path>` for each of `axes`.
fn documented(section: &str, axes: &[&str]) -> Vec<String> {
    let text = include_str!("../../../docs/results_schema.md");
    let (_, section) = text.split_once(&format!("## `{section}`")).expect("a section of the documentation");
    let section = section.split("\n## ").next().expect("its text");
    let mut columns = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let fields: Vec<&str> = line.split(" | ").collect();
        let (name, kind) = (fields[0].trim_matches(['|', ' ', '`']), fields[1].trim_end_matches(", null"));
        let kind = match kind {
            "text" => "str",
            "boolean" => "bool",
            number => number,
        };
        match name {
            "axis.<path>" => columns.extend(axes.iter().map(|path| format!("axis.{path}: {kind}"))),
            name => columns.push(format!("{name}: {kind}")),
        }
    }
    columns
}

#[test]
fn the_documentation_names_exactly_the_columns_written() {
    let (experiment, rows) = rows();
    let written = |schema: &str, bytes: &[u8]| parquet::read(schema, bytes).unwrap().schema();
    let results = to_parquet(&rows, &experiment.axes).unwrap();
    let of_results = documented("results/<experiment>.parquet", &["train.batch", "views"]);
    assert_eq!(written(SCHEMA, &results), of_results);
    let histories = crate::report::histories::to_parquet(&[]).unwrap();
    let of_histories = documented("results/<experiment>.history.parquet", &[]);
    assert_eq!(written("ablate.histories/2", &histories), of_histories);
}

/// What may be null in the documentation is null in a row of which nothing is known.
#[test]
fn the_documentation_says_which_columns_may_be_null() {
    let (experiment, _) = rows();
    let bytes = to_parquet(&[missing(&experiment, 0, 0)], &experiment.axes).unwrap();
    let table = parquet::read(SCHEMA, &bytes).unwrap();
    let text = include_str!("../../../docs/results_schema.md");
    for column in table.schema() {
        let (name, kind) = column.split_once(": ").expect("a name and a type");
        let name = if name.starts_with(AXIS) { "axis.<path>" } else { name };
        let line = text.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).expect("a line a column");
        let is_null = match kind {
            "str" if name != "axis.<path>" => table.texts(name).unwrap()[0].is_none(),
            "f64" => table.f64s(name).unwrap()[0].is_none(),
            "u64" => table.u64s(name).unwrap()[0].is_none(),
            _ => false,
        };
        assert_eq!(line.contains(", null |"), is_null, "{line}");
    }
}
