"""CUDA graphs: a forward is thousands of small kernels, which a GPU runs faster than Python starts
them. Recorded once, they start as one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten


MAX_GRAPHS = 8  # shapes of input that are recorded; further ones go the usual way


class GraphedCall:
    """A function of tensors, for inference, which knows the shapes that it has seen: the first call
    of a shape goes the usual way, the
    second is recorded, and those after it are replayed. With gradients, or not on CUDA, every call
    goes the usual way.

    Args:
        function: its arguments, and what it returns, may hold tensors anywhere; it never waits for
            one.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.seen: set[tuple] = set()
        self.graphs: dict[tuple, _Graph] = {}
        self.pool = None  # of memory: one graph works at a time

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if torch.is_grad_enabled() or not tensors or not all(tensor.is_cuda for tensor in tensors):
            return self.function(*args, **kwargs)
        key = (structure, *(_facts(leaf) for leaf in leaves))
        if key not in self.graphs:
            if key not in self.seen or len(self.graphs) == MAX_GRAPHS:
                self.seen.add(key)
                return self.function(*args, **kwargs)
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            self.graphs[key] = _Graph(self.function, leaves, structure, self.pool)
        return self.graphs[key].replay(leaves)


class _Graph:
    """A call recorded: what goes in and what comes out lies where it lay."""

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, function: Callable[..., Any], leaves: list, structure: Any, pool: Any):
        self.leaves = tree_map_only(torch.Tensor, torch.clone, leaves)
        args, kwargs = tree_unflatten(self.leaves, structure)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            function(
                *args, **kwargs
            )  # what is made at the first use must not be made while recording
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        # another thread may be reading ahead: what it does meanwhile is no error
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.outputs = function(*args, **kwargs)

    @torch.inference_mode(False)
    @torch.no_grad()
    def replay(self, leaves: list) -> Any:
        for kept, leaf in zip(self.leaves, leaves, strict=True):
            if isinstance(leaf, torch.Tensor):
                kept.copy_(leaf)
        self.graph.replay()
        return tree_map_only(
            torch.Tensor, torch.clone, self.outputs
        )  # the next replay writes over them


def record_graphs(model: nn.Module) -> None:
    """From now on a model on CUDA replays what it can of `encode_clips` and `segment`, and so of
    its forward; see [`GraphedCall`]."""
    model.encode_clips, model.segment = GraphedCall(model.encode_clips), GraphedCall(model.segment)


def _facts(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, torch.Tensor) else leaf
