#!/usr/bin/env python3
"""Speed of a whole training on the CPU, `ablate` beside PyTorch, round by round in turn.

    python3 benches/whole.py --opponent simclr_torch.py --data DIR --python PYTHON --rounds 5

Needs Python's standard library alone; the opponent needs PyTorch and images, and is passed over with a line where one of
them is missing. Prints a section for benches/RESULTS.md. Every command runs alone; in a round each program runs once a
stem, so that a machine that slows down slows all of them. Exit code: 0 when `ablate` was measured, 1 when it
failed, 2 when nothing could begin.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # The checkout stays as it is.

import measuring  # noqa: E402
from measuring import NotMeasured  # noqa: E402

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STEMS = ("imagenet", "cifar")
OWN = "`ablate`"
# The opponent's modes by the names they have in the table.
RIVALS = {
    "seed": ("Lightly example", ["seed"]),
    "eager": ("tuned, eager", ["tuned", "--no-compile"]),
    "compiled": ("tuned, compiled", ["tuned"]),
}
PARTS = ("views", "forward", "loss", "backward", "update")


def build():
    """Builds the program as a user would and says where it lies."""
    answer = subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=REPOSITORY, check=False)
    if answer.returncode != 0:
        sys.exit("`cargo build --release` failed; `--binary FILE` names a program built elsewhere")
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(REPOSITORY, "target")
    return os.path.join(target, "release", "ablate")


class Measurement:
    """All answers, in the order they came in."""

    def __init__(self, arguments, binary, data):
        self.arguments, self.binary, self.data = arguments, binary, data
        self.answers = []
        self.rivals = []
        self.torch = self.passed_over = None

    def find_opponent(self):
        """PyTorch, its script and the images, or why there is no comparison."""
        arguments = self.arguments
        try:
            self.torch = measuring.opponent(arguments.opponent, arguments.python, 120)
            measuring.images(self.data, None)
            self.rivals = [RIVALS[name] for name in arguments.rivals]
        except NotMeasured as reason:
            self.passed_over = str(reason)
            say("PyTorch is %s" % reason)

    def run(self):
        for number in range(1, self.arguments.rounds + 1):
            for stem in self.arguments.stems:
                self.one(number, stem, OWN, self.own_command(stem))
                for name, words in self.rivals:
                    self.one(number, stem, name, self.rival_command(stem, words))

    def own_command(self, stem):
        arguments = self.arguments
        words = ["bench", "train", "--device", "cpu", "--stem", stem, "--batch", arguments.batch]
        data = ["--data", self.data] if self.data else []
        return [self.binary, *words, "--seconds", arguments.seconds, *data, "--json"]

    def rival_command(self, stem, words):
        arguments = self.arguments
        mode, *options = words
        steps = ["--steps", arguments.steps] if arguments.steps else []
        command = [arguments.python, arguments.opponent, mode, self.data, *options]
        return [*command, "--batch", arguments.batch, "--stem", stem, *steps]

    def one(self, number, stem, name, command):
        # Without a GPU in sight the script computes on the processor.
        answer = measuring.run(command, self.arguments.limit, environment={"CUDA_VISIBLE_DEVICES": ""})
        pairs_per_s = None if answer.failure() else measuring.find_number(answer.json(), "pairs_per_s")
        failure = answer.failure() or (None if pairs_per_s else "the answer has no `pairs_per_s`")
        self.answers.append({
            "round": number, "stem": stem, "name": name, "pairs_per_s": pairs_per_s, "failure": failure, **answer.record(),
        })
        say("round %d, %-8s %-16s %s" % (
            number, stem, name.strip("`"), "failed: %s" % failure if failure else "%.1f pairs/s" % pairs_per_s))
        if self.arguments.json:
            measuring.write_json(self.arguments.json, self.report())

    def report(self):
        return {
            "schema": "ablate.whole/1", "machine": measuring.machine(), "torch": self.torch,
            "passed_over": self.passed_over, "batch": self.arguments.batch, "answers": self.answers,
        }

    def speeds(self, stem, name):
        """Pairs a second by round, of the rounds that gave any."""
        found = [answer for answer in self.answers if (answer["stem"], answer["name"]) == (stem, name)]
        return {answer["round"]: answer["pairs_per_s"] for answer in found if answer["pairs_per_s"]}

    def failure(self, stem, name):
        found = [answer for answer in self.answers if (answer["stem"], answer["name"]) == (stem, name)]
        return next((answer["failure"] for answer in found if answer["failure"]), None)

    def part_ms(self, stem, part):
        found = [answer for answer in self.answers if (answer["stem"], answer["name"]) == (stem, OWN)]
        times = [measuring.find_number(answer.get("answer"), part + "_ms") for answer in found]
        times = [time for time in times if time is not None]
        return statistics.median(times) if times else None


def say(text):
    print(text, file=sys.stderr, flush=True)


def markdown(measurement):
    """A section for benches/RESULTS.md."""
    machine, arguments = measurement.report()["machine"], measurement.arguments
    lines = ["## %s · a whole training, %s cores, %s" % (machine["date"], machine["cores"], machine["processor"]), ""]
    rounds = "%d round%s" % (arguments.rounds, "" if arguments.rounds == 1 else "s")
    against = "PyTorch %s" % measurement.torch if measurement.torch else "PyTorch %s" % measurement.passed_over
    lines += ["ResNet-18 at 32×32, batch %s, f32, whole steps with their views; %s, each program once a round. %s. Ratios "
              "are of the same round; medians, in brackets the lowest and the highest." % (arguments.batch, rounds, against)]
    lines += ["", "| stem | program | pairs/s | `ablate` to it |", "|---|---|---|---|"]
    for stem in arguments.stems:
        own = measurement.speeds(stem, OWN)
        for name in [OWN] + [name for name, _ in measurement.rivals]:
            speeds = measurement.speeds(stem, name)
            ratios = [own[number] / speed for number, speed in speeds.items() if number in own] if name != OWN else []
            failure = measurement.failure(stem, name)
            value = spread(list(speeds.values()), "%.0f") if speeds else "failed: %s" % cell(failure or "not measured")
            lines.append("| %s | %s | %s | %s |" % (stem, name, value, spread(ratios, "%.2f") if ratios else ""))
    lines += ["", "Where a step of `ablate` goes, ms:", ""]
    lines += ["| stem | %s | step |" % " | ".join(PARTS), "|---" * (len(PARTS) + 2) + "|"]
    for stem in arguments.stems:
        times = [measurement.part_ms(stem, part) for part in (*PARTS, "step")]
        lines.append("| %s | %s |" % (stem, " | ".join("" if time is None else "%.1f" % time for time in times)))
    return "\n".join(lines) + "\n"


def spread(values, form):
    if len(values) == 1:
        return form % values[0]
    return "%s (%s to %s)" % tuple(form % value for value in (statistics.median(values), min(values), max(values)))


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected a number from 1 on")
    return value


def names(what, known):
    """Of an option that takes some of what is known, separated by commas."""
    def chosen(text):
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError("no such %s: %s; there are %s" % (what, name, ", ".join(known)))
        return text.split(",")
    return chosen


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", metavar="FILE", help="the program, built elsewhere [default: `cargo build --release` here]")
    parser.add_argument("--opponent", metavar="FILE", help="simclr_torch.py; without it there is no comparison")
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--data", metavar="PATH",
                        help="CIFAR-10 as folders of images, or a .tar.xz of them, for both [default: built-in images]")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--batch", type=positive, default=256)
    parser.add_argument("--stems", type=names("stem", STEMS), default=list(STEMS), help="separated by commas [default: imagenet,cifar]")
    parser.add_argument("--rivals", type=names("program", RIVALS), default=list(RIVALS),
                        help="separated by commas; compiling takes minutes a round [default: %s]" % ",".join(RIVALS))
    parser.add_argument("--seconds", type=float, default=10.0, help="that `ablate` measures, at least")
    parser.add_argument("--steps", type=positive, help="that the opponent measures [default: its own]")
    parser.add_argument("--limit", type=float, default=900.0, metavar="S", help="seconds for one command")
    parser.add_argument("--json", metavar="FILE", help="where every answer goes as it is, after each command")
    return parser.parse_args()


def main():
    arguments = parse()
    binary = os.path.abspath(arguments.binary or build())
    version = measuring.run([binary, "--version"], 20)
    if version.code != 0:
        say("`%s --version` fails: %s" % (binary, version.failure()))
        return 2
    work = tempfile.mkdtemp(prefix="whole-")
    try:
        data = measuring.images(arguments.data, work) if arguments.data else None
        measurement = Measurement(arguments, binary, data)
        measurement.find_opponent()
        measurement.run()
    except NotMeasured as reason:
        say(reason)
        return 2
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(markdown(measurement), end="")
    return 0 if all(measurement.speeds(stem, OWN) for stem in arguments.stems) else 1


if __name__ == "__main__":
    sys.exit(main())
