#!/usr/bin/env python3
"""Builds the fuzz targets on a stable compiler and runs them, two at a time, each for a while.

    python3 fuzz/run.py --seconds 60
    python3 fuzz/run.py --seconds 3600 --target experiment --target store

What is found lies in target/fuzz/found/<target>/, the grown corpus in target/fuzz/corpus/<target>/; the latter is taken up
by the next run. Exit codes: 0 nothing found, 1 a target failed, 2 it could not be built. Needs a C++ compiler for
libFuzzer: the one that `CXX` names, else `c++`.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILT = ROOT / "target" / "fuzz"

TARGETS = ["experiment", "overrides", "store", "record", "checkpoint", "cifar", "archive", "image", "digests"]

# LLVM's own coverage pass, which libFuzzer reads; cargo passes these to the targets alone, not to build scripts, because
# the host is named as a target.
COVERAGE = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
]

# Inputs are bounded so that a case takes milliseconds; the program's bounds are tested at full size elsewhere.
MAX_BYTES = {"experiment": 4096, "overrides": 512, "store": 4096, "image": 16384, "archive": 32768}
# What a case costs at most before it counts as a hang or as a memory blow-up.
LIMITS = ["-timeout=5", "-rss_limit_mb=1024", "-malloc_limit_mb=512"]


def host():
    text = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.search(r"^host: (.*)$", text, re.MULTILINE).group(1)


def compiler():
    """The C++ compiler as one word: `cc` takes no command of several."""
    words = os.environ.get("CXX", "")
    if " " not in words:
        return {}
    BUILT.mkdir(parents=True, exist_ok=True)
    script = BUILT / "cxx"
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    script.chmod(0o755)
    return {"CXX": str(script)}


def build(triple):
    flags = " ".join(filter(None, [os.environ.get("RUSTFLAGS", ""), *COVERAGE]))
    command = ["cargo", "build", "--release", "--locked", "--bins", "--target", triple,
               "--manifest-path", str(HERE / "Cargo.toml"), "--target-dir", str(BUILT)]
    return subprocess.run(command, env={**os.environ, **compiler(), "RUSTFLAGS": flags}).returncode == 0


def seeds(target):
    folders = [HERE / "seeds" / target]
    if target == "experiment":
        folders.append(ROOT / "experiments")
    return [folder for folder in folders if folder.is_dir()]


def run(target, binary, seconds, scratch):
    corpus, found = BUILT / "corpus" / target, BUILT / "found" / target
    corpus.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir(parents=True)
    dictionary = HERE / "dictionaries" / f"{target}.dict"
    command = [str(binary), str(corpus), *map(str, seeds(target)), *LIMITS, f"-max_total_time={seconds}",
               f"-max_len={MAX_BYTES.get(target, 8192)}", f"-artifact_prefix={found}/", "-print_final_stats=1",
               *([f"-dict={dictionary}"] if dictionary.is_file() else [])]
    place = Path(tempfile.mkdtemp(prefix=f"ablate-fuzz-{target}-", dir=scratch))
    began = time.monotonic()
    log = found / "log.txt"
    try:
        with open(log, "wb") as out:
            # A process that libFuzzer itself does not stop is stopped here.
            code = subprocess.run(command, env={**os.environ, "ABLATE_FUZZ_SCRATCH": str(place)}, stdout=out,
                                  stderr=subprocess.STDOUT, timeout=seconds + 120).returncode
    except subprocess.TimeoutExpired:
        code = "hangs"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return row(target, code, log, time.monotonic() - began, found)


def row(target, code, log, elapsed_s, found):
    text = log.read_bytes().decode("utf-8", "replace")
    states = re.findall(r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)/", text, re.MULTILINE)
    runs, cov, features, corpus = states[-1] if states else ("0", "0", "0", "0")
    counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    runs = int(counted.group(1)) if counted else int(runs)
    artefacts = sorted(path.name for path in found.iterdir() if path.name != "log.txt")
    outcome = "ok"
    if code != 0 or artefacts or runs == 0:
        reason = re.search(r"panicked at .*|ERROR: libFuzzer: .*", text)
        what = reason.group(0) if reason else f"exit code {code}"
        outcome = f"FAILED {what} ({', '.join(artefacts) or log})"
    return {"target": target, "runs": runs, "per_s": runs / max(elapsed_s, 1e-9), "cov": cov, "ft": features,
            "corpus": corpus, "outcome": outcome}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at once")
    arguments = parser.parse_args()
    triple = host()
    if not build(triple):
        print("the fuzz targets could not be built", file=sys.stderr)
        return 2
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    chosen = arguments.target or TARGETS
    binaries = BUILT / triple / "release"
    print(f"{'target':<12}{'runs':>12}{'runs/s':>9}{'coverage':>10}{'features':>10}{'corpus':>8}  outcome", flush=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        started = [pool.submit(run, target, binaries / target, arguments.seconds, memory) for target in chosen]
        for job in started:
            it = job.result()
            failed += it["outcome"] != "ok"
            print(f"{it['target']:<12}{it['runs']:>12}{it['per_s']:>9.0f}{it['cov']:>10}{it['ft']:>10}{it['corpus']:>8}"
                  f"  {it['outcome']}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
