"""What the paper reports on Ref-AVS Bench (arXiv 2407.10957v1, Table 3 and its ablations)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """J and F in %, S in [0, 1], lower is better; all in the released pooling at 256x256."""

    method: str
    seen: tuple[float, float]
    unseen: tuple[float, float]
    mix: tuple[float, float]
    null: float


PUBLISHED = (
    PublishedResult("AVSBench + text", (23.20, 51.1), (32.36, 54.7), (27.78, 52.9), 0.208),
    PublishedResult("AVSegFormer + text", (33.47, 47.0), (36.05, 50.1), (34.76, 48.6), 0.171),
    PublishedResult("GAVS + text", (28.93, 49.8), (29.82, 49.7), (29.38, 49.8), 0.190),
    PublishedResult("ReferFormer + audio", (31.31, 50.1), (30.40, 48.8), (30.86, 49.5), 0.176),
    PublishedResult("R2VOS + audio", (25.01, 41.0), (27.93, 49.8), (26.47, 45.4), 0.183),
    PublishedResult("EEMC", (34.20, 51.3), (49.54, 64.8), (41.87, 58.1), 0.007),
    PublishedResult("EEMC without text", (23.67, 46.8), (37.19, 64.1), (30.43, 55.5), 0.011),
    PublishedResult("EEMC without audio", (27.27, 49.2), (43.64, 65.6), (35.46, 57.4), 0.010),
    PublishedResult("EEMC without cached memory", (25.30, 49.4), (36.73, 66.0), (31.05, 57.7), 0.009),
    PublishedResult("EEMC without modality encoding", (27.20, 47.0), (44.97, 63.7), (36.09, 55.4), 0.009),
)

# J of EEMC in %, by what a sentence is like.
PUBLISHED_BREAKDOWNS = {
    "grade": {"1-2": 39.27, "3": 37.78, "4": 35.31, "5": 33.39},
    "length": {"1-4": 39.66, "5-8": 37.00, "9-12": 33.74, "13+": 29.61},
    "dimension": {
        "spatial": 33.83,
        "acoustic": 26.07,
        "spatial + temporal": 41.01,
        "acoustic + temporal": 32.30,
    },
}
