"""Distances by aeon: DTW on the raw series, and MiniRocket features. Run by signals.py, with a Python that has aeon.

    python signal_rivals.py FOLD.npz OUT.npz

FOLD.npz: trained [M, C, L], tested [N, C, L], lengths [N]; padded with zeros. OUT.npz: for each rival the distances
[N, N] and the seconds that one comparison (DTW) or one probe (MiniRocket) took.
"""

import sys
from time import perf_counter

import numpy as np


def main() -> None:
    from aeon.distances import dtw_distance
    from aeon.transformations.collection.convolution_based import MiniRocket

    fold, out = np.load(sys.argv[1]), sys.argv[2]
    tested, lengths = fold["tested"].astype(np.float64), fold["lengths"]
    series = [one[:, :length] for one, length in zip(tested, lengths, strict=True)]
    dtw_distance(series[0], series[1])  # compiled
    distances = np.zeros((len(series), len(series)))
    begun = perf_counter()
    for i, one in enumerate(series):
        for j in range(i):
            distances[i, j] = distances[j, i] = dtw_distance(one, series[j])
    pairs = len(series) * (len(series) - 1) / 2
    dtw_seconds = (perf_counter() - begun) / pairs

    rocket = MiniRocket(random_state=0, n_jobs=1)
    learned = np.asarray(rocket.fit_transform(fold["trained"].astype(np.float32)))
    centre, spread = learned.mean(axis=0), learned.std(axis=0) + 1e-6
    features = (np.asarray(rocket.transform(fold["tested"].astype(np.float32))) - centre) / spread
    begun = perf_counter()
    for one in fold["tested"][:20].astype(np.float32):
        rocket.transform(one[np.newaxis])
    rocket_seconds = (perf_counter() - begun) / min(20, len(series))
    squares = (features * features).sum(axis=1)
    by_rocket = squares[:, np.newaxis] + squares - 2 * features @ features.T
    np.savez(out, dtw=distances, minirocket=by_rocket, dtw_seconds=dtw_seconds, minirocket_seconds=rocket_seconds)


if __name__ == "__main__":
    main()
