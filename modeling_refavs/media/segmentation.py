"""Old name of `modeling_refavs.inference.segment`, kept for one release."""

from ..inference.segment import VideoSegmentation, segment_video


__all__ = ["VideoSegmentation", "segment_video"]
