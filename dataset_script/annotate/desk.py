"""One annotator at one tree: what the page shows, and what it asks of models. All that is said is
on disk before a method returns; a desk that was killed is opened again where it was."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from modeling_refavs.mask_rle import encode_rle

from ..checking import check_tree, report_text
from ..schema import NUM_FRAMES, SPLITS
from ..taxonomy import read_taxonomy
from .actions import ACTIONS, Body, merge_intervals, read_sentence, with_mask
from .annotation import Annotation, AnnotationStore, ObjectAnnotation, SentenceAnnotation
from .clip_media import propose_shots, read_clip_frames, read_clip_samples
from .models import AnnotationModels, Candidate, Prompt
from .sentence_rules import check_sentence, describe_sentence, suggest_sentences
from .tree import (
    ObjectAgreement,
    annotated_clip_ids,
    compare_annotations,
    unfinished_parts,
    write_tree,
)


MAX_CANDIDATES = 20
UNLIKELY = 0.02  # of the likeliest one's score; candidates below it would cover the frame
DIRECTIONS = ("both", "forward", "backward")


class Cancelled(Exception):
    """The person does not want to wait for it any longer."""


@dataclass
class Job:
    """What a model is at work on."""

    kind: str
    clip_id: str
    done: int = 0
    total: int = 1
    state: str = "running"  # then "done", "failed" or "cancelled"
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def advance(self, done: int) -> None:
        """
        Raises:
            Cancelled: nobody waits for it.
        """
        self.done = done
        if self.cancelled.is_set():
            raise Cancelled

    def describe(self) -> dict[str, Any]:
        names = ("kind", "clip_id", "done", "total", "state", "error", "result")
        return {name: getattr(self, name) for name in names}


class Desk:
    """
    Args:
        tree: in the official layout; its `media/` is read.
        review: another annotator, whose objects are annotated anew and then compared.

    Raises:
        ValueError: there are no clips, or nobody of that name has annotated any.
    """

    def __init__(
        self,
        tree: str | Path,
        annotator: str,
        models: AnnotationModels,
        review: str | None = None,
    ):
        self.tree, self.models = Path(tree), models
        self.clip_ids = annotated_clip_ids(tree)
        self.store = AnnotationStore(tree, annotator)
        self.other = AnnotationStore(tree, review) if review else None
        if self.other:
            if review == annotator:
                raise ValueError(f"--review {review}: a review is by somebody else: --annotator")
            annotated = set(self.other.clip_ids())
            self.clip_ids = [clip_id for clip_id in self.clip_ids if clip_id in annotated]
            if not self.clip_ids:
                raise ValueError(f"{tree}: {review} has annotated no clip of it")
        self.frames = lru_cache(maxsize=2)(lambda clip_id: read_clip_frames(tree, clip_id))
        self.proposed_shots = lru_cache(maxsize=2)(
            lambda clip_id: propose_shots(self.frames(clip_id))
        )
        self.job: Job | None = None
        self._saving, self._modelling = threading.Lock(), threading.Lock()
        self._summaries: dict[str, tuple[int, dict[str, Any]]] = {}

    # What the page shows

    def describe(self) -> dict[str, Any]:
        """All clips, and what there is to choose from."""
        taxonomy = read_taxonomy(self.tree)
        return {
            "tree": str(self.tree),
            "annotator": self.store.annotator,
            "review": self.other.annotator if self.other else None,
            "splits": list(SPLITS),
            "categories": taxonomy.categories,
            "can_detect": self.models.detector is not None,
            "can_hear": self.models.sound is not None,
            "clips": [self._summary(clip_id) for clip_id in self.clip_ids],
        }

    def _summary(self, clip_id: str) -> dict[str, Any]:
        path = self.store.path(clip_id)
        changed = path.stat().st_mtime_ns if path.exists() else 0
        if self._summaries.get(clip_id, (None,))[0] != changed:
            annotation = self.store.read(clip_id)
            missing = ["nothing yet"]
            if annotation is not None:
                missing = unfinished_parts(self.tree, annotation)
            state = "new" if annotation is None else "begun" if missing else "ready"
            summary = {"clip_id": clip_id, "state": state, "missing": missing}
            self._summaries[clip_id] = (changed, summary)
        return self._summaries[clip_id][1]

    def describe_clip(self, clip_id: str) -> dict[str, Any]:
        """
        Raises:
            ValueError: there is no such clip, or its files are damaged.
        """
        annotation = self.read(clip_id)
        return {
            **self._summary(clip_id),
            "size": list(annotation.size),
            "split": annotation.split,
            "shots": list(annotation.shots),
            "proposed_shots": list(self.proposed_shots(clip_id)),
            "can": self.store.can(clip_id),
            "objects": [_describe_object(thing) for thing in annotation.objects],
            "sentences": [
                {"text": one.text, "fid": one.fid, **_judge(annotation, one)}
                for one in annotation.sentences
            ],
        }

    def read(self, clip_id: str) -> Annotation:
        """What is said of a clip; where nothing is said yet, what one begins with."""
        frames = self.frames(self._known(clip_id))
        annotation = self.store.read(clip_id)
        if annotation is None:
            annotation = self._begin(clip_id, frames)
        if annotation.size != frames[0].shape[:2]:
            raise ValueError(f"{clip_id}: its frames have changed their size since the annotation")
        return annotation

    def _begin(self, clip_id: str, frames: Sequence[np.ndarray]) -> Annotation:
        if not self.other:
            return Annotation(clip_id, frames[0].shape[:2], shots=self.proposed_shots(clip_id))
        theirs = self.other.read(clip_id)
        objects = tuple(
            replace(thing, masks={}, corrected=frozenset(), sounding=()) for thing in theirs.objects
        )
        return replace(theirs, objects=objects, sentences=())

    def _known(self, clip_id: str) -> str:
        if clip_id not in self.clip_ids:
            raise ValueError(f"there is no clip {clip_id!r:.80}")
        return clip_id

    # What a person does

    def act(self, clip_id: str, action: str, content: Any) -> dict[str, Any]:
        """Do one of [`ACTIONS`] or of those that need a model; save; the clip as it is then.

        Raises:
            ValueError: it cannot be done; nothing has changed.
        """
        body = Body(content)
        self._known(clip_id)
        if action in ("undo", "redo"):
            with self._saving:
                getattr(self.store, action)(clip_id)
        elif action in ACTIONS:
            with self._saving:
                self.store.save(ACTIONS[action](self.read(clip_id), body))
        elif action in ("point", "propose_sounding"):
            with self._modelling_alone(), self._saving:
                self.store.save(getattr(self, f"_{action}")(self.read(clip_id), body))
        else:
            raise ValueError(f"there is no action {action!r:.40}")
        return self.describe_clip(clip_id)

    def _point(self, annotation: Annotation, body: Body) -> Annotation:
        """Points (x, y, 1 on the object or 0 beside it) and a box around it."""
        fid, step, points = body.fid(), body.step(), body.numbers("points", 3)
        mask = annotation.find(fid).masks.get(step)
        box = body.numbers("box")
        if len(box) not in (0, 4) or not (points or box):
            raise ValueError("there must be points (x, y, 1 or 0), or a box of 4 numbers")
        prompt = Prompt(
            tuple(point[:2] for point in points),
            tuple(point[2] > 0 for point in points),
            tuple(number for (number,) in box) or None,
            mask if points and mask is not None and mask.any() else None,  # a box begins anew
        )
        found = self.models.segmenter.segment(self.frames(annotation.clip_id)[step], prompt)
        return with_mask(annotation, fid, step, np.asarray(found, dtype=bool))

    def _propose_sounding(self, annotation: Annotation, body: Body) -> Annotation:
        if not self.models.sound:
            raise ValueError("no model that hears was loaded")
        thing = annotation.find(body.fid())
        samples = read_clip_samples(self.tree, annotation.clip_id)
        found = merge_intervals(self.models.sound.propose(samples, thing.category))
        return annotation.with_object(replace(thing, sounding=found))

    def judge(self, clip_id: str, content: Any) -> dict[str, Any]:
        """Of a sentence that is being typed: remarks, cue dimensions and grade."""
        return _judge(self.read(clip_id), read_sentence(Body(content)))

    def suggest(self, clip_id: str, content: Any) -> dict[str, Any]:
        """Sentences that may be said of an object, from templates."""
        annotation, fid = self.read(clip_id), Body(content).fid()
        annotation.find(fid)
        taken = {one.text for one in annotation.sentences}
        found = suggest_sentences(annotation, fid)
        return {"sentences": [text for text in found if text not in taken]}

    # What models do meanwhile

    def start(self, kind: str, clip_id: str, content: Any) -> dict[str, Any]:
        """Begin to `track` or to `detect`; `self.job` tells how far it is.

        Raises:
            ValueError: it cannot be done, or a model is at work.
        """
        works = {"track": self._plan_tracking, "detect": self._plan_detection}
        if kind not in works:
            raise ValueError(f"there is no work of the kind {kind!r:.40}")
        work = works[kind](self.read(clip_id), Body(content))
        if not self._modelling.acquire(blocking=False):
            raise ValueError(_BUSY)
        self.job = Job(kind, clip_id)
        threading.Thread(target=self._run, args=(self.job, work), daemon=True).start()
        return self.job.describe()

    def cancel(self) -> dict[str, Any]:
        if self.job:
            self.job.cancelled.set()
        return self.describe_job()

    def describe_job(self) -> dict[str, Any]:
        return self.job.describe() if self.job else {"state": "none"}

    def _run(self, job: Job, work: Callable[[Job], None]) -> None:
        try:
            work(job)
            state = "done"
        except Cancelled:
            state = "cancelled"
        except Exception as error:  # of a model, whatever it is: the page shows it
            job.error = f"{job.kind}: {error or type(error).__name__}"
            state = "failed"
        finally:
            self._modelling.release()
        job.state = state

    @contextmanager
    def _modelling_alone(self) -> Iterator[None]:
        if not self._modelling.acquire(blocking=False):
            raise ValueError(_BUSY)
        try:
            yield
        finally:
            self._modelling.release()

    def _plan_tracking(self, annotation: Annotation, body: Body) -> Callable[[Job], None]:
        """From one step to the others of its shot, as far as a step that a person has corrected."""
        pivot, direction = body.step(), body.text("direction") or "both"
        if direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}")
        fids = [int(fid) for (fid,) in body.numbers("fids")]
        things = [annotation.find(fid) for fid in fids]
        seen = [thing for thing in things if thing.masks.get(pivot, np.False_).any()]
        if not seen:
            raise ValueError("there is no mask on this frame to track: mark the object first")
        shot = annotation.shot_of(pivot)
        targets = {thing.fid: find_targets(thing, shot, pivot, direction) for thing in seen}
        wanted = sorted({pivot}.union(*targets.values()))
        if len(wanted) == 1:
            raise ValueError(
                "there is no frame to track to: the shot ends, or the next frame was corrected"
            )
        steps = range(wanted[0], wanted[-1] + 1)

        def work(job: Job) -> None:
            job.total = len(steps) - 1
            frames = self.frames(annotation.clip_id)[steps.start : steps.stop]
            masks = {thing.fid: thing.masks[pivot] for thing in seen}
            found = {}
            places = self.models.tracker.track(frames, pivot - steps.start, masks)
            for done, (place, tracked) in enumerate(places, start=1):
                found[steps[place]] = tracked
                job.advance(done)
            with self._saving:
                self.store.save(_with_tracked(self.read(annotation.clip_id), found, targets))

        return work

    def _plan_detection(self, annotation: Annotation, body: Body) -> Callable[[Job], None]:
        detector, step, text = self.models.detector, body.step(), body.text("text")
        if not detector:
            raise ValueError("no detector was loaded: --detector")

        def work(job: Job) -> None:
            found = detector.detect(self.frames(annotation.clip_id)[step], text)
            job.advance(1)
            found = [one for one in found[:MAX_CANDIDATES] if one.mask.any()]
            least = UNLIKELY * max((one.score for one in found), default=0.0)
            shown = [_describe_candidate(one) for one in found if one.score >= least]
            job.result = {"step": step, "candidates": shown}

        return work

    # What becomes of it

    def write_tree(self) -> dict[str, Any]:
        """Masks, metadata.csv and taxonomy of all clips, and what `dataset check` finds then."""
        with self._saving:
            write_tree(self.tree, self.store.annotator)
        report = check_tree(self.tree)
        return {"can_train": report.can_train, "report": report_text(report)}

    def compare(self, clip_id: str) -> dict[str, Any]:
        """Agreement with the other annotator, and their masks where this one has made some anew."""
        if not self.other:
            raise ValueError("nobody is reviewed: --review NAME")
        mine, theirs = self.read(clip_id), self.other.read(clip_id)
        agreement = compare_annotations(theirs, mine)
        both = [_describe_agreement(one, theirs, mine) for one in agreement.objects]
        alone = [
            {"annotator": store.annotator, "category": annotation.find(fid).category}
            for store, annotation, fids in zip(
                (self.other, self.store), (theirs, mine), agreement.alone, strict=True
            )
            for fid in fids
        ]
        return {"objects": both, "alone": alone}


_BUSY = "a model is at work: wait for it, or cancel it"


def find_targets(thing: ObjectAnnotation, shot: range, pivot: int, direction: str) -> set[int]:
    """Steps of a shot that tracking from `pivot` may fill: up to those that were corrected."""
    ways = {
        "forward": range(pivot + 1, shot.stop),
        "backward": range(pivot - 1, shot.start - 1, -1),
    }
    targets = set()
    for way in ways.values() if direction == "both" else [ways[direction]]:
        for step in way:
            if step in thing.corrected:
                break
            targets.add(step)
    return targets


def _with_tracked(
    annotation: Annotation, found: dict[int, dict[int, np.ndarray]], targets: dict[int, set[int]]
) -> Annotation:
    """What was corrected or removed while the tracker was at work stays so."""
    for thing in annotation.objects:
        for step in targets.get(thing.fid, set()) - thing.corrected:
            if thing.fid in found.get(step, {}):
                mask = np.asarray(found[step][thing.fid], dtype=bool)
                annotation = with_mask(annotation, thing.fid, step, mask, corrected=False)
    return annotation


def _describe_object(thing: ObjectAnnotation) -> dict[str, Any]:
    states = ["missing"] * NUM_FRAMES
    for step, mask in thing.masks.items():
        done = "corrected" if step in thing.corrected else "propagated"
        states[step] = done if mask.any() else f"{done} absent"
    return {
        "fid": thing.fid,
        "category": thing.category,
        "super_category": thing.super_category,
        "colour": thing.colour,
        "sounding": thing.sounding,
        "states": states,
        "masks": {step: _counts(mask) for step, mask in thing.masks.items()},
    }


def _describe_candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "label": candidate.label,
        "score": round(float(candidate.score), 3),
        "counts": _counts(candidate.mask),
    }


def _counts(mask: np.ndarray) -> list[int]:
    return encode_rle(mask, compressed=False)["counts"]


def _describe_agreement(
    one: ObjectAgreement, theirs: Annotation, mine: Annotation
) -> dict[str, Any]:
    """Of sounding intervals too, where this annotator has drawn some, or the other has none."""
    thing, anew = theirs.find(one.fids[0]), mine.find(one.fids[1])
    return {
        "category": " / ".join(dict.fromkeys(one.categories)),
        "jaccard": one.jaccard,
        "mean": one.mean_jaccard,
        "sounding": one.sounding if anew.sounding or not thing.sounding else None,
        "masks": _masks_where(thing, one.jaccard),
    }


def _masks_where(thing: ObjectAnnotation, jaccard: Sequence[float | None]) -> dict[int, list[int]]:
    """Of the steps that both annotators have."""
    steps = [step for step, value in enumerate(jaccard) if value is not None]
    return {step: _counts(thing.masks[step]) for step in steps}


def _judge(annotation: Annotation, sentence: SentenceAnnotation) -> dict[str, Any]:
    cues, grade = describe_sentence(sentence.text)
    remarks = check_sentence(annotation, sentence) if sentence.text else []
    return {"remarks": remarks, "about": {"cues": cues, "grade": grade}}
