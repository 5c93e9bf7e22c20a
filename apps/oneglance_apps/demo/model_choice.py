"""Which of the server's encoders the pictures are made for."""

from collections import Counter
from collections.abc import Sequence

from pydantic import ValidationError

from oneglance import Client
from oneglance.client.errors import InvalidArgumentError
from oneglance.v1.model_pb2 import Model
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.measure import Share, share
from oneglance_apps.demo.pictures import LIMITS, Picture
from oneglance_apps.demo.rate_text import of
from oneglance_apps.text import is_encoder
from oneglance_core.input_figures import input_figures
from oneglance_core.limits import breaches
from oneglance_core.manifests import EncoderManifest
from oneglance_core.pictures import PictureError, encoder_input

SAMPLE = 24  # pictures that are looked at
LEAST_FIT = 0.5  # share of them that must be of the encoder's kind


def choose_encoder(client: Client, pictures: Sequence[Picture]) -> tuple[Model, str]:
    """The encoder that most of ``pictures`` are made for, and how that was told, in words.

    An encoder of faces takes photos with an upright face in them; any other, pictures within the limits of its
    manifest. One whose manifest has no limits is taken if no other fits. Raises DemoError, with what to do, if none
    fits.
    """
    some = pictures[:: max(1, len(pictures) // SAMPLE)][:SAMPLE]
    models = [model for model in client.list_models() if is_encoder(model)]
    found = [(model, *_fit(client, model, some)) for model in models]
    fitting = [(fit.value, model, fit) for model, fit, _ in found if fit and fit.value >= LEAST_FIT]
    if fitting:
        _, model, fit = max(fitting, key=lambda one: one[0])
        return model, f"{of(fit)} pictures looked at are of the kind that it is made for"
    silent = [model for model, fit, _ in found if fit is None]
    if silent:
        return silent[0], "it does not say what it is made for: look at the pictures, and at the figures below"
    told = "\n".join(f"  {model.name}: {of(fit)} fit; {why}" for model, fit, why in found if fit)
    raise DemoError(
        "the pictures are not of the kind that any of these encoders is made for:\n"
        f"{told}\n"
        "name the model folders of one that is: --models DIR. For photos of faces:\n"
        "  oneglance-exporter import dlib-faces --out models/faces\n"
        "  oneglance demo --models models/faces --images ..."
    )


def _fit(client: Client, model: Model, pictures: Sequence[Picture]) -> tuple[Share | None, str]:
    """The share of ``pictures`` that are of the encoder's kind, and what most of the others lack. None: it doesn't say,
    or none of the pictures can be read."""
    try:
        manifest = EncoderManifest.model_validate_json(client.describe_model(model.digest).manifest_json)
    except ValidationError:  # of a newer version
        return None, ""
    fits: list[bool] = []
    lacks: Counter[str] = Counter()
    for picture in pictures:
        try:
            found = _lacks(client, manifest, picture)
        except (PictureError, InvalidArgumentError):
            continue
        if found is None:
            return None, ""
        fits.append(not found)
        lacks.update([found] if found else [])
    why = lacks.most_common(1)[0][0] if lacks else ""
    return (share(fits), why) if fits else (None, "")


def _lacks(client: Client, manifest: EncoderManifest, picture: Picture) -> str | None:
    """What is wrong with a picture, "" if nothing is; None if the manifest doesn't tell. Raises PictureError,
    InvalidArgumentError."""
    if manifest.alignment is not None:
        faces = client.detect_faces(picture.read()).photos[0].faces
        upright = any(not face.HasField("uprightness") or face.uprightness.upright for face in faces)
        return "" if upright else "no upright face is found"
    if manifest.made_for is None:
        return None
    broken = breaches(input_figures(encoder_input(picture.read(), manifest.input, LIMITS)), manifest.made_for.limits)
    return f"for one, {broken[0]}" if broken else ""
