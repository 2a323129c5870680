"""Writes fine_tune.json: a whole fine-tuning by PyTorch in f64, for `FineTune` of `src/evaluate/fine_tune.rs`.

    python -P tests/golden/fine_tune.py

`-P` keeps `statistics.py` beside it from being taken for Python's own.

torchvision's `resnet18` from weights and running statistics that are not fresh, its `fc` zeros; `torch.optim.SGD` with
Nesterov momentum, weight decay in the group of weights alone, `CosineAnnealingLR` stepped every step, `cross_entropy` in
training mode; then the test images in evaluation mode. All numbers are splitmix64 at seed * 2^32 + index, its upper 24
bits as a number in [-1, 1): parameter p has seed 1000 + p, running statistic b has 2000 + b, image i of the training and
test part 3000 + i and 4000 + i, the colour of class c 5000 + c. Which images have labels, and in which order an epoch sees
them, comes from Philox4x32-10 at the addresses of `src/random.rs`.
"""

import json
from pathlib import Path

import numpy
import torch
import torchvision

SIDE = 32
N_CLASSES = 5
N_TRAIN = 40
N_TEST = 30
MEAN = [0.5, 0.45, 0.4]
STD = [0.25, 0.2, 0.3]
TUNING = {
    "epochs": 4,
    "batch": 16,
    "learning_rate": 0.04,
    "momentum": 0.9,
    "weight_decay": 0.5,
    "seed": 11,
    "labels": 0.6,
}
FEW_LABELS, FINE_TUNE = 16, 17


def uniform(seed, n):
    with numpy.errstate(over="ignore"):
        z = (numpy.uint64(seed << 32) + numpy.arange(1, n + 1, dtype=numpy.uint64)) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z ^= z >> numpy.uint64(31)
    return (z >> numpy.uint64(40)).astype(numpy.float64) / 2.0**23 - 1.0


def philox(counter, key):
    (a, b, c, d), (k, l) = counter, key
    for _ in range(10):
        first, second = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = second >> 32 ^ b ^ k, second & 0xFFFFFFFF, first >> 32 ^ d ^ l, first & 0xFFFFFFFF
        k, l = (k + 0x9E3779B9) & 0xFFFFFFFF, (l + 0xBB67AE85) & 0xFFFFFFFF
    return [a, b, c, d]


def permutation(n, purpose, epoch=0, example=0):
    draws = (word for block in range(n) for word in philox([example, epoch, purpose << 24, block], [TUNING["seed"], 0]))
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        chosen = next(draws) * (last + 1) >> 32
        order[last], order[chosen] = order[chosen], order[last]
    return order


def train_label(index):
    return (3 * index + 1) % N_CLASSES


def test_label(index):
    return 2 * index % N_CLASSES


def image(seed, label):
    """Channels first, normalised: noise around the colour of a class, in 8 bits."""
    noise = uniform(seed, 3 * SIDE * SIDE).reshape(SIDE, SIDE, 3)
    pixels = numpy.floor(128.0 + 60.0 * noise + 50.0 * uniform(5000 + label, 3)).astype(numpy.uint8)
    return ((pixels / 255.0 - MEAN) / STD).transpose(2, 0, 1)


def images(seeds_and_labels):
    return torch.from_numpy(numpy.stack([image(seed, label) for seed, label in seeds_and_labels]))


def labelled():
    chosen = []
    for label in range(N_CLASSES):
        own = [index for index in range(N_TRAIN) if train_label(index) == label]
        n = round(TUNING["labels"] * len(own))
        chosen += [own[place] for place in permutation(len(own), FEW_LABELS, example=label)[:n]]
    return sorted(chosen)


def start():
    model = torchvision.models.resnet18(num_classes=N_CLASSES).double()
    for index, (name, parameter) in enumerate(model.named_parameters()):
        u = uniform(1000 + index, parameter.numel()).reshape(parameter.shape)
        if name.startswith("fc."):
            value = 0 * u
        elif parameter.dim() > 1:
            value = u * numpy.sqrt(6 / numpy.prod(parameter.shape[1:]))
        else:
            value = 1 + u / 4 if name.endswith("weight") else u / 4
        # The other side begins from f32.
        parameter.data = torch.from_numpy(value.astype(numpy.float32).astype(numpy.float64))
    statistics = [(name, buffer) for name, buffer in model.named_buffers() if "running" in name]
    for index, (name, buffer) in enumerate(statistics):
        u = uniform(2000 + index, buffer.numel()) / 4
        value = 1 + u if name.endswith("var") else u
        buffer.copy_(torch.from_numpy(value.astype(numpy.float32).astype(numpy.float64)))
    return model


def optimizer(model):
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": weights, "weight_decay": TUNING["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    rate = TUNING["learning_rate"] * TUNING["batch"] / 256
    return torch.optim.SGD(groups, lr=rate, momentum=TUNING["momentum"], nesterov=True)


def probe(values):
    flat = values.reshape(-1)
    index = sorted({int(i) for i in numpy.linspace(0, flat.numel() - 1, 4)})
    return {
        "norm": float(f"{float(flat.norm()):.9g}"),
        "index": index,
        "value": [float(f"{float(flat[i]):.9g}") for i in index],
    }


def named(name):
    return name if name.startswith("fc.") else f"backbone.{name}"


def main():
    torch.set_num_threads(1)
    model, examples, batch = start(), labelled(), TUNING["batch"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    order = [examples[place] for epoch in range(TUNING["epochs"]) for place in permutation(len(examples), FINE_TUNE, epoch)]
    n_steps = len(order) // batch
    sgd = optimizer(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=n_steps)
    steps = []
    model.train()
    for step in range(n_steps):
        seen = order[step * batch : (step + 1) * batch]
        logits = model(images((3000 + index, train_label(index)) for index in seen))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([train_label(index) for index in seen]))
        sgd.zero_grad()
        loss.backward()
        steps.append({"loss": loss.item(), "learning_rate": sgd.param_groups[0]["lr"]})
        sgd.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        logits = model(images((4000 + index, test_label(index)) for index in range(N_TEST)))
    state = model.state_dict()
    tuned = [name for name in state if not name.endswith("num_batches_tracked")]
    golden = {
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "data": {"side": SIDE, "classes": N_CLASSES, "train": N_TRAIN, "test": N_TEST, "mean": MEAN, "std": STD},
        "tuning": TUNING,
        "steps": steps,
        "moved": {named(name): probe(state[name] - before[name]) for name in tuned},
        "logits": [float(f"{float(logit):.9g}") for logit in logits.reshape(-1)],
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


main()
