"""A synthetic Ref-AVS Bench: scene graphs, then frames and sound, then sentences that are decided
on the graph."""

from .clips import SPLITS, SynthesisOptions, SyntheticClip, make_clip, parse_size
from .generate import synthesize
from .scene import Scene


__all__ = [
    "SPLITS",
    "Scene",
    "SynthesisOptions",
    "SyntheticClip",
    "make_clip",
    "parse_size",
    "synthesize",
]
