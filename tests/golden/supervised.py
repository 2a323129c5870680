"""Cross entropy and its gradient in f64, written to supervised.json beside this file.

PyTorch's own `torch.nn.functional.cross_entropy`, mean over all views. Logits are `values(seed, n_views · images · classes)` of
`src/ops/nt_xent/golden.rs`, times `scale`, in f32; image i has the label (3 · i + 1) mod classes, in each of its views.
Run: python tests/golden/supervised.py (PyTorch).
"""

import json
import pathlib

import torch
import torch.nn.functional as F

MASK = (1 << 64) - 1


def values(seed, n, scale):
    out = []
    for index in range(n):
        z = (((seed << 32) + index + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out.append(((z ^ (z >> 31)) >> 40) / float(1 << 23) - 1.0)
    return torch.tensor(out, dtype=torch.float64) * scale


def solved(case):
    views, images, classes = case["views"], case["images"], case["classes"]
    logits = values(case["seed"], views * images * classes, case["scale"])
    logits = logits.to(torch.float32).to(torch.float64).reshape(views * images, classes).requires_grad_()
    labels = torch.tensor([(3 * i + 1) % classes for i in range(images)]).repeat(views)
    loss = F.cross_entropy(logits, labels, label_smoothing=case["label_smoothing"])
    loss.backward()
    gradient = logits.grad.reshape(-1)
    index = sorted({0, 1, len(gradient) // 3, len(gradient) // 2, len(gradient) - 1})
    return {
        **case,
        "loss": loss.item(),
        "norm": gradient.norm().item(),
        "index": index,
        "value": [gradient[i].item() for i in index],
    }


def main():
    sizes = [(2, 5, 10, 1.0), (1, 7, 3, 8.0), (2, 40, 100, 30.0), (1, 3, 2, 0.01), (2, 2, 10, 200.0), (1, 4, 1, 1.0)]
    cases = [
        {"views": v, "images": n, "classes": c, "scale": s, "label_smoothing": e, "seed": 300 + number}
        for number, (v, n, c, s) in enumerate(sizes)
        for e in (0.0, 0.1)
    ]
    lines = ",\n".join(json.dumps(solved(case)) for case in cases)
    path = pathlib.Path(__file__).with_name("supervised.json")
    path.write_text('{"versions": %s, "cases": [\n%s\n]}\n' % (json.dumps({"torch": torch.__version__}), lines))


main()
