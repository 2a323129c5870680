"""Writes health.json: RankMe, feature spread, alignment and uniformity by NumPy's SVD and PyTorch, and a majority vote by
scikit-learn, on pseudo-random features that f32 holds exactly. Run in this folder."""

import json

import numpy as np
import sklearn
import torch
from sklearn.neighbors import KNeighborsClassifier

MASK = (1 << 64) - 1


def values(seed, n, scale):
    """splitmix64 of seed * 2**32 + index, its top 24 bits, in [-1, 1)."""
    out = np.empty(n)
    for index in range(n):
        z = ((seed << 32) + index + 1) * 0x9E3779B97F4A7C15 & MASK
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        out[index] = ((z ^ (z >> 31)) >> 40) / (1 << 23) - 1.0
    return (out * scale).astype(np.float32)


def features(seed, n, width, rank):
    """Full rank where rank is 0, else a product of n x rank and rank x width; column j is scaled by 1/(1 + j)."""
    if rank == 0:
        return values(seed, n * width, 1.0).reshape(n, width) / (1.0 + np.arange(width, dtype=np.float32))
    left = values(seed, n * rank, 1.0).reshape(n, rank).astype(np.float64)
    right = values(seed + 1, rank * width, 1.0).reshape(rank, width).astype(np.float64)
    return (left @ right).astype(np.float32)


def rankme(z):
    """Garrido et al. 2023, equation 1."""
    s = np.linalg.svd(z.astype(np.float64), compute_uv=False)
    p = s / s.sum() + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def uniformity(x):
    """Wang and Isola 2020, their `uniform_loss`."""
    return torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log().item()


cases = []
for seed, n, width, rank in [(600, 200, 12, 0), (610, 30, 50, 0), (620, 300, 40, 5), (630, 40, 1, 0), (640, 2, 3, 0)]:
    plain = features(seed, n, width, rank)
    views = [features(seed + 2, n, width, rank), features(seed + 4, n, width, rank)]
    x, y = (torch.nn.functional.normalize(torch.from_numpy(v).double(), dim=1) for v in views)
    unit = torch.nn.functional.normalize(torch.from_numpy(plain).double(), dim=1)
    cases.append(
        {
            "seed": seed,
            "n": n,
            "width": width,
            "rank": rank,
            "rankme": rankme(plain),
            "feature_std": float(width**0.5 * unit.std(dim=0, correction=0).mean()),
            "alignment": float((x - y).norm(dim=1).pow(2).mean()),
            "uniformity": (uniformity(x) + uniformity(y)) / 2,
        }
    )

n_bank, n_query, width, n_classes, k = 300, 80, 16, 7, 10
centres = values(700, n_classes * width, 1.0).reshape(n_classes, width)
labels = np.arange(n_bank) % n_classes
bank = values(701, n_bank * width, 2.0).reshape(n_bank, width) + centres[labels]
queries = values(702, n_query * width, 2.0).reshape(n_query, width) + centres[np.arange(n_query) % n_classes]
vote = KNeighborsClassifier(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank, labels).predict(queries)
majority = {
    "n_bank": n_bank,
    "n_query": n_query,
    "width": width,
    "n_classes": n_classes,
    "k": k,
    "prediction": [int(label) for label in vote],
}
versions = {"numpy": np.__version__, "torch": torch.__version__, "scikit-learn": sklearn.__version__}
with open("health.json", "w") as file:
    json.dump({"versions": versions, "health": cases, "majority": majority}, file)
    file.write("\n")
