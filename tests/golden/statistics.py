#!/usr/bin/env python3
"""Writes statistics.json, the values that the tests of src/report/statistics are held against: SciPy's, and for Holm's
correction those of its definition. Run: python3 tests/golden/statistics.py > tests/golden/statistics.json"""
import json
import sys
import warnings

import numpy
import scipy
from scipy import stats

warnings.simplefilter("error")
random = numpy.random.default_rng(1)

SAMPLES = {
    "two seeds": [0.512, 0.547],
    "three seeds": [0.6123, 0.6187, 0.6011],
    "five seeds": [0.6123, 0.6187, 0.6011, 0.6144, 0.6098],
    "six seeds, skewed": [4.1, 4.15, 4.12, 4.9, 4.11, 4.2],
    "twelve": [round(value, 6) for value in random.normal(0.7, 0.01, 12).tolist()],
    "forty, skewed": [round(value, 6) for value in random.exponential(1.0, 40).tolist()],
}
DIFFERENCES = {
    "two pairs": [0.02, -0.01],
    "all of one sign": [0.061, 0.048, 0.074, 0.055, 0.066, 0.059],
    "mixed": [0.01, -0.004, 0.007, 0.002, -0.001, 0.009, 0.003],
    "ties": [0.1, 0.1, -0.1, 0.1, 0.2, -0.2],
    "no difference": [0.0, 0.0, 0.0],
    "sixteen": [round(value, 6) for value in random.normal(0.004, 0.01, 16).tolist()],
}
McNEMAR = [[0, 0], [1, 0], [0, 7], [5, 5], [6, 5], [3, 14], [120, 151], [1043, 1127], [4000, 3900]]
P_VALUES = [[0.01], [0.03, 0.01, 0.04], [0.2, 0.5, 0.9], [0.015625, 0.03125, 0.03125, 1.0], [0.5, 0.001, 0.001, 0.04, 0.2]]


def t_interval(values):
    mean, error = numpy.mean(values), stats.sem(values)
    return list(stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error))


def in_order(values):
    """A mean whose sum runs in the order of the values; newer Pythons' `sum` of floats does not."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def bca(values):
    """SciPy's interval of a given distribution of means; equal resamples get equal means, as the program counts them."""
    n = len(values)
    counts = random.multinomial(n, [1 / n] * n, 199)
    means = [in_order([value * int(count) for value, count in zip(values, row)]) for row in counts]

    def statistic(x, axis=-1):
        return numpy.apply_along_axis(lambda row: in_order(row.tolist()), axis, x)

    given = stats._resampling.BootstrapResult(None, numpy.array(means), None)
    result = stats.bootstrap((values,), statistic, n_resamples=0, bootstrap_result=given, method="BCa", axis=-1)
    interval = result.confidence_interval
    return {"means": means, "interval": [interval.low, interval.high]}


def sign_flip_p(differences):
    zeros = numpy.zeros(len(differences))
    statistic = lambda x, y, axis: numpy.mean(x - y, axis=axis)
    test = stats.permutation_test((differences, zeros), statistic, permutation_type="samples", vectorized=True,
                                  n_resamples=numpy.inf, alternative="two-sided")
    return float(test.pvalue)


def holm(p_values):
    """Holm (1979): the largest of (m - j + 1) p_(j) over all j up to the value's rank, at most 1."""
    ordered, m = sorted(p_values), len(p_values)
    return [min(1.0, max((m - j) * ordered[j] for j in range(m) if ordered[j] <= p)) for p in p_values]


golden = {
    "versions": {"python": sys.version.split()[0], "numpy": numpy.__version__, "scipy": scipy.__version__},
    "samples": {name: {"values": values, "mean": float(numpy.mean(values)), "std": float(numpy.std(values, ddof=1)),
                       "t": t_interval(values), "bca": bca(values)} for name, values in SAMPLES.items()},
    "sign_flip": {name: {"differences": values, "p": sign_flip_p(values)} for name, values in DIFFERENCES.items()},
    "mcnemar": [{"only_first": a, "only_second": b, "p": stats.binomtest(a, a + b).pvalue if a + b else 1.0}
                for a, b in McNEMAR],
    "holm": [{"p": p_values, "adjusted": holm(p_values)} for p_values in P_VALUES],
    "normal": [{"p": p, "z": float(stats.norm.ppf(p))} for p in [1e-12, 1e-4, 0.025, 0.3, 0.5, 0.6, 0.975, 0.9999]],
}
print(json.dumps(golden))
