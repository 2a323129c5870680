"""Values and gradients of the losses in f64, written to losses.json beside this file.

NT-Xent, DCL, DCLW and the memory bank are Lightly's own modules; NT-Logistic and the margin triplet are table 2 of the
SimCLR paper written out in PyTorch, the semi-hard negative chosen without a gradient. Inputs are `values(seed, n · d)` of
`src/ops/nt_xent/golden.rs`, times `scale`; the second view is 0.6 × the first plus its own values, so that positives
stand out. Run: python tests/golden/losses.py (PyTorch, Lightly).
"""

import json
import pathlib
import warnings

import lightly
import torch
import torch.nn.functional as F
from lightly.loss import DCLLoss, DCLWLoss, NTXentLoss

warnings.filterwarnings("ignore")
MASK = (1 << 64) - 1


def values(seed, n, scale):
    out = []
    for index in range(n):
        z = (((seed << 32) + index + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(((z ^ (z >> 31)) >> 40) / float(1 << 23) - 1.0)
    return torch.tensor(out, dtype=torch.float64) * scale


def views(case):
    n, d, scale = case["n"], case["d"], case["scale"]
    first = values(case["seed"], n * d, scale)
    second = 0.6 * first + values(case["seed"] + 1, n * d, scale)
    as_f32 = lambda x: x.to(torch.float32).to(torch.float64).reshape(n, d).requires_grad_()
    return as_f32(first), as_f32(second)


def nt_xent_of_products(first, second, temperature):
    z = torch.cat([first, second])
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(first)))


def triples(first, second, term, semi_hard, lowest):
    """Mean over anchors of both views; negatives are the other images of the other view."""
    z = [F.normalize(first), F.normalize(second)]
    n, total = len(first), 0.0
    for own, other in [(0, 1), (1, 0)]:
        s = z[own] @ z[other].T
        for i in range(n):
            positive = s[i, i]
            negatives = [j for j in range(n) if j != i]
            if semi_hard:
                ok = [j for j in negatives if lowest(positive).item() < s[i, j].item() < positive.item()]
                negatives = [max(ok, key=lambda j: s[i, j].item())] if ok else []
            total = total + term(positive, s[i, negatives])
    return total / (2 * n)


def logistic(temperature):
    def term(positive, negatives):
        loss = F.softplus(-positive / temperature, threshold=1e9)
        return loss + F.softplus(negatives / temperature, threshold=1e9).mean() if len(negatives) else loss

    return term


def margin_triplet(margin):
    def term(positive, negatives):
        return torch.clamp(negatives - positive + margin, min=0).mean() if len(negatives) else positive * 0

    return term


def bank_rows(case):
    rows = values(case["bank_seed"], case["size"] * case["d"], 1.0).reshape(case["size"], case["d"])
    return F.normalize(rows).to(torch.float32)


def loss_of(case):
    kind, temperature = case["kind"], case["temperature"]
    first, second = views(case)
    if kind == "NtXent":
        if case["normalize"]:
            return first, second, case["factor"] * NTXentLoss(temperature)(first, second)
        return first, second, case["factor"] * nt_xent_of_products(first, second, temperature)
    if kind == "Dcl":
        return first, second, DCLLoss(temperature)(first, second)
    if kind == "Dclw":
        return first, second, DCLWLoss(temperature, sigma=case["sigma"])(first, second)
    if kind == "NtLogistic":
        lowest = lambda positive: positive - 9.0
        return first, second, triples(first, second, logistic(temperature), case["semi_hard"], lowest)
    if kind == "MarginTriplet":
        margin = case["margin"]
        lowest = lambda positive: positive - margin
        return first, second, triples(first, second, margin_triplet(margin), case["semi_hard"], lowest)
    module = NTXentLoss(temperature, memory_bank_size=(case["size"], case["d"]))
    module.memory_bank.bank = bank_rows(case).to(torch.float64)
    loss = module(first, second)
    case["bank_sum"] = module.memory_bank.bank.sum().item()
    return first, second, loss


def probe(gradient):
    flat = gradient.reshape(-1)
    index = sorted({0, 1, len(flat) // 3, len(flat) // 2, len(flat) - 1})
    return {
        "norm": flat.norm().item(),
        "sum": flat.sum().item(),
        "index": index,
        "value": [flat[i].item() for i in index],
    }


def cases():
    sizes = [(3, 4, 0.5, 1.0), (16, 8, 0.1, 3.0), (150, 20, 0.2, 0.01), (8, 128, 1.0, 100.0)]
    kinds = [
        {"kind": "NtXent", "normalize": True, "factor": 2.0},
        {"kind": "Dcl"},
        {"kind": "Dclw", "sigma": 0.5},
        {"kind": "Dclw", "sigma": 0.1},
        {"kind": "NtLogistic", "semi_hard": False},
        {"kind": "NtLogistic", "semi_hard": True},
        {"kind": "MarginTriplet", "margin": 0.4, "semi_hard": False},
        {"kind": "MarginTriplet", "margin": 0.8, "semi_hard": True},
        {"kind": "NtXentMemoryBank", "size": 40, "bank_seed": 900},
        {"kind": "NtXentMemoryBank", "size": 300, "bank_seed": 901},
    ]
    for number, (n, d, temperature, scale) in enumerate(sizes):
        for kind in kinds:
            yield {**kind, "n": n, "d": d, "temperature": temperature, "scale": scale, "seed": 100 + 10 * number}
    for n, d, temperature, scale in [(3, 4, 10.0, 1.0), (150, 20, 100.0, 5.0), (8, 128, 10.0, 2.0)]:
        yield {
            "kind": "NtXent", "normalize": False, "factor": 1.0,
            "n": n, "d": d, "temperature": temperature, "scale": scale, "seed": 200,
        }


def main():
    found = []
    for case in cases():
        first, second, loss = loss_of(case)
        loss.backward()
        found.append({**case, "loss": loss.item(), "grad_view0": probe(first.grad), "grad_view1": probe(second.grad)})
    versions = {"torch": torch.__version__, "lightly": lightly.__version__}
    path = pathlib.Path(__file__).with_name("losses.json")
    lines = ",\n".join(json.dumps(case) for case in found)
    path.write_text('{"versions": %s, "cases": [\n%s\n]}\n' % (json.dumps(versions), lines))


main()
