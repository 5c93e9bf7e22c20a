"""The model card: what a manifest says, for people. It is written from the manifest alone, whenever that is."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from oneglance_core.manifests import Calibration, EncoderManifest, ModelFolderError, ModelManifest, PairHeadPart

_MOST_TEXT = 1000  # characters of a value in a table


def model_card(manifest: ModelManifest) -> str:
    """Markdown: what the model takes and returns, how it was made, checked and measured, and what isn't known of it."""
    sections = [
        f"# {manifest.name}\n\n{manifest.description or 'There is no description of it.'}",
        _table(
            [
                ("kind", manifest.kind),
                ("digest", f"`{manifest.digest}`"),
                ("graph", f"{manifest.model_bytes:,} bytes, SHA-256 `{manifest.model_sha256}`"),
                ("written", manifest.created),
                ("licence", manifest.license or "not told"),
            ]
        ),
        f"## What it takes and returns\n\n{_table(_tensors(manifest))}",
        f"## How it was made\n\n{_made(manifest.training)}",
        f"## How it was checked\n\n{_checked(manifest)}",
    ]
    if isinstance(manifest, EncoderManifest):
        sections += [
            f"## What was measured\n\n{_measured(manifest)}",
            f"## Limits\n\n{_bullets(_limits(manifest))}",
        ]
    made = "Made from `manifest.json` whenever that is written; what is changed here is lost then."
    return "\n\n".join([*sections, f"---\n{made}"]) + "\n"


def _tensors(manifest: ModelManifest) -> Iterable[tuple[str, str]]:
    for does, tensors in (("takes", manifest.graph_inputs), ("returns", manifest.graph_outputs)):
        for one in tensors:
            sizes = ["any" if size is None else str(size) for size in one.shape]
            yield f"{does} `{one.name}`", f"{one.dtype} [{', '.join(['N', *sizes[1:]])}]"
    if isinstance(manifest, EncoderManifest):
        told = manifest.input.model_dump(mode="json", exclude_none=True, exclude={"name", "shape", "dtype"})
        yield "input", ", ".join(f"{name} {_text(value)}" for name, value in told.items())
        unit = "unit length" if manifest.output.unit_norm else "any length"
        yield "encodings", f"of {unit}; compared by squared L2"
        if manifest.alignment is not None:
            yield "faces", "aligned; photos are taken, too, with a detector and landmarks beside it"


def _made(training: dict[str, Any]) -> str:
    if not training:
        return "Nothing is told."
    apart = ("settings", "quantized", "checked", "base")
    parts = [_table((name, _text(value)) for name, value in training.items() if name not in apart)]
    if "settings" in training:
        settings = json.dumps(training["settings"], indent=2, ensure_ascii=False, sort_keys=True)
        parts.append(f"<details><summary>all settings</summary>\n\n```json\n{settings}\n```\n\n</details>")
    if isinstance(base := training.get("base"), dict):
        parts.append(f"A head on another encoder:\n\n{_table((name, _text(value)) for name, value in base.items())}")
    if isinstance(quantized := training.get("quantized"), dict):
        told = ((name, _text(value)) for name, value in quantized.items() if name != "cost")
        parts.append(f"In fewer bits than the encoder that was trained:\n\n{_table(told)}")
    return "\n\n".join(parts)


def _checked(manifest: ModelManifest) -> str:
    try:
        vectors = manifest.vectors()
    except ModelFolderError:
        return "Its parity vectors can't be read."
    inputs = max((len(array) for array in vectors.inputs.values()), default=0)
    lines = [
        f"ONNX Runtime gave the expected outputs for {inputs} parity inputs, at most {vectors.tolerance:.3g} apart; "
        "a server tries them again on its own host before it serves the model."
    ]
    told = manifest.training.get("checked")
    return "\n\n".join([*lines, _table((name, _text(value)) for name, value in told.items())] if told else lines)


def _measured(manifest: EncoderManifest) -> str:
    parts = []
    if manifest.threshold is not None:
        parts.append(_threshold("Threshold on distances (squared L2)", manifest.threshold))
    if (head := manifest.pair_head) is not None:
        parts.append(_head(head))
    if (found := manifest.false_positives) is not None and found.evidence:
        rows = [
            (one.data, one.gallery_size, one.examples, one.fusion, f"{one.tau:.4f}", _share(one.fpir), _share(one.fnir))
            for one in found.evidence
        ]
        heads = ("data", "K", "examples each", "fusion", "tau", "FPIR", "FNIR")
        parts.append(f"By data set, at a target FPIR of {found.evidence[0].target_fpir:.2%}:\n\n{_rows(heads, rows)}")
    cost = manifest.training.get("quantized", {}).get("cost")
    if cost:
        rows = [
            (one["name"], *(_interval(one[which]) for which in ("first", "second", "difference")))
            for one in cost["differences"]
        ]
        parts.append(
            f"What the fewer bits cost, on {cost['examples']} examples of {cost['subjects']} subjects, with 95 % "
            f"intervals:\n\n{_rows(('figure', 'before', 'after', 'difference'), rows)}"
        )
    return "\n\n".join(parts) or "Nothing: it was never calibrated."


def _threshold(title: str, told: Calibration) -> str:
    fnir = "not measured" if told.fnir is None else f"{_share(told.fnir)} of {told.mated_probes:,} probes"
    rows = [
        ("tau", f"{told.tau:.6g}, by {told.fusion}"),
        (
            "FPIR",
            f"{_share(told.fpir)} ({_share(told.fpir_low)} to {_share(told.fpir_high)}); "
            f"{_share(told.target_fpir)} asked for",
        ),
        ("FNIR", fnir),
        ("enrolled (K)", str(told.gallery_size)),
        ("data", told.data),
        ("method", told.method),
    ]
    return f"{title}:\n\n{_table(rows)}"


def _head(head: PairHeadPart) -> str:
    reliable = "its probabilities were checked" if head.reliability else "its probabilities were never checked"
    told = f"It has a pair head ({head.form}); {reliable}."
    return told if head.threshold is None else f"{told}\n\n{_threshold('Threshold on 1 - y', head.threshold)}"


def _limits(manifest: EncoderManifest) -> Iterable[str]:
    if manifest.threshold is None:
        yield "It has no threshold of ours: calibrate it on subjects of your own before it decides anything."
    else:
        yield (
            f"tau holds for subjects and recordings like those of {manifest.threshold.data}; calibrate it on your own. "
            "Strangers let in grow with the number enrolled."
        )
    if (found := manifest.false_positives) is not None:
        largest = max(one.gallery_size for one in found.galleries)
        yield (
            f"FPIR was measured in galleries of at most {largest:,} of {found.people:,} subjects; beyond that it is "
            "computed."
        )
    if manifest.author_threshold is not None:
        author = manifest.author_threshold
        yield f"The author's threshold, {author.tau:.4g} ({author.source}), was not checked by us."
    if manifest.made_for is not None:
        ranges = ", ".join(f"{one.figure} {one.least:.2f} to {one.most:.2f}" for one in manifest.made_for.figures)
        yield f"It is made for pictures like the {manifest.made_for.pictures:,} of {manifest.made_for.data}: {ranges}."
    else:
        yield "What its inputs look like was not measured: it gives an encoding for anything."
    if "cost" not in manifest.training.get("quantized", {"cost": None}):
        yield "What its fewer bits cost in accuracy was not measured."
    yield "Nothing is told of how it serves groups of people apart: judge that on labelled data (`evaluate --report`)."


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _interval(told: dict[str, float]) -> str:
    return f"{_share(told['value'])} ({100 * told['low']:.2f} to {100 * told['high']:.2f})"


def _text(value: Any) -> str:
    if isinstance(value, str):
        words = value
    elif isinstance(value, float):
        words = f"{value:.6g}"
    else:
        words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= _MOST_TEXT else f"{words[:_MOST_TEXT]}..."


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return _rows(("", ""), rows)


def _rows(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    """One line, and no bar or tag of the text's own."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
