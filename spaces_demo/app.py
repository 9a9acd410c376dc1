"""The Space's page: a video and sentences in; overlay, timeline, masks and numbers out."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from answer import draw_answer, draw_heading, draw_refusal, python_lines
from limits import LimitError, Limits
from service import Service, StoppedError
from texts import EXAMPLES, LANGUAGES, choose_language, load_examples, load_texts

from modeling_refavs.utils.files import temporary_folder
from modeling_refavs.utils.processes import sigterm_as_interrupt
from modeling_refavs.visualization.overlay import colour_of


FOLDER = Path(__file__).parent
MODEL = os.environ.get("REFAVS_MODEL", str(FOLDER / "photo_checkpoint"))
LIMITS = Limits()
SWEEP, AGE = 300, 1800  # s; how often files are looked through, and how old they may get
WAITING = 20  # requests in line; one more is told to come back later
QUEUED = {"concurrency_id": "segment", "concurrency_limit": 1}  # page and API wait together
PRIVATE = {"api_visibility": "private"}
SHOW_ANSWER = "() => showAnswer()"  # of page.js
NUM_RESULTS = 8  # of the API
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

    def _ask(
        self, texts: dict[str, str], tell: Callable[[str, float], None], **asked: Any
    ) -> dict[str, Any]:
        """[`Service.ask`] with a new folder for files, gone where there is no answer; what is
        refused is a `gr.Error` with the page's words."""
        remove_empty_folders(os.environ["GRADIO_TEMP_DIR"])
        folder = tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])
        try:
            return self.service.ask({**asked, "folder": folder}, tell)
        except (LimitError, StoppedError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise gr.Error(
                texts[error.kind].format(**error.facts), print_exception=False
            ) from error

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
            the same video, the masks and their COCO file to download, the lines of Python that do
            the same, and the numbers that `refavs segment` prints.
        """
        texts = self._texts_of(request)
        if not video:
            raise gr.Error(texts["no_video"], print_exception=False)
        asked = {"video": video, "expressions": sentences.splitlines()}
        answer = self._ask(texts, _teller(progress, texts), kind="segment", **asked)
        return self._present(answer, video, texts)

    def _present(
        self, answer: dict[str, Any], video: str, texts: dict[str, str]
    ) -> tuple[Any, ...]:
        summary = answer["summary"]
        said = [found["text"] for found in summary["expressions"]]
        return (
            draw_answer(answer, texts),
            answer["overlay"],
            [(path, f"{second} s") for path, second in answer["frames"]],
            answer["overlay"],
            answer["masks"],
            answer["coco"],
            python_lines(self.service.model, video, said),
            summary,
        )

    def show(
        self,
        video: str | None,
        sentences: list[str],
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008, gradio finds it there
    ) -> list[Any]:
        """As [`segment`], for the page: a refusal stands where the answer would be, and the results
        are not shown."""
        texts = self._texts_of(request)
        try:
            answer = self.segment(video, "\n".join(sentences), request, progress)
            heading = draw_heading(texts["answered"])
        except gr.Error as error:
            answer = [draw_refusal(error.message, texts), *[gr.skip()] * (NUM_RESULTS - 1)]
            return [*answer, "", None, *[gr.Column(visible=False)] * 2, gr.skip()]
        cutout = gr.DownloadButton(visible=False)
        return [*answer, heading, [video, sentences], *[gr.Column(visible=True)] * 2, cutout]

    def _show_example(self, example: dict[str, Any]) -> Callable[..., list[Any]]:
        def show(request: gr.Request, progress=gr.Progress()) -> list[Any]:  # noqa: B008
            return self.show(_path_of(example), example["sentences"], request, progress)

        return show

    def _translate(self, finished: dict[str, Any]) -> Callable[[gr.Request], str]:
        def translate(request: gr.Request) -> str:
            return draw_answer(finished, self._texts_of(request))

        return translate

    def cut_out(
        self,
        asked: list[Any] | None,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008, gradio finds it there
    ) -> gr.DownloadButton:
        """The objects of the answer that is shown, transparent around them."""
        texts, first = self._texts_of(request), self.examples[0]
        video, sentences = asked or (_path_of(first), first["sentences"])
        tell = _teller(progress, texts)
        answer = self._ask(texts, tell, kind="cutout", video=video, expressions=sentences)
        return gr.DownloadButton(value=answer["cutout"], visible=True)

    def suggest(
        self, video: str | None, chosen: list[str], request: gr.Request
    ) -> tuple[gr.CheckboxGroup, list[str]]:
        """Sentences for a video that has come, beside those that are chosen."""
        sentences: list[str] = []
        if video:
            with suppress(gr.Error):  # it is told when the video is asked about
                texts = self._texts_of(request)
                answer = self._ask(texts, lambda *_: None, kind="suggest", video=video)
                sentences = answer["sentences"]
        return _chips([*chosen, *sentences], chosen)

    def build(self) -> gr.Blocks:
        """The page, with its first example answered."""
        finished = self._ask(
            self.texts["en"],
            lambda *_: None,
            kind="segment",
            video=_path_of(self.examples[0]),
            expressions=self.examples[0]["sentences"],
        )
        with PageBlocks(
            self.texts["en"]["address"],
            title="Ref-AVS",
            analytics_enabled=False,
            delete_cache=(SWEEP, AGE),
        ) as blocks:
            gr.Markdown(self.say("title"))
            with gr.Row(elem_id="page"):
                with gr.Column(elem_id="examples"):
                    cards, cards_state = self._build_examples()
                with gr.Column(elem_id="own"):
                    question = self._build_question()
                with gr.Column(elem_id="result"):
                    results, outputs = self._build_answer(finished)
            heading = outputs[NUM_RESULTS]
            for card, example in zip(cards, self.examples, strict=True):
                self._run(
                    card.click, self._show_example(example), None, outputs, cards_state, heading
                )
            video, chips, button, state, api_text = question
            asked = button.click(*self.adding, queue=False, show_progress="hidden", **PRIVATE)
            self._run(asked.then, self.show, [video, chips], outputs, state, heading)
            blocks.load(
                self._translate(finished), None, outputs[0], queue=False, show_progress="hidden",
                **PRIVATE,
            )  # fmt: skip
            gr.Button(visible=False).click(
                self.segment, [video, api_text], results, api_name="segment", **QUEUED
            )
        return blocks

    def _run(
        self,
        when: Callable[..., Any],
        show: Callable[..., list[Any]],
        inputs: list[gr.Component] | None,
        outputs: list[gr.Component],
        *states: gr.Component,
    ) -> None:
        """Show an answer, with its progress on `states`, and bring it into view."""
        done = when(show, inputs, outputs, show_progress_on=[*states], **QUEUED, **PRIVATE)
        done.then(None, js=SHOW_ANSWER, **PRIVATE)

    def _build_examples(self) -> tuple[list[gr.Button], gr.HTML]:
        gr.Markdown(self.say("examples"))
        with gr.Row(elem_id="cards"):
            cards = [
                gr.Button(self.say(f"example_{number}"), elem_id=f"card_{number}")
                for number in range(len(self.examples))
            ]
        return cards, gr.HTML(elem_classes="state")

    def _build_question(self) -> tuple[gr.Component, ...]:
        say = self.say
        gr.Markdown(say("own"))
        video = make_video_input(say("video"), LIMITS, self.texts["en"]["address"])
        offered = gr.State([])
        chips = gr.CheckboxGroup(
            label=say("sentences"), info=say("chips"), elem_id="chips", visible=False
        )
        box = gr.Textbox(
            label=say("sentence"),
            placeholder=say("placeholder"),
            lines=1,
            max_lines=1,
            elem_id="sentence",
            submit_btn=say("add"),
        )
        self.adding = (_add, [box, chips, offered], [chips, offered, box])
        box.submit(*self.adding, queue=False, show_progress="hidden", **PRIVATE)
        button = gr.Button(say("button"), variant="primary", interactive=False)
        state = gr.HTML(elem_classes="state")
        video.change(
            lambda came: gr.Button(interactive=bool(came)),
            video,
            button,
            queue=False,
            show_progress="hidden",
            **PRIVATE,
        )
        video.change(
            self.suggest,
            [video, chips],
            [chips, offered],
            show_progress_on=chips,
            **QUEUED,
            **PRIVATE,
        )
        with gr.Accordion(say("limits_title"), open=False):
            gr.Markdown(say("limits"))
            gr.Markdown(say("note"))
        return video, chips, button, state, gr.Textbox(visible=False, label="sentences")

    def _build_answer(
        self, finished: dict[str, Any]
    ) -> tuple[list[gr.Component], list[gr.Component]]:
        """The results, as the API gives them; and all that a run changes."""
        say, texts = self.say, self.texts["en"]
        html, path, frames, _, masks, coco, code, numbers = self._present(
            finished, _path_of(self.examples[0]), texts
        )
        heading = gr.HTML(draw_heading(texts["finished"]), elem_id="heading", elem_classes="state")
        with gr.Column() as shown:
            overlay = gr.Video(
                path, label=say("overlay"), interactive=False, elem_id="overlay", buttons=[]
            )
        answer = gr.HTML(html, elem_id="answer")
        asked = gr.State(None)
        with gr.Column() as more:
            with gr.Row(elem_id="downloads"):
                download = gr.DownloadButton(say("download_overlay"), path, size="sm")
                masks = gr.DownloadButton(say("download_masks"), value=masks, size="sm")
                coco = gr.DownloadButton(say("download_coco"), value=coco, size="sm")
                make = gr.Button(say("make_cutout"), size="sm")
                cutout = gr.DownloadButton(say("download_cutout"), size="sm", visible=False)
            make.click(self.cut_out, asked, cutout, show_progress_on=make, **QUEUED, **PRIVATE)
            frames = gr.Gallery(
                frames, label=say("frames"), object_fit="contain", interactive=False,
                elem_id="frames",
            )  # fmt: skip
            with gr.Accordion(say("code"), open=False):
                code = gr.Code(code, language="python", interactive=False, show_label=False)
            with gr.Accordion(say("numbers"), open=False):
                numbers = gr.JSON(numbers, show_label=False)
        results = [answer, overlay, frames, download, masks, coco, code, numbers]
        return results, [*results, heading, asked, shown, more, cutout]


def _path_of(example: dict[str, Any]) -> str:
    return str(EXAMPLES / example["video"])


def _teller(progress: gr.Progress, texts: dict[str, str]) -> Callable[[str, float], None]:
    """Of a stage of the work and its part that is done, to gradio's progress."""

    def tell(stage: str, part: float) -> None:
        begin, end = STAGES[stage]
        progress(begin + part * (end - begin), desc=texts[stage])

    return tell


def _chips(offered: list[str], chosen: list[str]) -> tuple[gr.CheckboxGroup, list[str]]:
    offered = list(dict.fromkeys(offered))
    return gr.CheckboxGroup(choices=offered, value=chosen, visible=bool(offered)), offered


def _add(
    text: str, chosen: list[str], offered: list[str]
) -> tuple[gr.CheckboxGroup, list[str], str]:
    """What is written joins what is chosen."""
    chosen = [sentence for sentence in offered if sentence in chosen]
    chosen = list(dict.fromkeys([*chosen, *filter(None, [text.strip()])]))
    return *_chips([*chosen, *offered], chosen), ""


def _prefixed(texts: dict[str, str]) -> dict[str, str]:
    return {PREFIX + key: text for key, text in texts.items()}


def draw_style(examples: dict[str, Any]) -> str:
    """page.css, and the thumbnail of each example, which plays while it is pointed at."""
    cards = []
    for number, example in enumerate(examples["examples"]):
        still, moving = (
            f"gradio_api/file={(EXAMPLES / example['video']).with_suffix(suffix)}"
            for suffix in (".jpg", ".webp")
        )
        cards.append(f'#card_{number} {{--still: url("{still}"); --moving: url("{moving}")}}')
    colours = [
        f"#chips label:nth-child({number + 1} of .selected) {{--colour: rgb{colour_of(number)}}}"
        for number in range(LIMITS.num_sentences)
    ]
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    return "\n".join([style, *cards, *colours])


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
        css=draw_style(examples),
        head=f"<script>{(FOLDER / 'page.js').read_text(encoding='utf-8')}</script>",
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
