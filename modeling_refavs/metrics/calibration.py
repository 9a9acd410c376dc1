"""How far a probability can be trusted: whether it ranks, and whether it is as often right as it
says."""

import numpy as np


NUM_BINS = 15  # as in Guo et al., ICML 2017


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve: how often a positive has the higher score than a negative; a
    tie counts one half. NaN unless there are both.

    Args:
        scores: `(n,)`.
        labels: `(n,)` bool.
    """
    positives = np.count_nonzero(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]  # from 1; the mean rank of what is equal
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / positives / negatives)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS
) -> float:
    """The mean distance between the probability and the share of positives, over bins of equal
    width weighted by what falls into them (Guo et al., ICML 2017, Eq. 3). NaN for nothing.

    Args:
        probabilities: `(n,)` in [0, 1].
        labels: `(n,)` bool.
    """
    if not len(labels):
        return float("nan")
    bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
    excess = np.bincount(bins, probabilities - labels, num_bins)
    return float(np.abs(excess).sum() / len(labels))
