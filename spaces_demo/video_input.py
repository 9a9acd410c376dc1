"""The place for a video: a file or the camera, and nothing else."""

from pathlib import Path

import gradio as gr
from limits import Limits


def make_video_input(label: gr.i18n.I18nData, limits: Limits, refusal: str) -> gr.Video:
    """
    Args:
        label: above it.
        limits: that a camera keeps: unasked, gradio takes larger pictures than they allow.
        refusal: of a request that names an address in place of a file: gradio would fetch it.
    """
    camera = {
        "width": {"ideal": 1280, "max": limits.width},
        "height": {"ideal": 720, "max": limits.height},
    }
    video = gr.Video(
        label=label,
        elem_id="question",
        sources=["upload", "webcam"],
        include_audio=True,
        webcam_options=gr.WebcamOptions(mirror=False, constraints={"video": camera}),
    )
    move = video.async_move_resource_to_block_cache

    async def move_file(source: str | Path | None) -> str | None:
        if "://" in str(source):
            raise gr.Error(refusal, print_exception=False)
        return await move(source)

    video.async_move_resource_to_block_cache = move_file
    return video
