"""Studies whose answer is known by construction, and how often each method calls equal variants different.

A value is the variant's own level, plus what its prompt and render seed do to every variant alike, plus the luck of its
training seed (shared by all pictures of one adapter, and in part by all variants of the same training seed), plus what
is left for each picture. `python -m tests.statistics.twins` prints the figures of docs/statistics.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from limner.statistics import Estimated, compare, compare_with_base, correct, rank_trend

PROMPTS, RENDER_SEEDS = ("garden", "street", "pencil", "night"), (1, 2)
CELLS = [(prompt, seed, 0) for prompt in PROMPTS for seed in RENDER_SEEDS]
BETWEEN_SEEDS, SHARED_BY_SEED, BETWEEN_PICTURES = 0.03, 0.02, 0.04  # standard deviations, in cosines

Study = dict[str, dict[int, dict[tuple[str, int, int], float]]]


def draw_study(
    rng: np.random.Generator, levels: Mapping[str, float], training_seeds: int = 3, *, same_seeds: bool = True
) -> Study:
    """Values by variant, training seed and cell; without `same_seeds` every variant has training seeds of its own."""
    of_cell = rng.normal(0, 0.08, len(CELLS))
    shared = rng.normal(0, SHARED_BY_SEED, training_seeds)
    study: Study = {}
    for place, (name, level) in enumerate(levels.items()):
        common = shared if same_seeds else rng.normal(0, SHARED_BY_SEED, training_seeds)
        luck = common + rng.normal(0, BETWEEN_SEEDS, training_seeds)
        values = level + of_cell + luck[:, None] + rng.normal(0, BETWEEN_PICTURES, (training_seeds, len(CELLS)))
        first = 0 if same_seeds else place * training_seeds
        study[name] = {first + seed: dict(zip(CELLS, row.tolist(), strict=True)) for seed, row in enumerate(values)}
    return study


def ours(study: Study) -> bool:
    """Whether limner calls the first two variants different."""
    first, second = list(study.values())[:2]
    return _shown(compare(first, second))


def any_pair(study: Study) -> bool:
    """Whether limner calls any pair of the family different."""
    return any(map(_shown, correct([compare(a, b) for a, b in itertools.combinations(study.values(), 2)])))


def any_pair_uncorrected(study: Study) -> bool:
    """The same without a correction."""
    return any(_shown(compare(a, b)) for a, b in itertools.combinations(study.values(), 2))


def trend(study: Study) -> bool:
    """Whether limner sees a trend over the ranks 1, 4, 16, 64 that the variants stand for."""
    return _shown(rank_trend(dict(zip((1, 4, 16, 64), study.values(), strict=False))))


def percentile_bootstrap(study: Study, draws: int = 500) -> bool:
    """Whether a percentile bootstrap over training seeds calls the first two different: what must not be done."""
    first, second = list(study.values())[:2]
    means = np.array([np.mean([first[s][c] - second[s][c] for c in CELLS]) for s in first])
    rng = np.random.default_rng(0)
    drawn = means[rng.integers(0, len(means), (draws, len(means)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return not low <= 0 <= high


def pictures_as_if_independent(study: Study) -> bool:
    """Whether a paired t over all pictures, training seeds forgotten, does: what must not be done either."""
    first, second = list(study.values())[:2]
    differences = {
        i: {CELLS[0]: first[s][c] - second[s][c]} for i, (s, c) in enumerate(itertools.product(first, CELLS))
    }
    return _shown(compare_with_base(differences, {CELLS[0]: 0.0}))


def how_often(
    method: Callable[[Study], bool], levels: Mapping[str, float], repetitions: int, *, seed: int = 0, **kind: object
) -> int:
    """In how many of so many studies a method finds a difference."""
    rng = np.random.default_rng(seed)
    return sum(method(draw_study(rng, levels, **kind)) for _ in range(repetitions))  # pyright: ignore


def _shown(difference: object) -> bool:
    return isinstance(difference, Estimated) and difference.is_shown


def equal(count: int) -> dict[str, float]:
    """Levels of so many equal variants."""
    return {f"v{index}": 0.5 for index in range(count)}


def main(repetitions: int = 4000) -> None:
    """Print how often each method errs, and how often it finds what is there."""
    rows: Sequence[tuple[str, Callable[[Study], bool], dict[str, float], dict[str, object]]] = [
        ("twins, 3 seeds, paired t", ours, equal(2), {}),
        ("twins, 3 + 3 different seeds, Welch's t", ours, equal(2), {"same_seeds": False}),
        ("twins, 5 seeds, paired t", ours, equal(2), {"training_seeds": 5}),
        ("twins, 3 seeds, percentile bootstrap over the seeds", percentile_bootstrap, equal(2), {}),
        ("twins, 3 seeds, paired t over all pictures", pictures_as_if_independent, equal(2), {}),
        ("any of 6 equal pairs, 3 seeds, Holm", any_pair, equal(4), {}),
        ("any of 6 equal pairs, 3 seeds, uncorrected", any_pair_uncorrected, equal(4), {}),
        ("trend over 4 equal ranks, 3 seeds", trend, equal(4), {}),
        ("better by 0.1, 3 seeds, paired t", ours, {"a": 0.6, "b": 0.5}, {}),
        ("better by 0.3, 3 seeds, paired t", ours, {"a": 0.8, "b": 0.5}, {}),
        ("trend of 0.05 a doubling, 3 seeds", trend, {f"r{i}": 0.5 + 0.1 * i for i in range(4)}, {}),
        ("better by 0.1, 5 seeds, paired t", ours, {"a": 0.6, "b": 0.5}, {"training_seeds": 5}),
    ]
    for name, method, levels, kind in rows:
        print(f"{name:55} {how_often(method, levels, repetitions, **kind) / repetitions:6.1%}")


if __name__ == "__main__":
    main()
