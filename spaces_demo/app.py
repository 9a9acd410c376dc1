"""The Space's page: a video and sentences in; overlay, timeline, masks and numbers out."""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from answer import STYLE, draw_answer, draw_refusal, python_lines
from limits import LimitError, Limits
from service import Service, StoppedError
from texts import EXAMPLES, LANGUAGES, choose_language, load_examples, load_texts

from modeling_refavs.utils.files import temporary_folder
from modeling_refavs.utils.processes import sigterm_as_interrupt


FOLDER = Path(__file__).parent
MODEL = os.environ.get("REFAVS_MODEL", str(FOLDER / "photo_checkpoint"))
LIMITS = Limits()
SWEEP, AGE = 300, 1800  # s; how often files are looked through, and how old they may get
WAITING = 20  # requests in line; one more is told to come back later
QUEUE = "segment"  # in which page and API wait together
NUM_RESULTS = 6  # beside the answer itself
PREFIX = "refavs_"  # of texts: gradio has words of its own
STAGES = {
    "looking": (0.0, 0.05),
    "segmenting": (0.05, 0.4),
    "drawing": (0.4, 0.95),
    "packing": (0.95, 1.0),
}


class PageBlocks(gr.Blocks):
    """gradio's, but that what was not uploaded is refused in words, not by a traceback in a log.

    Args:
        refusal: the words.
        options: gradio's.
    """

    def __init__(self, refusal: str, **options: Any):
        super().__init__(**options)
        self.refusal = refusal

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.exceptions.InvalidPathError:
            raise gr.Error(self.refusal, print_exception=False) from None


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


def remove_empty_folders(folder: str | Path, age: float = AGE) -> None:
    """Those inside `folder` that are older than `age` (s): gradio removes old files and leaves
    their folders."""
    for path in Path(folder).iterdir():
        if path.is_dir() and time.time() - path.stat().st_mtime > age:
            with suppress(OSError):  # it is not empty, or gone
                path.rmdir()


class Page:
    """The page of one model.

    Args:
        service: that works.
        examples: as `examples.json` holds them.
    """

    def __init__(self, service: Service, examples: dict[str, Any]):
        self.service, self.examples = service, examples["examples"]
        self.texts = load_texts(LIMITS, service.seconds, examples)
        self.translations = gr.I18n(**{name: _prefixed(self.texts[name]) for name in LANGUAGES})

    def say(self, key: str) -> gr.i18n.I18nData:
        """A text that each browser shows in its own language."""
        return self.translations(PREFIX + key)

    def _texts_of(self, request: gr.Request | None) -> dict[str, str]:
        return self.texts[choose_language(request and request.headers.get("accept-language"))]

    def segment(
        self,
        video: str | None,
        sentences: str,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008, gradio finds it there
    ):
        """Colour in a video what each sentence means.

        Args:
            video: the file.
            sentences: one a line.

        Returns:
            The answer as HTML, the video with the objects in colour, pictures with their captions,
            the same video and the masks to download, the lines of Python that do the same, and the
            numbers that
            `refavs segment` prints.
        """
        texts = self._texts_of(request)

        def tell(stage: str, part: float) -> None:
            begin, end = STAGES[stage]
            progress(begin + part * (end - begin), desc=texts[stage])

        if not video:
            raise gr.Error(texts["no_video"], print_exception=False)
        remove_empty_folders(os.environ["GRADIO_TEMP_DIR"])
        folder = tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])
        asked = {"video": video, "expressions": sentences.splitlines(), "folder": folder}
        try:
            answer = self.service.ask(asked, tell)
        except (LimitError, StoppedError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise gr.Error(
                texts[error.kind].format(**error.facts), print_exception=False
            ) from error
        summary = answer["summary"]
        frames = [(path, f"{second} s") for path, second in answer["frames"]]
        said = [found["text"] for found in summary["expressions"]]
        code = python_lines(self.service.model, summary["video"]["name"], said)
        return (
            draw_answer(answer, texts),
            answer["overlay"],
            frames,
            answer["overlay"],
            answer["masks"],
            code,
            summary,
        )

    def show(
        self,
        video: str | None,
        sentences: str,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008, gradio finds it there
    ) -> list[Any]:
        """As [`segment`], for the page: a refusal stands where the answer would be, and the results
        are not shown."""
        try:
            return [*self.segment(video, sentences, request, progress), gr.Column(visible=True)]
        except gr.Error as error:
            refusal = draw_refusal(error.message, self._texts_of(request))
            return [refusal, *[gr.skip()] * NUM_RESULTS, gr.Column(visible=False)]

    def build(self) -> gr.Blocks:
        with PageBlocks(
            self.texts["en"]["address"],
            title="Ref-AVS",
            analytics_enabled=False,
            delete_cache=(SWEEP, AGE),
        ) as blocks:
            gr.Markdown(self.say("title"))
            gr.Markdown(self.say("intro"))
            with gr.Row():
                with gr.Column():
                    inputs, button = self._build_question()
                with gr.Column():
                    outputs, results = self._build_answer()
            button.click(
                self.show,
                inputs,
                [*outputs, results],
                api_visibility="private",
                show_progress_on=outputs[0],
                scroll_to_output=True,
                concurrency_id=QUEUE,
                concurrency_limit=1,
            )
            gr.Button(visible=False).click(
                self.segment,
                inputs,
                outputs,
                api_name="segment",
                concurrency_id=QUEUE,
                concurrency_limit=1,
            )
        return blocks

    def _build_question(self) -> tuple[list[gr.Component], gr.Button]:
        say = self.say
        video = make_video_input(say("video"), LIMITS, self.texts["en"]["address"])
        sentences = gr.Textbox(
            label=say("sentences"), placeholder=say("placeholder"), lines=3, max_lines=5
        )
        button = gr.Button(say("button"), variant="primary")
        gr.Markdown(say("examples"))
        gr.Markdown(say("note"))
        for number, example in enumerate(self.examples):
            gr.Button(say(f"example_{number}"), size="sm").click(
                lambda example=example: (
                    str(EXAMPLES / example["video"]),
                    "\n".join(example["sentences"]),
                ),
                None,
                [video, sentences],
                api_visibility="private",
            )
        with gr.Accordion(say("limits_title"), open=False):
            gr.Markdown(say("limits"))
        return [video, sentences], button

    def _build_answer(self) -> tuple[list[gr.Component], gr.Column]:
        say = self.say
        answer = gr.HTML(say("waiting"), min_height=120, container=True, padding=True)
        with gr.Column(visible=False) as results:
            overlay = gr.Video(label=say("overlay"), interactive=False, elem_id="overlay")
            with gr.Row():
                download = gr.DownloadButton(say("download_overlay"), size="sm")
                masks = gr.DownloadButton(say("download_masks"), size="sm")
            with gr.Column(elem_id="frames"):
                frames = gr.Gallery(
                    label=say("frames"), columns=4, object_fit="contain", interactive=False
                )
            with gr.Accordion(say("code"), open=False):
                code = gr.Code(language="python", interactive=False, show_label=False)
            with gr.Accordion(say("numbers"), open=False):
                numbers = gr.JSON(show_label=False)
        return [answer, overlay, frames, download, masks, code, numbers], results


def _prefixed(texts: dict[str, str]) -> dict[str, str]:
    return {PREFIX + key: text for key, text in texts.items()}


def launch(
    service: Service, examples: dict[str, Any], port: int | None = None, **options: Any
) -> gr.Blocks:
    """Serve the page; its files go to the folder that GRADIO_TEMP_DIR names. `options` are
    gradio's."""
    page = Page(service, examples)
    blocks = page.build().queue(max_size=WAITING)
    blocks.launch(
        server_port=port,
        allowed_paths=[str(EXAMPLES)],
        max_file_size=LIMITS.num_bytes,
        i18n=page.translations,
        css=STYLE,
        ssr_mode=False,
        footer_links=["api", "settings"],
        **options,
    )
    return blocks


def main(model: str = MODEL, port: int | None = None) -> None:
    """Serve the page until it is stopped.

    Args:
        model: folder of a model, or its id on the Hub.
        port: to listen on; by default the first free one from 7860 on.
    """
    service = Service(model)
    with sigterm_as_interrupt(), temporary_folder("refavs_page_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        try:
            service.wait()
            launch(service, load_examples(), port)
        finally:
            service.stop()


if __name__ == "__main__":
    main()
