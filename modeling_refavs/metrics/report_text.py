"""The report as Markdown."""

from typing import Any

from .report import SPLIT_NAMES


NOTHING = "-"
DIMENSION_NOTE = "Dimensions are told from the sentences' words, roughly: the data do not say them."


def report_text(report: dict[str, Any]) -> str:
    """One page: results beside the published ones, breakdowns, conventions."""
    parts = [
        f"# Evaluation of {report['subject']}",
        conventions_text(report),
        f"## Results\n\n{results_table(report)}",
    ]
    if set(report["splits"]) & set(SPLIT_NAMES):
        parts.append(f"## Beside the published results\n\n{_published(report)}")
    parts += [breakdown_text(report, name) for name in report["breakdowns"]]
    seconds = report["seconds_per_sentence"]
    parts.append(
        f"Seconds a sentence: {seconds['load']:.3f} reading, {seconds['predict']:.3f} predicting, {seconds['score']:.3f} scoring."
    )
    return "\n\n".join(parts) + "\n"


def conventions_text(report: dict[str, Any]) -> str:
    """On which data, how pooled, and what the numbers mean."""
    rules, pooling = report["conventions"], report["pooling"]
    size = "the truth's own size" if rules["mask_size"] is None else f"{rules['mask_size']}x{rules['mask_size']}"
    pooled = {
        "dataset": "pooled over the data set, whatever the batches",
        "released": f"pooled as the released code does, the mean over batches of {pooling['batch_size']} sentences",
    }[pooling["name"]]
    return (
        f"Data: {report['data']}. J and F in % (higher is better), S (lower is better), {pooled}. Masks at {size}; "
        f"J at threshold {rules['threshold']}, S at {rules['null_threshold']}; in J a frame without the object scores "
        f"by `{rules['empty_truth']}`. In brackets: 95 % of {pooling['num_draws']} bootstrap draws of clips."
    )


def results_table(report: dict[str, Any]) -> str:
    """A row a split, and Mix."""
    rows, splits = [], report["splits"]
    for split, part in splits.items():
        rows.append((f"{SPLIT_NAMES.get(split, split)} ({split})", part["clips"], part["sentences"], *_measures(part)))
        if split == "test_u" and report["mix"]:
            rows.append(("Mix", "", "", *_measures(report["mix"])))
    return _table(("split", "clips", "sentences", "J", "F", "J&F", "S"), rows)


def _published(report: dict[str, Any]) -> str:
    """Table 3 in the paper's shape, ours first."""
    splits = report["splits"]
    seen, unseen, mix = (_pair(part) for part in (splits.get("test_s"), splits.get("test_u"), report["mix"]))
    null = splits.get("test_n") and splits["test_n"]["null"]
    rows = [(f"**{report['subject']}**", seen, unseen, mix, f"{null['value']:.3f}" if null else NOTHING)]
    for result in report["published"]["table_3"]:
        pairs = [f"{j:.2f} / {f:.1f}" for j, f in (result["seen"], result["unseen"], result["mix"])]
        rows.append((result["method"], *pairs, f"{result['null']:.3f}"))
    note = (
        "The published rows are of Ref-AVS Bench, in the released pooling at 256x256 (arXiv 2407.10957v1): "
        "other data or another pooling do not compare."
    )
    return f"{_table(('', 'Seen J / F', 'Unseen J / F', 'Mix J / F', 'Null S'), rows)}\n\n{note}"


def breakdown_text(report: dict[str, Any], name: str) -> str:
    """A table of the sentences group by group, under a heading."""
    published = report["published"]["breakdowns"].get(name, {})
    rows = []
    for group, part in report["breakdowns"][name].items():
        paper = (f"{published[group]:.2f}" if group in published else NOTHING,) if published else ()
        rows.append((group, part["sentences"], *_measures(part)[:3], *paper, part["null_sentences"], _s(part)))
    head = (name, "sentences", "J", "F", "J&F", *(("EEMC, paper: J",) if published else ()), "null sentences", "S")
    note = f"\n\n{DIMENSION_NOTE}" if name == "dimension" and not report["knows_scenes"] else ""
    return f"## By {name}\n\n{_table(head, rows)}{note}"


def _measures(part: dict[str, Any]) -> tuple[str, str, str, str]:
    names = ("jaccard", "fscore", "jaccard_and_fscore")
    return *(_percent(part.get(name)) for name in names), _s(part)


def _percent(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return NOTHING
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.2f} [{low:.1f}, {high:.1f}]"


def _s(part: dict[str, Any]) -> str:
    estimate = part.get("null")
    return NOTHING if estimate is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _pair(part: dict[str, Any] | None) -> str:
    if part is None or part["jaccard"] is None:
        return NOTHING
    return f"{100 * part['jaccard']['value']:.2f} / {100 * part['fscore']['value']:.1f}"


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
