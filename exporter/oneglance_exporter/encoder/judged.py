"""Judge an encoder on labelled examples, alone or against another one; from folders, or from encodings made before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oneglance_core.judging.compare import Comparison, compare
from oneglance_core.judging.errors import JudgingError
from oneglance_core.judging.judge import Far, Judgement, judge
from oneglance_core.judging.labelled import LabelledEncodings, label, paired, read_encodings
from oneglance_core.judging.report import write_report
from oneglance_core.trials import Encodings, one_shot_error
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.spelling import subject_names
from oneglance_exporter.encoder.encoded import Reading
from oneglance_exporter.encoder.settings import EvaluateSettings
from oneglance_exporter.encoder.trials import one_shot_trials
from oneglance_exporter.errors import DataError, SettingsError
from oneglance_exporter.settings import Spellings

ARRAYS = ".npz"


@dataclass(frozen=True, slots=True)
class Judged:
    """name, judgement: of the encoder; other_name, other, comparison: of the one it is compared with, if any.

    one_shot_error: share of within-group trials, in [0, 1]; None where no group is large enough for them.
    """

    name: str
    judgement: Judgement
    one_shot_error: float | None
    ways: int
    other_name: str = ""
    other: Judgement | None = None
    comparison: Comparison | None = None

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.judgement}"]
        if self.one_shot_error is not None:
            lines.append(f"{self.ways}-way one-shot error within groups: {self.one_shot_error:.2%}")
        if self.comparison is not None:
            lines.append(f"{self.name} first, {self.other_name} second: {self.comparison}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "name": self.name,
            **self.judgement.as_dict(),
            "ways": self.ways,
            "one_shot_error": self.one_shot_error,
            "against": self.other and {"name": self.other_name, **self.other.as_dict()},
            "comparison": self.comparison and self.comparison.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Source:
    """Labelled encodings, and of which encoder. digest: empty where it isn't known."""

    name: str
    digest: str
    people: LabelledEncodings

    @property
    def examples(self) -> Examples:
        """Who they are of, without the inputs, as the exporter's trials take it; in the order of ``encodings``."""
        people, order = self.people, self._order
        return Examples(
            inputs=np.empty((len(order), 0), np.uint8),
            subject_of=people.subject_of[order],
            subjects=people.subjects,
            group_of=people.group_of,
            groups=people.groups,
            files=tuple(people.files[row] for row in order),
        )

    @property
    def encodings(self) -> Encodings:
        encodings: Encodings = self.people.encodings[self._order]
        return encodings

    @property
    def _order(self) -> Any:
        return np.argsort(self.people.subject_of, kind="stable")


def read_source(reading: Reading, tell: Callable[[str], None], far: Far) -> Source:
    """Encodings of ``reading.data`` by ``reading.model``, or those in it where it is a .npz.

    Raises SettingsError, DataError and ModelFolderError.
    """
    model = Path(reading.model)
    try:
        if model.suffix.lower() == ARRAYS:
            if reading.data:
                raise SettingsError(f"{model}: holds encodings; --data is for a model folder")
            return Source(model.stem, "", _named(read_encodings(model), reading.spellings))
        if not reading.data:
            raise SettingsError("say what to encode: --data")
        folder, examples, encodings = reading.encoded(tell, far)
        people = label(
            encodings,
            [examples.subjects[subject] for subject in examples.subject_of],
            examples.files,
            [examples.groups[examples.group_of[subject]] for subject in examples.subject_of],
            examples.inputs.__getitem__,
        )
    except JudgingError as error:
        raise DataError(str(error)) from error
    return Source(folder.manifest.name, folder.digest, people)


def _named(people: LabelledEncodings, spellings: Spellings) -> LabelledEncodings:
    names = [people.subjects[subject] for subject in people.subject_of]
    name_of = subject_names(names, spellings)
    groups = [people.groups[people.group_of[subject]] for subject in people.subject_of]
    return label(people.encodings, [name_of[name] for name in names], people.files, groups, people.picture)


def judge_sources(first: Source, second: Source | None, settings: EvaluateSettings, far: Far) -> Judged:
    """Both judged on the examples that both have. Raises DataError."""
    try:
        if second is not None:
            own, others = paired(first.people, second.people)
            first, second = replace(first, people=own), replace(second, people=others)
        share = 1.0 if second is None else 0.5
        judgement = judge(
            first.people,
            splits=settings.splits,
            seed=settings.seed,
            far=lambda done, words: far(share * done, words),
        )
        made = Judged(first.name, judgement, _one_shot_error(first, settings), settings.ways)
        if second is None:
            return made
        other = judge(
            second.people,
            splits=settings.splits,
            seed=settings.seed,
            far=lambda done, words: far(share + share * done, words),
        )
        name = second.name if second.name != first.name else f"{second.name} {second.digest[:8] or '(2)'}"
        return replace(made, other_name=name, other=other, comparison=compare(judgement, other))
    except JudgingError as error:
        raise DataError(str(error)) from error


def report(judged: Judged, path: Path, facts: dict[str, str]) -> None:
    """Write the page. Raises DataError when it can't be written."""
    encoders = [(judged.name, judged.judgement)]
    if judged.other is not None:
        encoders.append((judged.other_name, judged.other))
    if judged.one_shot_error is not None:
        facts = {**facts, f"{judged.ways}-way one-shot error": f"{judged.one_shot_error:.2%}, within groups"}
    try:
        write_report(path, encoders, judged.comparison, facts)
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error}") from error


def facts_of(sources: Sequence[Source], data: Sequence[Any], command: str) -> dict[str, str]:
    """What a report says of where it comes from."""
    found = {f"encoder {source.name}": source.digest or "encodings of a file" for source in sources}
    if data:
        found["data"] = ", ".join(Path(path).name for path in data)
    return {**found, "command": command}


def _one_shot_error(source: Source, settings: EvaluateSettings) -> float | None:
    examples = source.examples
    if np.bincount(examples.group_of).max() < settings.ways or np.bincount(examples.subject_of).min() < 2:
        return None
    trials = one_shot_trials(examples, settings.trials, settings.ways, settings.seed)
    return one_shot_error(source.encodings, trials)
