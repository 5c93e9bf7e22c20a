"""Every setting of every settings model: described, a flag that shows its default, refused by its flag out of range."""

import argparse
import contextlib
import json
import math
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from oneglance_apps.cli.main import parser as apps_parser
from oneglance_apps.demo.settings import DemoSettings
from oneglance_core.faces.finder import FaceSearch
from oneglance_core.flags import Flag, add_flags, complaints, default_text, flag_name, given_values
from oneglance_exporter.cli.main import parser as exporter_parser
from oneglance_exporter.encoder.settings import CalibrateSettings, EvaluateSettings, TrainSettings
from oneglance_exporter.errors import SettingsError
from oneglance_exporter.gatys.settings import GatysSettings
from oneglance_exporter.imports.onnx_settings import OnnxSettings
from oneglance_exporter.look.settings import LookSettings
from oneglance_exporter.quantize.settings import QuantizeSettings
from oneglance_exporter.stylizer.settings import StylizerSettings
from oneglance_exporter.uprightness.settings import UprightnessSettings
from oneglance_index import IndexSettings
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER, Settings

# A model, the command that takes it, and what it can't do without.
COMMANDS: list[tuple[type[BaseModel], argparse.ArgumentParser, list[str], dict[str, Any]]] = [
    (Settings, apps_parser(), ["serve"], {}),
    (DemoSettings, apps_parser(), ["demo"], {}),
    (TrainSettings, exporter_parser(), ["train", "encoder"], {"steps": 1}),
    (CalibrateSettings, exporter_parser(), ["calibrate"], {}),
    (EvaluateSettings, exporter_parser(), ["evaluate"], {}),
    (StylizerSettings, exporter_parser(), ["train", "stylizer"], {"steps": 1}),
    (GatysSettings, exporter_parser(), ["style", "optimize"], {}),
    (OnnxSettings, exporter_parser(), ["import", "onnx"], {}),
    (UprightnessSettings, exporter_parser(), ["train", "uprightness"], {}),
    (LookSettings, exporter_parser(), ["look"], {}),
    (QuantizeSettings, exporter_parser(), ["quantize"], {}),
]
MODELS: list[tuple[type[BaseModel], dict[str, Any]]] = [
    *((model, needed) for model, _, _, needed in COMMANDS),
    (IndexSettings, {}),
    (FaceSearch, {}),
]


def command(top: argparse.ArgumentParser, words: list[str]) -> argparse.ArgumentParser:
    for word in words:
        action = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
        top = action.choices[word]
    return top


def refused(field: FieldInfo) -> Any:
    """A value that the field's type or range leaves out; None if there is no such value."""
    kind = next((part for part in (*typing.get_args(field.annotation), field.annotation) if part in (int, float)), None)
    if typing.get_origin(field.annotation) is Literal:
        return "neither"
    if kind is None or typing.get_origin(field.annotation) is tuple:
        return None
    below = [bound.ge - 1 for bound in field.metadata if hasattr(bound, "ge")]
    below += [bound.gt for bound in field.metadata if hasattr(bound, "gt")]
    assert below, "a number without a lower bound"
    return below[0]


@pytest.mark.parametrize(("model", "needed"), MODELS)
def test_every_setting_is_described_and_refused_by_its_flag(model: type[BaseModel], needed: dict[str, Any]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        value = refused(field)
        if value is None:
            continue
        with pytest.raises((ValidationError, SettingsError)) as caught:
            model(**{**needed, name: value})
        error = caught.value
        (line,) = complaints(error) if isinstance(error, ValidationError) else str(error).splitlines()
        assert line.startswith(f"{flag_name(name)} must ")
        assert line.endswith(f", got {value!r}")


def leaves(top: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands of a command line, without those that consist of others."""
    groups = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name, top
    for group in groups:
        for word, below in group.choices.items():
            yield from leaves(below, f"{name} {word}")


def numbers() -> Iterator[tuple[str, Callable[[str], object], bool]]:
    """What reads each number of every command that no settings model checks; and whether it is a time."""
    of_models = {name for model, _ in MODELS for name in model.model_fields}
    for name, parser in (*leaves(apps_parser(), "oneglance"), *leaves(exporter_parser(), "oneglance-exporter")):
        for action in parser._actions:
            kind: Any = action.type
            if kind is None or action.dest in of_models:
                continue
            with contextlib.suppress(ValueError, TypeError, argparse.ArgumentTypeError):
                if any(type(kind(text)) in (int, float) for text in ("1", "64")):
                    yield f"{name} {action.dest}", kind, action.metavar == "SECONDS"


def test_no_flag_takes_an_absurd_number() -> None:
    found = list(numbers())
    assert len(found) > 50
    for name, read, is_time in found:
        for text in ("nan", "inf", "-inf", "1e300", "-1e300", "9" * 40, *(["1e12", "-1"] if is_time else [])):
            with pytest.raises((argparse.ArgumentTypeError, ValueError), match=r"must be|invalid literal"):
                print(name, text, read(text))


@pytest.mark.parametrize(("model", "needed"), MODELS)
def test_no_setting_takes_an_absurd_number(model: type[BaseModel], needed: dict[str, Any]) -> None:
    for name, field in model.model_fields.items():
        if not {int, float} & {field.annotation, *typing.get_args(field.annotation)}:
            continue
        many = typing.get_origin(field.annotation) is tuple
        endless = any(getattr(part, "allow_inf_nan", False) for part in field.metadata)
        absurd = [math.nan, *([] if endless else [math.inf])]
        if name not in getattr(model, "endless", ()):
            absurd += [1e300, 10**40]
        for value in [*absurd, *([1e12] if name.endswith("seconds") else [])]:
            with pytest.raises((ValidationError, SettingsError), match=r"must be|should be|Unable to parse"):
                model(**{**needed, name: (value, value) if many else value})


@pytest.mark.parametrize(("model", "top", "words", "needed"), COMMANDS)
def test_every_setting_is_a_flag_that_shows_its_default(
    model: type[BaseModel], top: argparse.ArgumentParser, words: list[str], needed: dict[str, Any]
) -> None:
    actions = {action.dest: action for action in command(top, words)._actions}
    for name, field in model.model_fields.items():
        assert actions[name].option_strings[0] == flag_name(name)
        assert field.description
        shown = default_text(name, field)
        assert (actions[name].help or "").replace("%%", "%") == f"{field.description}{shown and f' [{shown}]'}"
        number = field.default is not None and isinstance(field.default, int | float) and field.default is not False
        assert bool(shown) or not number, f"{name}: the default {field.default} isn't shown"
    assert model(**needed)


@pytest.mark.parametrize(
    ("model", "trained"),
    [
        (TrainSettings, BUNDLED_MODEL),
        (TrainSettings, BUNDLED_MODEL.parent / "glyphs"),
        (StylizerSettings, BUNDLED_STYLIZER),
    ],
)
def test_settings_of_former_runs_load(model: type[BaseModel], trained: Path) -> None:
    told = json.loads((trained / "manifest.json").read_text())["training"]["settings"]
    assert json.loads(model(**told).model_dump_json(exclude_unset=True)) == told


class Cases(BaseModel):
    needed: int = Field(ge=0, description="a")
    wait_seconds: float = Field(10.0, gt=0, description="b, 5 % say")
    sides: Annotated[tuple[int, int], Flag(unit="pixels")] = Field((3, 4), description="c")
    names: tuple[str, ...] = Field((), description="d")
    folders: Annotated[tuple[str, ...], Flag(separator=":")] = Field(("a", "b"), description="e")
    kind: Literal["cat", "dog"] = Field("cat", description="f")
    quiet: bool = Field(False, description="g")
    careful: bool = Field(True, description="h")
    page: Annotated[str, Flag(metavar="URL", alone="here")] = Field("", description="i")
    rate: Annotated[float | None, Flag(default="the model's")] = Field(None, ge=0, le=1, description="j")


@pytest.fixture
def cases() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_flags(made, Cases)
    return made


def test_help_shows_names_values_and_defaults(cases: argparse.ArgumentParser) -> None:
    text = " ".join(cases.format_help().split("options:")[1].split())
    for line in (
        "--needed N a --wait-seconds",
        "--wait-seconds SECONDS b, 5 % say [10 seconds]",
        "--sides PIXELS PIXELS c [3 4 pixels]",
        "--names NAMES [NAMES ...] d",
        "--folders FOLDERS e [a:b]",
        "--kind {cat,dog} f [cat]",
        "--quiet, --no-quiet g",
        "--careful, --no-careful h",
        "--page [URL] i",
        "--rate X j [the model's]",
    ):
        assert line in text


def test_only_what_is_given_is_there(cases: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    def given(*arguments: str) -> dict[str, Any]:
        return given_values(cases.parse_args(["--needed", "1", *arguments]), Cases)

    assert given() == {"needed": 1}
    assert given("--quiet", "--no-careful", "--page") == {"needed": 1, "quiet": True, "careful": False, "page": "here"}
    assert given("--sides", "1", "2", "--names", "x", "y") == {"needed": 1, "sides": [1, 2], "names": ["x", "y"]}
    assert Cases(**given("--sides", "1", "2", "--rate", "0.5")).sides == (1, 2)
    for wrong in (["--kind", "cow"], ["--wait-seconds", "soon"], ["--sides", "1"]):
        with pytest.raises(SystemExit) as caught:
            given(*wrong)
        assert caught.value.code == 2
        assert wrong[0] in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cases.parse_args([])


def test_every_complaint_is_a_line_of_its_own() -> None:
    with pytest.raises(ValidationError) as caught:
        Cases.model_validate({"wait_seconds": 0, "kind": "cow", "rate": 2, "sides": (1, "x")})
    assert complaints(caught.value) == [
        "--needed is missing",
        "--wait-seconds must be greater than 0, got 0",
        "--sides must be a valid integer, got 'x'",
        "--kind must be 'cat' or 'dog', got 'cow'",
        "--rate must be at most 1, got 2",
    ]
    with pytest.raises(ValidationError) as caught:
        FaceSearch(min_face=math.nan, largest=3)  # type: ignore[call-arg]
    assert complaints(caught.value)[1] == "largest: no such setting"
