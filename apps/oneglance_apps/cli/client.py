"""One command per RPC of oneglance.v1: ``Identify`` is ``oneglance identify``."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message

from oneglance.client.errors import OneglanceError
from oneglance.client.requests import (
    SMALL_FACES,
    ExampleLike,
    FaceChoice,
    encoding,
    enroll_request,
    identify_request,
    photo,
)
from oneglance.client.sync_client import Client
from oneglance.defaults import SERVER_ADDRESS
from oneglance.v1.gallery_pb2 import DeleteGalleryResponse
from oneglance.v1.identification_pb2 import EncodeResponse, VerifyResponse
from oneglance.v1.subject_pb2 import EnrollRequest
from oneglance_apps.cli import show
from oneglance_core.defaults import CANDIDATES
from oneglance_core.picture_files import is_picture

DIFFERENT = 3

Options = argparse.Namespace
Call = Callable[[Client, Options], Iterable[Message]]


@dataclass(frozen=True)
class Argument:
    """One argument of argparse, to be shared by commands."""

    flag: str
    options: dict[str, Any]


def argument(flag: str, help: str, **options: Any) -> Argument:
    return Argument(flag, {"help": help, **options})


_CALLS: dict[str, tuple[Call, str, tuple[Argument, ...]]] = {}


def command(summary: str, *arguments: Argument) -> Callable[[Call], Call]:
    """Registers ``def some_name`` as ``oneglance some-name``."""

    def register(call: Call) -> Call:
        _CALLS[call.__name__.replace("_", "-")] = (call, summary, arguments)
        return call

    return register


def _face_choice(text: str) -> FaceChoice:
    if text == "largest":
        return "largest"
    if text == "aligned":
        return "aligned"
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither largest, aligned nor a box X,Y,WIDTH,HEIGHT") from error
    return x, y, width, height


GALLERY = argument("gallery", "gallery id", metavar="GALLERY")
SUBJECT = argument("subject", "subject id", metavar="SUBJECT")
_EXAMPLE = "a picture; or FILE.npy with the encoder's input or, given --encoder-digest, an encoding"
PROBE = argument("probe", _EXAMPLE, metavar="FILE")
EXAMPLES = argument("examples", _EXAMPLE, metavar="FILE", nargs="+")
DIGEST = argument("--encoder-digest", "take FILE.npy for an encoding that this encoder made", metavar="DIGEST")
ENCODER = argument("--encoder", "name or digest of a loaded model [the only one]", metavar="MODEL", default="")
TAU = argument("--tau", "threshold, squared L2 [the gallery's, else the model's]", type=float)
LENGTH = argument("--max-candidates", f"length of the candidate list [{CANDIDATES}]", type=int, default=0, metavar="N")
WHICH = argument(
    "--face",
    "which face of a photo: largest, aligned (the picture is an aligned face already), or a box X,Y,WIDTH,HEIGHT "
    "[the only one; in identify, every one]",
    metavar="WHICH",
    type=_face_choice,
)
SMALL = argument(
    "--small-faces",
    "search the enlarged photo, too: when-none (the first search found no face), always, never [when-none]",
    choices=list(SMALL_FACES),
    default="when-none",
)
MATCHES = argument("--all-matches", "also list every subject under tau", action="store_true")


@command("create an empty gallery", GALLERY, ENCODER, argument("--description", "for people", default=""))
def create_gallery(client: Client, o: Options) -> Iterable[Message]:
    yield client.create_gallery(o.gallery, encoder=o.encoder, description=o.description)


@command("show a gallery: encoder, size, revision, tau", GALLERY)
def get_gallery(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_gallery(o.gallery)


@command("list all galleries")
def list_galleries(client: Client, o: Options) -> Iterable[Message]:
    return client.list_galleries()


@command("delete a gallery and everything in it, for good", GALLERY)
def delete_gallery(client: Client, o: Options) -> Iterable[Message]:
    yield DeleteGalleryResponse(deleted_subjects=client.delete_gallery(o.gallery))


@command("show the tau in force, and where it comes from", GALLERY)
def get_threshold(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_threshold(o.gallery)


@command(
    "give a gallery a tau of its own, or go back to the model's",
    GALLERY,
    argument("tau", "squared L2; leave it out to clear", type=float, nargs="?", metavar="TAU"),
)
def set_threshold(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_threshold(o.gallery, o.tau)


@command(
    "enroll a subject from one example, or several",
    GALLERY,
    SUBJECT,
    EXAMPLES,
    argument("--label", "may be repeated", action="append", default=[], metavar="KEY=VALUE"),
    argument("--on-existing", "when enrolled already [add]", choices=["add", "replace", "fail"], default="add"),
    argument("--request-id", "makes a retry safe", default="", metavar="ID"),
    DIGEST,
    WHICH,
    SMALL,
)
def enroll(client: Client, o: Options) -> Iterable[Message]:
    labels = dict(label.partition("=")[::2] for label in o.label)
    yield client.enroll(
        o.gallery,
        o.subject,
        *_examples(o.examples, o),
        labels=labels,
        on_existing=o.on_existing,
        request_id=o.request_id,
    )


@command(
    "enroll a folder of pictures over one stream",
    GALLERY,
    argument("folder", "SUBJECT/*.png (all of a subject's examples) or SUBJECT.png", type=Path, metavar="DIR"),
    WHICH,
    SMALL,
)
def bulk_enroll(client: Client, o: Options) -> Iterable[Message]:
    for response in client.bulk_enroll(_folder(o)):
        if response.HasField("error"):
            o.status = 1
        yield response


@command("show a subject: labels, times, encoding ids", GALLERY, SUBJECT)
def get_subject(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_subject(o.gallery, o.subject)


@command("list the subjects of a gallery", GALLERY)
def list_subjects(client: Client, o: Options) -> Iterable[Message]:
    return client.list_subjects(o.gallery)


@command("delete one encoding", GALLERY, SUBJECT, argument("encoding", "encoding id", metavar="ENCODING"))
def delete_encoding(client: Client, o: Options) -> Iterable[Message]:
    yield client.delete_encoding(o.gallery, o.subject, o.encoding)


@command("delete a subject and all its encodings", GALLERY, SUBJECT)
def delete_subject(client: Client, o: Options) -> Iterable[Message]:
    yield client.delete_subject(o.gallery, o.subject)


@command(
    f"1:1, is it this subject? exit status 0: same, {DIFFERENT}: different",
    GALLERY,
    SUBJECT,
    PROBE,
    TAU,
    DIGEST,
    WHICH,
    SMALL,
)
def verify(client: Client, o: Options) -> Iterable[Message]:
    (probe,) = _examples([o.probe], o)
    yield _judged(client.verify(o.gallery, o.subject, probe, tau=o.tau), o)


@command(
    f"1:1, do two examples show the same subject? exit status 0: same, {DIFFERENT}: different",
    PROBE,
    argument("other", _EXAMPLE, metavar="OTHER"),
    argument("--gallery", "use this gallery's encoder and tau", default=""),
    ENCODER,
    TAU,
    DIGEST,
    WHICH,
    SMALL,
)
def compare(client: Client, o: Options) -> Iterable[Message]:
    probe, other = _examples([o.probe, o.other], o)
    yield _judged(client.compare(probe, other, gallery_id=o.gallery, encoder=o.encoder, tau=o.tau), o)


@command("1:K, who is it, or nobody we know?", GALLERY, EXAMPLES, LENGTH, TAU, MATCHES, DIGEST, WHICH, SMALL)
def identify(client: Client, o: Options) -> Iterable[Message]:
    yield client.identify(
        o.gallery,
        *_examples(o.examples, o),
        max_candidates=o.max_candidates,
        tau=o.tau,
        all_matches=o.all_matches,
    )


@command(
    "1:K over one stream, an answer per picture",
    GALLERY,
    EXAMPLES,
    LENGTH,
    TAU,
    MATCHES,
    DIGEST,
    WHICH,
    SMALL,
)
def identify_stream(client: Client, o: Options) -> Iterable[Message]:
    requests = (
        identify_request(o.gallery, [probe], o.max_candidates, o.tau, o.all_matches)
        for probe in _examples(o.examples, o)
    )
    for response in client.identify_stream(requests):
        if response.HasField("error"):
            o.status = 1
        yield response


@command(
    "print or save f(x) of pictures",
    EXAMPLES,
    ENCODER,
    WHICH,
    SMALL,
    argument("--out", "save float32 [N, D] there", type=Path, metavar="FILE.npy"),
)
def encode(client: Client, o: Options) -> Iterable[Message]:
    encodings = client.encode(*_examples(o.examples, o), encoder=o.encoder)
    if o.out:
        np.save(o.out, np.array([e.values for e in encodings], dtype=np.float32))
    yield EncodeResponse(encodings=encodings)


@command(
    "find the faces of photos, with landmarks and quality; nothing is stored",
    argument("photos", "a photo", metavar="FILE", nargs="+"),
    SMALL,
)
def detect_faces(client: Client, o: Options) -> Iterable[Message]:
    yield client.detect_faces(*o.photos, small_faces=o.small_faces)


@command("list the models the server has loaded")
def list_models(client: Client, o: Options) -> Iterable[Message]:
    return client.list_models()


@command("show a model and its manifest", argument("model", "name or digest", metavar="MODEL"))
def describe_model(client: Client, o: Options) -> Iterable[Message]:
    yield client.describe_model(o.model)


@command(
    "wait until the server serves",
    argument("--wait", "how long to wait [1]", type=float, default=1.0, metavar="SECONDS"),
)
def health(client: Client, o: Options) -> Iterable[Message]:
    client.wait_until_serving(o.wait)
    print("serving")
    return ()


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add a parser per registered command."""
    for name, (call, summary, arguments) in _CALLS.items():
        parser = commands.add_parser(name, help=summary, description=summary, parents=[common()])
        for item in arguments:
            parser.add_argument(item.flag, **item.options)
        parser.set_defaults(run=_run, call=call)


def common(timeout_seconds: float = 30.0, streams: str = "streams and calibrate have none") -> argparse.ArgumentParser:
    """The options of every command that calls a server, for ``parents``."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("ONEGLANCE_SERVER", SERVER_ADDRESS),
        help=f"where the server is [ONEGLANCE_SERVER, else {SERVER_ADDRESS}]",
    )
    common.add_argument(
        "--timeout",
        type=float,
        default=timeout_seconds,
        metavar="SECONDS",
        help=f"deadline of a call [{timeout_seconds:g}]; {streams}",
    )
    common.add_argument("--json", action="store_true", help="print messages as JSON, one per line")
    return common


def _run(o: Options) -> int:
    render = show.as_json if o.json else show.as_text

    def work(client: Client) -> None:
        for message in o.call(client, o):
            print(render(message), flush=True)

    return run(o, work)


def run(o: Options, work: Callable[[Client], None]) -> int:
    """Do it with a client; what goes wrong becomes words and an exit status, else that is ``o.status``."""
    o.status = 0
    try:
        with Client(o.server, timeout_seconds=o.timeout) as client:
            work(client)
    except OneglanceError as error:
        if o.json:
            print(show.as_json(show.error_message(error)))
        print(f"oneglance: {error}", file=sys.stderr)
        return 1
    except (OSError, TypeError, ValueError) as error:
        print(f"oneglance: {error}", file=sys.stderr)
        return 2
    return int(o.status)


def _judged(answer: VerifyResponse, o: Options) -> VerifyResponse:
    o.status = 0 if answer.same else DIFFERENT
    return answer


def _examples(files: Iterable[str], o: Options) -> Iterator[ExampleLike]:
    encoder_digest = getattr(o, "encoder_digest", None)
    for file in files:
        if not file.endswith(".npy"):
            yield photo(file, o.face, o.small_faces)
        elif encoder_digest is None:
            yield np.load(file, allow_pickle=False)
        else:
            rows = np.atleast_2d(np.load(file, allow_pickle=False))
            yield from (encoding(row, encoder_digest) for row in rows)


def _folder(o: Options) -> Iterator[EnrollRequest]:
    if not o.folder.is_dir():
        raise FileNotFoundError(f"{o.folder}: not a folder")
    for entry in sorted(o.folder.iterdir()):
        if entry.is_dir():
            pictures = sorted(p for p in entry.iterdir() if is_picture(p))
            if pictures:
                yield enroll_request(o.gallery, entry.name, [photo(p, o.face, o.small_faces) for p in pictures])
        elif is_picture(entry):
            yield enroll_request(o.gallery, entry.stem, [photo(entry, o.face, o.small_faces)])
