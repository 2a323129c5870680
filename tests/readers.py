#!/usr/bin/env python3
"""Opens the two Parquet files of a swept experiment with polars, pandas and DuckDB and compares what they read: columns and
types with docs/results_schema.md, counts with each other, means with the program's own CSV table. Exits with 1 and says
what differs.

    python3 tests/readers.py BINARY EXPERIMENT.ron [--results DIR] [--smoke]

The experiment must have been swept already. Needs polars, pandas, pyarrow and duckdb."""
import argparse
import csv
import io
import math
import pathlib
import re
import subprocess
import sys

import duckdb
import pandas
import polars

DOCUMENTATION = pathlib.Path(__file__).parent.parent / "docs" / "results_schema.md"
# The documentation's names of types, as each reader has them.
TYPES = {
    "text": (polars.String, {"object", "str", "string"}, "VARCHAR"),
    "boolean": (polars.Boolean, {"bool"}, "BOOLEAN"),
    "u32": (polars.UInt32, {"uint32"}, "UINTEGER"),
    "u64": (polars.UInt64, {"uint64"}, "UBIGINT"),
    "f64": (polars.Float64, {"float64"}, "DOUBLE"),
}
problems = []


def expect(is_so, problem):
    if not is_so:
        problems.append(problem)


def documented(section, axes):
    """(name, type, may be null) of every column of a table, in order."""
    text = DOCUMENTATION.read_text(encoding="utf-8")
    section = text.split(f"## `{section}`", 1)[1].split("\n## ", 1)[0]
    columns = []
    for name, kind, null in re.findall(r"^\| `([^`]+)` \| (\w+)(, null)? \|", section, flags=re.M):
        names = [f"axis.{axis}" for axis in axes] if name == "axis.<path>" else [name]
        columns += [(each, kind, bool(null)) for each in names]
    return columns


def check_table(path, section):
    """Names, types and counts of one file in all three readers; the polars table."""
    by_polars = polars.read_parquet(path)
    axes = [name.removeprefix("axis.") for name in by_polars.columns if name.startswith("axis.")]
    columns = documented(section, axes)
    names = [name for name, _, _ in columns]
    by_pandas = pandas.read_parquet(path)
    by_duckdb = duckdb.read_parquet(str(path))
    found_by = {"polars": by_polars.columns, "pandas": list(by_pandas.columns), "DuckDB": by_duckdb.columns}
    for reader, found in found_by.items():
        expect(found == names, f"{path}: {reader} finds the columns {found}, documented are {names}")
    if by_polars.columns != names:
        return by_polars
    for (name, kind, may_be_null), of_duckdb in zip(columns, by_duckdb.types):
        of_polars, of_pandas, expected = TYPES[kind]
        expect(by_polars.schema[name] == of_polars, f"{path}: {name} is {by_polars.schema[name]} to polars, documented {kind}")
        expect(str(of_duckdb) == expected, f"{path}: {name} is {of_duckdb} to DuckDB, documented {kind}")
        n_null = by_polars[name].null_count()
        # pandas keeps whole numbers with nulls as floats.
        pandas_kinds = of_pandas | ({"float64"} if n_null else set())
        expect(str(by_pandas[name].dtype) in pandas_kinds, f"{path}: {name} is {by_pandas[name].dtype} to pandas, documented {kind}")
        expect(may_be_null or n_null == 0, f"{path}: {name} has {n_null} nulls, documented none")
        expect(int(by_pandas[name].isna().sum()) == n_null, f"{path}: pandas and polars count other nulls in {name}")
    (n_duckdb,) = duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    counts = {len(by_polars), len(by_pandas), n_duckdb}
    expect(len(counts) == 1 and counts != {0}, f"{path}: the readers count {sorted(counts)} rows")
    return by_polars


def check_means(path, rows):
    """Every cell's mean, by each reader, against the CSV table of the program."""
    axes = [name for name in rows[0] if name.startswith("axis.")]
    results = pandas.read_parquet(path)
    n_compared = 0
    for row in rows:
        evaluation, metric = row["metric"].rsplit(".", 1)
        # A table shows the final encoder, or the best of a run where the metric says so; snapshots are neither.
        encoder = "best" if metric.endswith(("_best", "_best_epoch")) else "final"
        wanted = {axis: row[axis] for axis in axes}
        wanted |= {"evaluation": evaluation, "metric": metric, "encoder": encoder, "status": "done"}
        chosen = results
        for name, value in wanted.items():
            chosen = chosen[chosen[name] == value]
        conditions = " AND ".join(f'"{name}" = ?' for name in wanted)
        query = f"SELECT count(value), avg(value) FROM read_parquet(?) WHERE {conditions}"
        n, mean = duckdb.execute(query, [str(path), *wanted.values()]).fetchone()
        expect(n == len(chosen) == int(row["n"]), f"{row}: pandas finds {len(chosen)} values, DuckDB {n}")
        if not row["mean"]:
            continue
        for reader, found in [("DuckDB", mean), ("pandas", chosen["value"].mean())]:
            is_equal = found is not None and math.isclose(found, float(row["mean"]), rel_tol=1e-12)
            expect(is_equal, f"{reader} has the mean {found} of {wanted}, the table {row['mean']}")
        n_compared += 1
    expect(n_compared > 0, f"{path}: no cell has a mean to compare")
    return n_compared


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("experiment", type=pathlib.Path)
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("results"))
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.results / "smoke" if arguments.smoke else arguments.results
    name = arguments.experiment.stem
    results, history = folder / f"{name}.parquet", folder / f"{name}.history.parquet"
    for path in (results, history):
        if not path.exists():
            sys.exit(f"{path} is not there: sweep {arguments.experiment} first")
    command = [arguments.binary.resolve(), "table", arguments.experiment, "--results", arguments.results, "--format", "csv"]
    table = subprocess.run(command + ["--smoke"] * arguments.smoke, check=True, capture_output=True, encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(table.stdout)))

    by_polars = check_table(results, "results/<experiment>.parquet")
    steps = check_table(history, "results/<experiment>.history.parquet")
    n_means = check_means(results, rows)
    trained = by_polars.filter(polars.col("evaluation") == "pretrain", polars.col("steps") > 0)
    of_results = trained.select("cell", "seed", "steps").unique().sort("cell", "seed")
    of_history = steps.group_by("cell", "seed").agg(polars.len().cast(polars.UInt64).alias("steps")).sort("cell", "seed")
    expect(of_results.equals(of_history), f"steps of the results\n{of_results}\nand of the history\n{of_history}")
    for problem in problems:
        print(problem, file=sys.stderr)
    versions = f"polars {polars.__version__}, pandas {pandas.__version__}, DuckDB {duckdb.__version__}"
    print(f"{len(by_polars)} results and {len(steps)} steps, {n_means} means compared: {len(problems)} problems ({versions})")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
