#!/usr/bin/env python3
"""Runs experiments/record.ron on a GPU and reports wall time and k-NN accuracy.

    python3 benches/gpu_record.py --binary target/release/ablate --data cifar10.tar.xz --out DIR

Stays within its time (9 minutes): when that is spent the training is asked to stop, leaves a checkpoint in --store and
the report says how far it came; the same command with the same store goes on from there. DIR/gpu_record.json holds what is
known so far. Exit code: 0 when the run is complete, 3 when it was stopped on its way, else 1.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # The checkout stays as it is.

import measuring  # noqa: E402

LIMIT_S, QUICK_LIMIT_S = 520, 170
# From the request to stop to the checkpoint on disk.
STOPPING_S = 20
HERE = os.path.dirname(os.path.abspath(__file__))
STAGES = [
    ("plan", "the experiment parses and plans; what is stored already"),
    ("sweep", "train and evaluate, up to the time that is given"),
    ("table", "k-NN of 10 neighbours (majority) and of 200 (temperature 0.1)"),
    ("time", "training and evaluation by the store's records, over all sittings; wall time of this sitting"),
]
MAJORITY, WEIGHTED = "knn.top1", "knn_2.top1"


class Record:
    def __init__(self, arguments):
        self.arguments = arguments
        self.out = os.path.abspath(arguments.out)
        self.report = {
            "schema": "ablate.gpu_record/1", "machine": measuring.machine(arguments.binary), "device": arguments.device,
            "status": "under way", "binary": arguments.version, "commands": [],
        }

    def words(self, command, *more):
        given = self.arguments
        words = [given.binary, command, given.experiment, *given.overrides, "--results", given.results, *more]
        if given.device == "cpu":
            # The whole takes weeks there: the same file, shrunk.
            words.append("--smoke")
        elif given.data:
            words.append("dataset=%s" % measuring.dataset(given.data))
        return words

    def write(self):
        measuring.write_json(os.path.join(self.out, "gpu_record.json"), self.report)

    def ask(self, command, *more):
        answer = measuring.run(self.words(command, *more), 60, os.path.join(self.out, command))
        self.report["commands"].append(answer.record())
        self.write()
        if answer.failure():
            raise RuntimeError("`ablate %s`: %s" % (command, answer.failure()))
        return answer.json() or {}

    def sweep(self, limit_s):
        """The training, stopped with a checkpoint when its time is spent."""
        words = self.words("sweep", "--device", self.arguments.device, "--json", "--quiet")
        begin, stopped = time.monotonic(), False
        process = measuring.start(words)
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            stopped = True
            measuring.kill(process, signal.SIGINT)
            try:
                out, err = process.communicate(timeout=STOPPING_S)
            except subprocess.TimeoutExpired:
                measuring.kill(process)
                out, err = process.communicate()
        answer = measuring.Answer(words, process.returncode, out, err, time.monotonic() - begin, False)
        self.report["commands"].append(answer.record())
        self.report["sitting_s"] = round(answer.seconds, 2)
        if answer.code == 0:
            self.report["status"] = "complete"
        elif stopped:
            self.report["status"] = "stopped on its way; the same command goes on"
        else:
            self.report["status"] = "failed: %s" % answer.failure()
        self.write()
        return self.report["status"] == "complete"

    def measure(self):
        """Accuracies from the table, times from the records."""
        self.report["accuracy"] = {}
        for metric in (MAJORITY, WEIGHTED):
            table = self.ask("table", "--device", self.arguments.device, "--metric", metric, "--json")
            self.report["accuracy"][metric] = [value for cell in table.get("cells", []) for value in cell["values"]]
        plan = self.ask("plan", "--device", self.arguments.device, "--json")
        keys = [key for run in plan["runs"] for key in [run["pretrain_key"], *run["evaluation_keys"].values()]]
        training_s = evaluation_s = 0.0
        for key in keys:
            shown = self.show(key)
            stage = shown.get("stage", {})
            if "Pretrain" in stage:
                names = ("views_s", "gradient_s", "update_s", "other_s")
                training_s += sum(epoch[name] for epoch in stage["Pretrain"]["epochs"] for name in names)
            if "Evaluation" in stage:
                evaluation_s += stage["Evaluation"]["seconds"]
        self.report["training_s"], self.report["evaluation_s"] = round(training_s, 2), round(evaluation_s, 2)
        self.write()

    def show(self, key):
        words = [self.arguments.binary, "show", key, "--results", self.arguments.results, "--json"]
        words += ["--smoke"] if self.arguments.device == "cpu" else []
        answer = measuring.run(words, 60)
        if answer.failure():
            raise RuntimeError("`ablate show`: %s" % answer.failure())
        shown = answer.json() or {}
        return shown.get("record", shown)


def markdown(report):
    """A section for benches/RESULTS.md."""
    card = report["machine"]["gpu"]
    title = "%s, driver %s" % (card["name"], card["driver"]) if card else "no GPU, %s" % report["machine"]["processor"]
    lines = ["## %s · record.ron on %s" % (report["machine"]["date"], title), ""]
    lines += ["`%s`: %s." % (report["binary"], report["status"])]
    if report["device"] == "cpu":
        lines += ["", "Shrunk by `--smoke`: a check of the script and no result."]
    if "accuracy" in report:
        majority, weighted = (percent(report["accuracy"][name]) for name in (MAJORITY, WEIGHTED))
        lines += [
            "", "| k-NN, 10 neighbours, majority | k-NN, 200 neighbours, T 0.1 | training | evaluation | this sitting, all told |",
            "|---|---|---|---|---|",
            "| %s | %s | %.1f s | %.1f s | %.1f s |" % (
                majority, weighted, report["training_s"], report["evaluation_s"], report["sitting_s"]),
        ]
    return "\n".join(lines) + "\n"


def percent(values):
    return ", ".join("missing" if value is None else "%.2f %%" % (100 * value) for value in values)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/ablate", help="the program, built elsewhere if need be")
    parser.add_argument("--experiment", default=os.path.join(os.path.dirname(HERE), "experiments", "record.ron"))
    parser.add_argument("--data", metavar="PATH", help="CIFAR-10: a .tar.xz or a folder of images, or the folder of the binary version")
    parser.add_argument("--out", default="target/gpu-record", metavar="DIR", help="where the report goes")
    parser.add_argument("--results", metavar="DIR", help="where store and tables lie; keep it to go on [default: DIR/results]")
    parser.add_argument("--markdown", metavar="FILE", help="where the section for RESULTS.md goes [default: DIR/gpu_record.md]")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: the file shrunk by `--smoke`, to try this script")
    parser.add_argument("--quick", action="store_true", help="within 3 minutes")
    parser.add_argument("--limit", type=float, metavar="S", help="seconds for this sitting")
    parser.add_argument("--list", action="store_true", help="name the stages and end")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="changes to the file: 'train.length=Epochs(200)'")
    return parser.parse_args()


def main():
    arguments = parse()
    if arguments.list:
        print("\n".join("%-6s %s" % stage for stage in STAGES))
        return 0
    begin = time.monotonic()
    version = measuring.run([arguments.binary, "--version"], 20)
    if version.code != 0:
        print("`%s --version` fails: %s" % (arguments.binary, version.failure()), file=sys.stderr)
        return 1
    arguments.version = version.out.strip()
    arguments.results = os.path.abspath(arguments.results or os.path.join(arguments.out, "results"))
    os.makedirs(arguments.out, exist_ok=True)
    limit_s = arguments.limit or (QUICK_LIMIT_S if arguments.quick else LIMIT_S)
    record = Record(arguments)
    if arguments.device == "cuda" and record.report["machine"]["gpu"] is None:
        record.report["status"] = measuring.NO_GPU
    else:
        try:
            record.ask("plan", "--device", arguments.device, "--json")
            if record.sweep(max(limit_s - (time.monotonic() - begin) - STOPPING_S, 1)):
                record.measure()
        except Exception as error:  # What is known is written all the same.
            record.report["status"] = "failed: %s" % error
    record.report["seconds_in_all"] = round(time.monotonic() - begin, 2)
    record.write()
    with open(arguments.markdown or os.path.join(record.out, "gpu_record.md"), "w", encoding="utf-8") as file:
        file.write(markdown(record.report))
    print(markdown(record.report), end="")
    status = record.report["status"]
    return 0 if status in ("complete", measuring.NO_GPU) else 3 if status.startswith("stopped") else 1


if __name__ == "__main__":
    sys.exit(main())
