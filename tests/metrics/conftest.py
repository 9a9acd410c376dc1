"""The released code's answers, metrics as `evaluate` loads them, and a small tree to evaluate
on."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pytest

from ..dataset_script.conftest import rows_of, write_tree


METRICS = Path(__file__).parents[2] / "modeling_refavs" / "metrics"
GOLDEN = Path(__file__).parent / "golden"
CASES = ("case_1", "case_2", "case_4")


@dataclass(frozen=True)
class GoldenCase:
    """`logits` and `truth` `(10, 64, 64)`, and what the released code answers: see
    golden/README.md."""

    logits: np.ndarray
    truth: np.ndarray
    answers: dict


def golden_case(name: str) -> GoldenCase:
    answers = json.loads((GOLDEN / "released.json").read_text())[name]
    shape = (10, 64, 64)
    seed = hashlib.sha256(f"5:metric:c{name[-1]}".encode()).digest()[:8]
    normal = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little"))).standard_normal(
        shape
    )
    logits = np.full(shape, 12, np.float32) if name == "case_4" else (2 * normal).astype(np.float32)
    assert hashlib.sha256(logits.tobytes()).hexdigest()[:16] == answers["sha_logits"]
    with np.load(GOLDEN / "truths.npz") as truths:
        truth = (
            np.unpackbits(truths[name]).reshape(shape)
            if name in truths
            else np.zeros(shape, np.uint8)
        )
    return GoldenCase(logits, truth, answers)


@pytest.fixture(params=CASES)
def case(request) -> GoldenCase:
    return golden_case(request.param)


@pytest.fixture
def load(tmp_path) -> Callable[..., evaluate.EvaluationModule]:
    """`evaluate.load` of the folder of `refavs_<name>`."""

    def load_metric(name: str, **options) -> evaluate.EvaluationModule:
        return evaluate.load(
            str(METRICS / f"refavs_{name}"), cache_dir=str(tmp_path / "metrics"), **options
        )

    return load_metric


@pytest.fixture
def sentences() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Predictions and truths of ten sentences, of differing sizes and numbers of frames; the object
    comes and goes."""
    rng = np.random.default_rng(0)
    predictions, truths = [], []
    for index in range(10):
        shape = (1 + index % 4, 8 + index, 12)
        truths.append((rng.random(shape) < 0.3) & (rng.random((shape[0], 1, 1)) < 0.7))
        predictions.append(
            np.clip(truths[-1] * 0.4 + 0.6 * rng.random(shape), 0, 1).astype(np.float32)
        )
    return predictions, truths


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    """Where `datasets` keeps what it prepared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield datasets.config.HF_DATASETS_CACHE


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """Three clips of each test split; two objects with three sentences each, four sentences for
    null references."""
    rows = []
    for number in range(3):
        rows += rows_of(f"seen{number}_0_10000", "test_s", {0: "dog", 1: "man"})
        rows += rows_of(f"unseen{number}_0_10000", "test_u", {0: "tiger", 2: "dog"})
        rows += rows_of(f"null_c-seen{number}_0_10000", "test_n", {0: "null"}, sentences=4)
    return write_tree(tmp_path_factory.mktemp("tree") / "REFAVS", rows)
