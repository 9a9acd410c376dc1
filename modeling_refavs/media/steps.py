"""Old name of `modeling_refavs.video_refavs`, kept for one release."""

from ..video_refavs import Step, read_steps


__all__ = ["Step", "read_steps"]
