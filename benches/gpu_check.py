#!/usr/bin/env python3
"""Checks and measures a built `ablate` on a machine with a GPU, in parts, within minutes.

    python3 benches/gpu_check.py --binary target/release/ablate --out DIR [--markdown FILE]

Needs Python's standard library alone; the opponent needs PyTorch. After every command DIR/gpu_check.json holds what is
known so far; DIR/<part>-<n>.out and .err hold the answers as they were given. Each part has its share of the time, and a
part that fails stops no other. What cannot be measured says so and why. Exit code: 0 when no part failed, else 1.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True  # The checkout stays as it is.

import measuring  # noqa: E402
from measuring import NO_GPU, NotMeasured  # noqa: E402

LIMIT_S, QUICK_LIMIT_S = 530, 175

SWEEP = """// Question: do batch, temperature and views sweep on this device?
Experiment(
    question: "Do batch, temperature and views sweep on this device?",
    dataset: Builtin,
    views: [RandomResizedCrop(scale: (0.5, 1.0)), HorizontalFlip(p: 0.5), Normalize(Cifar10)],
    train: (length: Epochs(1), batch: 64, temperature: 0.5),
    evaluate: [Knn(k: 5, temperature: 0.1)],
    seeds: [0, 1],
    sweep: [
        Axis("train.batch", [64, 128]),
        Axis("train.temperature", [0.1, 0.5]),
        Variants("views", {
            "crop": [RandomResizedCrop(scale: (0.5, 1.0)), Normalize(Cifar10)],
            "all": [
                RandomResizedCrop(scale: (0.08, 1.0)),
                HorizontalFlip(p: 0.5),
                ColorJitter(p: 0.8, strength: 0.5),
                Grayscale(p: 0.2),
                GaussianBlur(p: 0.5, sigma: (0.1, 2.0)),
                Normalize(Cifar10),
            ],
        }),
    ],
    table: (rows: ["train.batch", "train.temperature"], columns: "views", metric: "knn.top1"),
)
"""

LONG = """// Question: does a training that is killed on its way end with the bits of one that is not?
Experiment(
    question: "Does a training that is killed on its way end with the bits of one that is not?",
    dataset: Builtin(n_classes: 4, train_per_class: 160, test_per_class: 20, seed: 0),
    train: (
        length: Steps(%(steps)d),
        batch: %(batch)d,
        optimizer: Sgd(momentum: 0.9, weight_decay: 5e-4),
        schedule: Cosine,
        checkpoint_every: Steps(%(every)d),
    ),
    evaluate: [Knn(k: 5, temperature: 0.1)],
    seeds: [0],
)
"""

NUMERICS = """// Question: do bf16 and f32 give encoders of the same worth?
Experiment(
    question: "Do bf16 and f32 give encoders of the same worth?",
    dataset: %(dataset)s,
    views: [
        RandomResizedCrop(scale: (0.2, 1.0)),
        HorizontalFlip(p: 0.5),
        ColorJitter(p: 0.8, strength: 0.5),
        Grayscale(p: 0.2),
        Normalize(Cifar10),
    ],
    train: (
        length: Epochs(%(epochs)d),
        batch: 256,
        optimizer: Sgd(momentum: 0.9, weight_decay: 5e-4),
        schedule: Cosine,
    ),
    evaluate: [Knn(k: 200, temperature: 0.1), LinearProbe(epochs: 20)],
    seeds: [0, 1, 2],
    sweep: [Axis("train.numerics", [F32, Bf16])],
    table: (rows: ["train.numerics"], metric: "knn.top1"),
)
"""


class Part:
    """One part under way: where its answers go, and until when it may run."""

    def __init__(self, check, name, until):
        self.check, self.name, self.until = check, name, until
        self.result = {"status": "under way", "commands": [], "checks": []}

    def left_s(self):
        return self.until - time.monotonic()

    def ablate(self, *words, limit_s=None, must=True):
        return self.command([self.check.binary, *words], limit_s, must)

    def command(self, command, limit_s=None, must=True):
        """Runs and keeps the answer; with `must` a failure ends the part."""
        if self.left_s() < 1:
            raise NotMeasured("not measured: the part's time was spent")
        limit_s = min(limit_s or self.left_s(), self.left_s())
        log = os.path.join(self.check.out, "%s-%d" % (self.name, len(self.result["commands"]) + 1))
        answer = measuring.run(command, limit_s, log)
        self.keep(answer)
        if answer.is_unknown_command():
            words = " ".join(str(word) for word in command[1:3])
            raise NotMeasured("not measured: this binary does not know `ablate %s`" % words)
        if must and answer.failure():
            raise RuntimeError("`%s`: %s" % (" ".join(answer.command[1:]), run_failure(answer) or answer.failure()))
        return answer

    def keep(self, answer):
        self.result["commands"].append(answer.record())
        self.check.write()

    def expect(self, what, holds, details=None):
        self.result["checks"].append({"what": what, "holds": bool(holds), **({"details": details} if details else {})})


def run_failure(answer):
    """What the first failed run of a sweep says; None where no run failed."""
    parsed = answer.json()
    failed = parsed.get("summary", {}).get("failed") if isinstance(parsed, dict) else None
    return "%d runs failed, the first: %s" % (len(failed), failed[0]["message"]) if failed else None


def libraries(part):
    """What the program finds of driver and libraries: `ablate doctor --json`"""
    part.ablate("doctor", "--json")


def parity(part):
    """CPU = CUDA an operation and the whole, equal bits over repeats and neighbours: `ablate bench parity`"""
    quick = ["--quick"] if part.check.quick else []
    judges = [("operations", judge_operations), ("repeats", judge_repeats), ("whole", judge_whole), ("losses", judge_losses)]
    for index, (name, judge) in enumerate(judges):
        if part.left_s() < 3:
            part.expect("`bench parity --only %s` is measured" % name, False, "the part's time was spent")
            continue
        # One that hangs leaves time to the others.
        limit_s = part.left_s() / (len(judges) - index) * 1.5
        words = ["bench", "parity", "--only", name, "--device", "cuda", "--json", *quick]
        answer = part.ablate(*words, limit_s=limit_s, must=False)
        part.expect("`bench parity --only %s` ends well" % name, answer.failure() is None, answer.failure())
        if isinstance(answer.json(), dict):
            judge(part, answer.json())


def judge_operations(part, found):
    names = ("loss", "gradient", "features", "running")
    numbers = [(line["what"], name, line[name]) for line in found["operations"] for name in names]
    far = sorted((number for number in numbers if not number[2] <= 1e-5), key=lambda number: -number[2])
    told = "%d of %d numbers are not: %s" % (len(far), len(numbers), "; ".join("%s, %s %.1e" % number for number in far[:5]))
    part.expect("every operation in f32 within 1e-5 of the CPU's", numbers and not far, told if far else None)
    # A gradient that has come through a loss, a convolution and its norm, as the emulated device has it.
    far = [line["what"] for line in found["each_loss"]
           if not (max(line["loss"], line["features"], line["running"]) <= 1e-5 and line["gradient"] <= 5e-5)]
    part.expect("every loss in f32 within 1e-5 of the CPU's, its gradient within 5e-5", found["each_loss"] and not far, far)


def judge_repeats(part, found):
    part.expect("the same bits three times over and beside 1, 2 and 4 neighbours",
                found["bits_repeat"] and len(found["repeats"]) == 9, found["repeats"])


def judge_whole(part, found):
    part.result["cosines"] = lines = []
    for numerics, line in found["whole"]:
        median, worst, all_of_it = line["median_cosine"], line["worst_cosine"], 1 - line["gradient_angle"]
        lines.append({"what": line["what"], "numerics": numerics, "median": median, "worst": worst, "all": all_of_it})
        told = "all gradients %.5f, a parameter %.4f median, %.4f worst" % (all_of_it, median, worst)
        if numerics == "F32":
            part.expect("%s in f32: cosine of the gradients at least 0.999" % line["what"], all_of_it >= 0.999, told)
        else:
            # 0.02 below what PyTorch's autocast has at such weights: about 0.94 in the middle, 0.87 at worst.
            part.expect("%s in bf16: cosines at least 0.92 in the middle, 0.85 at worst" % line["what"],
                        median >= 0.92 and worst >= 0.85, told)


def judge_losses(part, found):
    curves = {numerics: losses for numerics, _, losses in found["losses"]}
    curves["cpu"] = found["losses"][0][1]
    part.result["losses"] = curves
    for first, second, most in (("F32", "cpu", None), ("Bf16", "F32", 0.01)):
        pairs = list(zip(curves.get(first, []), curves.get(second, [])))
        far = max([abs(a - b) / b if b else float("inf") for a, b in pairs], default=float("inf"))
        part.result["largest distance of losses, %s to %s" % (first, second)] = far
        if most:
            part.expect("losses of %d steps in bf16 within 1 %% of f32's" % len(pairs), far <= most, "%.2e" % far)


def sweep(part):
    """A sweep over batch, temperature and views to table and Parquet, and again with nothing computed"""
    file = part.check.experiment("gpu_sweep", SWEEP)
    results = part.check.folder("sweep")
    words = ["sweep", file, "--smoke", "--device", part.check.device, "--results", results, "--json", "--quiet"]
    first = part.ablate(*words).json() or {}
    summary = first.get("summary", {})
    part.expect("16 runs are computed", summary.get("computed") == 16, summary)
    cells = (first.get("table") or {}).get("cells", [])
    part.expect("the table has 8 cells, all with 2 values", [cell.get("n") for cell in cells] == [2] * 8)
    for name in ("gpu_sweep.parquet", "gpu_sweep.history.parquet"):
        path = os.path.join(results, "smoke", name)
        part.expect("`%s` is a Parquet file" % name, is_parquet(path))
    again = (part.ablate(*words).json() or {}).get("summary", {})
    part.expect("the second sweep computes nothing", (again.get("computed"), again.get("cached")) == (0, 16), again)
    part.result["table"] = part.ablate(
        "table", file, "--smoke", "--device", part.check.device, "--results", results, "--format", "markdown", must=False
    ).out
    part.check.reference_checkpoints = measuring.checkpoints(os.path.join(results, "smoke", "store"))


def is_parquet(path):
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    return len(content) > 8 and content[:4] == b"PAR1" == content[-4:]


def resume(part):
    """kill -9 between two runs and within one, then the same command again: equal checkpoint digests"""
    if part.check.reference_checkpoints:
        file = part.check.experiment("gpu_sweep", SWEEP)
        results = part.check.folder("killed-sweep")
        store = os.path.join(results, "smoke", "store")
        words = ["sweep", file, "--smoke", "--device", part.check.device, "--results", results, "--json", "--quiet", "--jobs", 2]
        again = killed_then_again(part, "sweep", words, lambda: len(measuring.checkpoints(store)) >= 3)
        part.expect("the second sweep computes what is missing alone", 0 < again.get("computed", 0) < 16, again)
        part.expect(
            "a sweep killed between runs, two at a time, ends with the checkpoints of one that was not",
            measuring.checkpoints(store) == part.check.reference_checkpoints,
        )
        shutil.rmtree(results, ignore_errors=True)
    else:
        part.result["note"] = "no sweep to compare with: `sweep` did not end or was left out"
    sizes = {"steps": 400, "batch": 256, "every": 40} if part.check.has_gpu else {"steps": 8, "batch": 16, "every": 2}
    file = part.check.experiment("gpu_long", LONG % sizes)
    stores = {}
    for name in ("whole", "killed"):
        results = part.check.folder("long-" + name)
        store = os.path.join(results, "store")
        words = ["sweep", file, "--device", part.check.device, "--results", results, "--json", "--quiet"]
        if name == "killed":
            killed_then_again(part, "training", words, lambda: any_file(os.path.join(store, "progress")))
        else:
            part.ablate(*words)
        stores[name] = measuring.checkpoints(store)
    part.expect(
        "a training killed behind a checkpoint ends with the bits of one that was not",
        len(stores["whole"]) == 1 and stores["whole"] == stores["killed"], stores,
    )


def any_file(folder):
    try:
        return any(not name.endswith(".tmp") for name in os.listdir(folder))
    except OSError:
        return False


def killed_then_again(part, what, words, is_time):
    """Kills as soon as `is_time` says so and runs the command to its end; the summary of that."""
    process = measuring.start([part.check.binary, *words])
    begin = time.monotonic()
    while process.poll() is None and not is_time() and part.left_s() > 1:
        time.sleep(0.002)
    was_time, was_running = is_time(), process.poll() is None
    measuring.kill(process)
    out, err = process.communicate()
    seconds = time.monotonic() - begin
    part.keep(measuring.Answer([part.check.binary, *words], process.returncode, out, err, seconds, False))
    part.expect("the %s is killed on its way" % what, was_time and was_running)
    return (part.ablate(*words).json() or {}).get("summary", {})


def train(part):
    """Pairs of views a second by stem, batch and numerics: `ablate bench train`"""
    if part.check.has_gpu:
        grid = [(stem, batch, numerics) for numerics in ("bf16", "f32") for batch in (256, 512, 1024, 4096)
                for stem in ("imagenet", "cifar")]
        grid = grid[:5] if part.check.quick else grid
    else:
        grid = [("imagenet", 256, "f32")]
    part.result["speeds"] = []
    for index, (stem, batch, numerics) in enumerate(grid):
        if part.left_s() < 3:
            left = ", ".join("%s %d %s" % line for line in grid[index:])
            part.result["note"] = "the part's time was spent before these were measured: " + left
            break
        speed(part, stem, batch, numerics)


def speed(part, stem, batch, numerics, *more):
    """One answer of `ablate bench train`; its pairs a second, or None with the reason kept."""
    words = ["--stem", stem, "--batch", batch, "--numerics", numerics, "--device", part.check.device, "--seconds", 2, *more]
    answer = part.ablate("bench", "train", *words, "--json", limit_s=45, must=False)
    pairs_per_s = None if answer.failure() else measuring.find_number(answer.json(), "pairs_per_s")
    line = {"stem": stem, "batch": batch, "numerics": numerics, "options": list(more), "pairs_per_s": pairs_per_s}
    if pairs_per_s is None:
        line["failure"] = answer.failure() or "the answer has no `pairs_per_s`"
        part.expect("`bench train` at %s, batch %d, %s" % (stem, batch, numerics), False, line["failure"])
    part.result.setdefault("speeds", []).append(line)
    return pairs_per_s


def numerics(part):
    """Encoders trained in bf16 and in f32, three seeds each, by k-NN and linear probe on the device"""
    data = part.check.arguments.data
    sizes = {"dataset": "Builtin(n_classes: 10, train_per_class: 400, test_per_class: 100, seed: 0)", "epochs": 10}
    if data:
        sizes = {"dataset": measuring.dataset(data), "epochs": 2 if part.check.quick else 5}
    file = part.check.experiment("gpu_numerics", NUMERICS % sizes)
    words = [file, "--device", part.check.device, "--results", part.check.folder("numerics"), "--json", "--quiet"]
    summary = (part.ablate("sweep", *words).json() or {}).get("summary", {})
    part.expect("6 runs are computed", summary.get("computed") == 6, summary)
    part.result["top1"] = means = {}
    for metric in ("knn.top1", "linear.top1"):
        table = part.ablate("table", *words[:-1], "--metric", metric).json() or {}
        means[metric] = {cell["labels"]["train.numerics"]: cell["mean"] for cell in table.get("cells", [])}
        known = [value for value in means[metric].values() if value is not None]
        part.expect("%s is known of both" % metric, len(known) == 2, means[metric])
        if metric == "knn.top1" and len(known) == 2 and data:
            far = abs(known[0] - known[1])
            part.expect("k-NN in bf16 within a point of f32", far <= 0.01, "%.2f points apart" % (100 * far))


def kernels(part):
    """Time of every kernel and its share of the floor, of both stems: `ablate bench kernels`"""
    for stem in ("imagenet", "cifar"):
        part.ablate("bench", "kernels", "--stem", stem, "--device", "cuda", "--json")


def jobs(part):
    """Several trainings at once on one GPU: `ablate bench train --jobs`"""
    for n_jobs in (1, 4) if part.check.quick else (1, 2, 4, 8):
        speed(part, "imagenet", 256, "bf16", "--jobs", n_jobs)


def opponent(part):
    """PyTorch on the same machine in the same minutes, both stems: the Lightly example, and a hand-tuned script"""
    script, python = part.check.arguments.opponent, part.check.arguments.python
    part.result["torch"] = measuring.opponent(script, python, min(60, part.left_s()))
    data = part.check.images()
    stems = ("imagenet", "cifar")
    step = ("tuned, step graph", ["tuned", data, "--graph", "step", "--precision", "bf16"], 3)
    example = ("Lightly example, 8 workers", ["seed", data, "--workers", "8", "--steps", "100"], 2)
    trees = ("tuned, graph trees", ["tuned", data, "--graph", "trees", "--precision", "bf16"], 3)
    # Compiling takes most of it: what matters most comes first, and nobody takes the time of all behind.
    modes = [(stem, *mode) for mode in (step, example, trees) for stem in stems]
    own = {stem: [speed(part, stem, 256, "bf16")] for stem in stems}
    part.result["opponents"] = lines = []
    for index, (stem, name, words, weight) in enumerate(modes):
        reserve_s = 12
        if part.left_s() < reserve_s + 5:
            lines.append({"stem": stem, "name": name, "failure": "the part's time was spent"})
            continue
        limit_s = (part.left_s() - reserve_s) * min(1, 2 * weight / sum(mode[3] for mode in modes[index:]))
        answer = part.command([python, script, *words, "--batch", "256", "--stem", stem], limit_s=limit_s, must=False)
        pairs_per_s = None if answer.failure() else measuring.find_number(answer.json(), "pairs_per_s")
        lines.append({"stem": stem, "name": name, "pairs_per_s": pairs_per_s, "failure": answer.failure()})
    for stem in stems:
        if part.left_s() > 3:
            own[stem].append(speed(part, stem, 256, "bf16"))
    for line in lines:
        measured = [value for value in own[line["stem"]] if value]
        if measured and line.get("pairs_per_s"):
            # The slower of the two, before and after: a ratio must not live on the better moment.
            line["ratio"] = min(measured) / line["pairs_per_s"]
    # Of the tuned ones the faster counts.
    part.result["to_the_faster_tuned"] = faster = {}
    for line in lines:
        if line["name"].startswith("tuned") and line.get("ratio"):
            faster[line["stem"]] = min(line["ratio"], faster.get(line["stem"], line["ratio"]))
    part.result["own_pairs_per_s"] = own
    part.expect("at least one opponent is measured", any(line.get("ratio") for line in lines))


# In the order they run; the seconds are shares of the limit, and of that of --quick. What one does not use is shared by
# those behind it.
PARTS = [
    (libraries, 5, 5), (parity, 80, 30), (sweep, 45, 40), (resume, 45, 35), (train, 90, 20), (kernels, 30, 12), (jobs, 30, 13),
    (numerics, 35, 0), (opponent, 170, 20),
]
NEED_GPU = (parity, kernels, jobs, numerics, opponent)


class Check:
    def __init__(self, arguments):
        self.arguments = arguments
        self.binary = os.path.abspath(arguments.binary)
        self.out = os.path.abspath(arguments.out)
        self.device, self.quick = arguments.device, arguments.quick
        self.machine = measuring.machine(self.binary)
        self.has_gpu = self.device == "cuda" and self.machine["gpu"] is not None
        self.work = tempfile.mkdtemp(prefix="gpu_check-", dir=arguments.work)
        self.results, self.reference_checkpoints, self.unpacked = {}, None, None

    def folder(self, name):
        path = os.path.join(self.work, name)
        os.makedirs(path, exist_ok=True)
        return path

    def experiment(self, name, text):
        path = os.path.join(self.work, name + ".ron")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def images(self):
        """The folder of images the opponent reads."""
        if self.unpacked is None:
            self.unpacked = measuring.images(self.arguments.data, self.folder("images"))
        return self.unpacked

    def report(self):
        return {
            "schema": "ablate.gpu_check/1", "machine": self.machine, "binary": self.arguments.version,
            "device": self.device, "quick": self.quick, "parts": self.results,
        }

    def write(self):
        measuring.write_json(os.path.join(self.out, "gpu_check.json"), self.report())

    def run(self, chosen, limit_s):
        end = time.monotonic() + limit_s
        # Without a GPU the time belongs to what can be measured.
        share_of = {function: 0 if self.lacks_gpu(function) else share for function, share in chosen}
        for index, (function, _) in enumerate(chosen):
            shares_left = sum(share_of[later] for later, _ in chosen[index:])
            begin = time.monotonic()
            own_s = (end - begin) * share_of[function] / max(shares_left, 1)
            part = Part(self, function.__name__, begin + own_s)
            self.results[part.name] = part.result
            part.result["status"] = self.outcome(function, part)
            part.result["seconds"] = round(time.monotonic() - begin, 2)
            self.write()
            print("%-10s %6.1f s  %s" % (part.name, part.result["seconds"], part.result["status"]), flush=True)

    def lacks_gpu(self, function):
        return not self.has_gpu and function is not libraries and (function in NEED_GPU or self.device == "cuda")

    def outcome(self, function, part):
        if self.lacks_gpu(function):
            return NO_GPU
        try:
            function(part)
        except NotMeasured as reason:
            return str(reason)
        except Exception as error:  # One part's fault is no other's.
            part.result["trace"] = traceback.format_exc()[-1500:]
            return "failed: %s" % error
        broken = [
            check["what"] + (": %s" % check["details"] if isinstance(check.get("details"), str) else "")
            for check in part.result["checks"] if not check["holds"]
        ]
        return "failed: %s" % "; ".join(broken) if broken else "measured"


def markdown(report):
    """A section for benches/RESULTS.md."""
    machine, parts = report["machine"], report["parts"]
    card = machine["gpu"]
    title = "%s, driver %s" % (card["name"], card["driver"]) if card else "no GPU, %s" % machine["processor"]
    lines = ["## %s · %s" % (machine["date"], title), ""]
    lines += ["`%s`, `--device %s`%s, %s with %s cores." % (
        report["binary"], report["device"], ", quick" if report["quick"] else "", machine["processor"], machine["cores"])]
    lines += ["", "| part | time | outcome |", "|---|---|---|"]
    lines += ["| %s | %.0f s | %s |" % (name, part.get("seconds", 0), cell(part["status"])) for name, part in parts.items()]
    versions = [command.get("answer") for command in parts.get("libraries", {}).get("commands", [])]
    versions = [answer for answer in versions if isinstance(answer, dict)]
    if versions:
        flat = ", ".join("%s %s" % (key, value) for key, value in versions[0].items() if not isinstance(value, (dict, list)))
        lines += ["", "Libraries, as `ablate doctor --json` reports them: %s." % (flat or "see gpu_check.json")]
    for name in ("train", "jobs"):
        speeds = [line for line in parts.get(name, {}).get("speeds", []) if line.get("pairs_per_s")]
        if speeds:
            lines += ["", "| stem | batch | numerics | options | pairs/s | ms a step (batch / pairs/s) |"]
            lines += ["|---|---|---|---|---|---|"]
            lines += ["| %s | %d | %s | %s | %.0f | %s |" % (
                line["stem"], line["batch"], line["numerics"], " ".join(str(word) for word in line["options"]),
                line["pairs_per_s"], "" if line["options"] else "%.2f" % (1000 * line["batch"] / line["pairs_per_s"]),
            ) for line in speeds]
    lines += kernel_lines(parts.get("kernels", {}))
    lines += check_lines(parts)
    rivals = parts.get("opponent", {})
    if rivals.get("opponents"):
        own = "; ".join(
            "%s %s" % (stem, ", ".join("%.0f" % value if value else "not measured" for value in values))
            for stem, values in rivals.get("own_pairs_per_s", {}).items())
        lines += ["", "PyTorch %s in the same minutes, batch 256; `ablate` in bf16 before and after: %s pairs/s "
                  "(the slower one counts); the Lightly example computes in f32." % (rivals.get("torch"), own), ""]
        lines += ["| stem | opponent | pairs/s | `ablate` to it |", "|---|---|---|---|"]
        for line in rivals["opponents"]:
            value = line.get("pairs_per_s")
            lines.append("| %s | %s | %s | %s |" % (
                line["stem"], line["name"], "%.0f" % value if value else "not measured: %s" % cell(line.get("failure") or ""),
                "%.2f" % line["ratio"] if line.get("ratio") else ""))
        faster = ", ".join("%s %.2f" % pair for pair in rivals.get("to_the_faster_tuned", {}).items())
        lines += ["", "`ablate` to the faster tuned one: %s." % (faster or "not measured")]
    return "\n".join(lines) + "\n"


def kernel_lines(part):
    """The ten kernels of each stem that take the most time, with their shares of the floor."""
    lines = []
    for command in part.get("commands", []):
        answer = command.get("answer")
        if not isinstance(answer, dict) or "step" not in answer:
            continue
        step = answer["step"]
        in_all_us = sum(kernel["total_us"] for kernel in step["kernels"])
        lines += ["", "Kernels of a step, %s stem, batch %d, %s: %.0f us in one recording without views, %.0f us one by one; "
                  "a copy moves %.0f GB/s, products of %.0f (f32) and %.0f GFLOP/s (bf16) are the peak." % (
                      answer["stem"], answer["batch"], answer["numerics"], step["step_us"], in_all_us, step["peaks"]["gb_per_s"],
                      step["peaks"]["f32_gflop_per_s"], step["peaks"]["bf16_gflop_per_s"]), ""]
        lines += ["| kernel | in a step | us | share of the floor |", "|---|---|---|---|"]
        lines += ["| %s | %d | %.1f | %s |" % (
            kernel["what"], kernel["count"], kernel["total_us"],
            "%.0f %%" % (100 * kernel["share"]) if kernel.get("share") is not None else "",
        ) for kernel in step["kernels"][:10]]
    return lines


def check_lines(parts):
    """What was held to be so, and whether it is."""
    checks = [(name, check) for name, part in parts.items() for check in part.get("checks", [])]
    lines = ["", "| part | expected | holds |", "|---|---|---|"] if checks else []
    for name, check in checks:
        details = check.get("details")
        told = " (%s)" % cell(details) if isinstance(details, str) else ""
        lines.append("| %s | %s%s | %s |" % (name, cell(check["what"]), told, "yes" if check["holds"] else "**no**"))
    return lines


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/ablate", help="the program, built elsewhere if need be")
    parser.add_argument("--out", default="target/gpu-check", metavar="DIR", help="where the report and the answers go")
    parser.add_argument("--markdown", metavar="FILE", help="where the section for RESULTS.md goes [default: DIR/gpu_check.md]")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: only what makes sense there")
    parser.add_argument("--quick", action="store_true", help="within 3 minutes instead of 9")
    parser.add_argument("--only", metavar="PARTS", help="some parts, separated by commas; they share the whole time")
    parser.add_argument("--limit", type=float, metavar="S", help="seconds for all parts together")
    parser.add_argument("--opponent", metavar="FILE", help="simclr_torch.py; without it the opponent is passed over")
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--data", metavar="PATH", help="CIFAR-10 as folders of images, or a .tar.xz of them, for the opponent")
    parser.add_argument("--work", metavar="DIR", help="where temporary stores lie [default: the system's]")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    return parser.parse_args()


def main():
    arguments = parse()
    shares = [(function, quick if arguments.quick else whole) for function, whole, quick in PARTS]
    if arguments.only:
        # Whoever is asked for by name has a share.
        shares = [(function, max(share, 5)) for function, share in shares]
    names = {function.__name__: (function, share) for function, share in shares if share > 0}
    if arguments.list:
        limit_s = QUICK_LIMIT_S if arguments.quick else LIMIT_S
        for function, share in names.values():
            seconds = share * limit_s // sum(share for _, share in names.values())
            print("%-10s %4d s  %s" % (function.__name__, seconds, function.__doc__))
        return 0
    wanted = arguments.only.split(",") if arguments.only else list(names)
    unknown = [name for name in wanted if name not in names]
    if unknown:
        print("no such part: %s; there are %s" % (", ".join(unknown), ", ".join(names)), file=sys.stderr)
        return 2
    version = measuring.run([arguments.binary, "--version"], 20)
    if version.code != 0:
        print("`%s --version` fails: %s" % (arguments.binary, version.failure()), file=sys.stderr)
        return 2
    arguments.version = version.out.strip()
    os.makedirs(arguments.out, exist_ok=True)
    check = Check(arguments)
    try:
        limit_s = arguments.limit or (QUICK_LIMIT_S if arguments.quick else LIMIT_S)
        check.run([entry for name, entry in names.items() if name in wanted], limit_s)
        path = arguments.markdown or os.path.join(check.out, "gpu_check.md")
        with open(path, "w", encoding="utf-8") as file:
            file.write(markdown(check.report()))
    finally:
        shutil.rmtree(check.work, ignore_errors=True)
    return 1 if any(part["status"].startswith("failed") for part in check.results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
