"""The commands that call one RPC each: ``Identify`` is ``oneglance identify``."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from oneglance.client.errors import from_error
from oneglance.client.requests import (
    DECIDED_BY,
    DOUBT_POLICIES,
    QUALITY_POLICIES,
    identify_request,
    keyed,
    retention,
    subject_filter,
)
from oneglance.client.requests import FUSIONS as RULES
from oneglance.client.sync_client import Client
from oneglance.v1.common_pb2 import SubjectFilter
from oneglance.v1.identification_pb2 import VerifyResponse
from oneglance.v1.subject_pb2 import Retention
from oneglance_apps.cli.arguments import (
    ACCEPT_BREACHES,
    ALL_MATCHES,
    ENCODER,
    ENCODER_DIGEST,
    EXAMPLES,
    FACE,
    GALLERY,
    MAX_CANDIDATES,
    ON_DOUBT,
    OTHER_PROBE,
    PROBE,
    QUALITY_POLICY,
    SMALL_FACES_OPTION,
    SUBJECT,
    TAU,
    UPRIGHT_ONLY,
    a_label,
    a_name,
    read_examples,
)
from oneglance_apps.cli.commands import Options, argument, command
from oneglance_apps.error_words import why
from oneglance_core.defaults import FUSION, TARGET_FPIR, VERIFY_FMR
from oneglance_core.files import replacing
from oneglance_core.ranges import seconds, within

EXIT_DIFFERENT = 3
FUSIONS = [name for name in RULES if name]
DECIDED_BY_NAMES = [name for name in DECIDED_BY if name]
_DECIDES = "what decides: distances, or the probability that the encoder's pair head tells"
_GAP = "how much nearer than the next subject one must be to be identified"


def a_time(text: str) -> datetime:
    """As 2027-01-31 or 2027-01-31T12:00; without a zone it is UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


EXPIRES = argument("--expires", "when the subject is to be deleted, as 2027-01-31", type=a_time, metavar="TIME")
PURPOSE = argument("--purpose", "what the subject is kept for", default="", metavar="TEXT")
CONSENT = argument("--consent", "a reference to the consent", default="", metavar="TEXT")
HAVING = argument(
    "--having",
    "only subjects with this label; may be repeated",
    type=a_label,
    action="append",
    default=[],
    metavar="KEY=VALUE",
)
ID_PREFIX = argument("--id-prefix", "only subjects whose id begins so", default="", metavar="TEXT")
WITH_LABELS = argument("--with-labels", "tell the labels of candidates", action="store_true")
KEY = argument("--key", "ENCODING is the key that the encoding was enrolled with", action="store_true")
LEAST_GAP = argument("--least-gap", f"{_GAP} [the gallery's]", type=within(float), metavar="GAP")
ONE_FACE_EACH = argument(
    "--one-face-each",
    "identify a subject in one face of a photo at most, and tell of the conflicts",
    action="store_true",
)
EXACT = argument("--exact", "exactly, whatever the gallery may lose (set-approximation)", action="store_true")
FMR = argument("--fmr", f"share of wrong claims that tau may accept [{VERIFY_FMR}]", type=within(float), metavar="RATE")


@command(
    "create an empty gallery",
    GALLERY,
    ENCODER,
    argument("--description", "for people", default=""),
    argument("--fusion", f"how a subject's examples become one distance [{FUSION}]", choices=FUSIONS, default=""),
    argument("--fpir", f"share of strangers that tau may let in [{TARGET_FPIR}]", type=within(float), metavar="RATE"),
    QUALITY_POLICY,
    argument("--least-gap", f"{_GAP} [0]", type=within(float), default=0.0, metavar="GAP"),
    ON_DOUBT,
    argument("--decided-by", f"{_DECIDES} [distance]", choices=DECIDED_BY_NAMES, default=""),
    argument(
        "--keep-crops",
        "keep a crop of each picture that is enrolled, encrypted, to move to another encoder by; nothing shows it",
        action="store_true",
    ),
)
def create_gallery(client: Client, o: Options) -> Iterable[Message]:
    yield client.create_gallery(
        o.gallery,
        encoder=o.encoder,
        description=o.description,
        fusion=o.fusion,
        target_fpir=o.fpir,
        quality_policy=o.quality_policy,
        least_gap=o.least_gap,
        doubt_policy=o.on_doubt,
        decided_by=o.decided_by,
        keep_crops=o.keep_crops,
    )


@command("show a gallery: encoder, size, revision, tau", GALLERY)
def get_gallery(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_gallery(o.gallery)


@command("list all galleries")
def list_galleries(client: Client, o: Options) -> Iterable[Message]:
    return client.list_galleries()


@command("delete a gallery and everything in it, for good", GALLERY)
def delete_gallery(client: Client, o: Options) -> Iterable[Message]:
    yield client.delete_gallery(o.gallery)


@command(
    "give a gallery another key, or without one: encrypt all keys with another master key"
    " (backups made before need the former master key: copy it first, or make a new backup)",
    argument("gallery", "gallery id", nargs="?", default="", metavar="GALLERY"),
)
def rotate_key(client: Client, o: Options) -> Iterable[Message]:
    client.rotate_key(o.gallery)
    return ()


@command(
    "have the server make a backup of all galleries, a new file in its folder for them (backup_dir)",
    argument("name", "of the file", metavar="NAME"),
)
def create_backup(client: Client, o: Options) -> Iterable[Message]:
    yield client.create_backup(o.name)


@command("say who this client is to the server, and what is granted to it")
def get_identity(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_identity()


@command(
    "make an API key for the identity key:NAME; its secret is shown this once",
    argument("name", "whose key it is", metavar="NAME"),
    argument("--expires", "when it is good no longer, as 2027-01-31", type=a_time, metavar="TIME"),
)
def create_api_key(client: Client, o: Options) -> Iterable[Message]:
    yield client.create_api_key(o.name, expires=o.expires)


@command("list the API keys, without their secrets")
def list_api_keys(client: Client, o: Options) -> Iterable[Message]:
    yield from client.list_api_keys()


@command("refuse an API key from now on", argument("id", "of list-api-keys", metavar="ID"))
def revoke_api_key(client: Client, o: Options) -> Iterable[Message]:
    client.revoke_api_key(o.id)
    return ()


@command("show the tau in force, and where it comes from", GALLERY)
def get_threshold(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_threshold(o.gallery)


@command(
    "give a gallery a tau of its own, or let it follow the gallery's size",
    GALLERY,
    argument(
        "tau",
        "squared L2, or 1 - probability where that decides; leave it out to clear",
        type=within(float),
        nargs="?",
        metavar="TAU",
    ),
    argument("--fpir", "without TAU: share of strangers that tau may let in", type=within(float), metavar="RATE"),
)
def set_threshold(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_threshold(o.gallery, o.tau, target_fpir=o.fpir)


@command(
    "change how a subject's examples become one distance; clears the gallery's own tau",
    GALLERY,
    argument("fusion", "the nearest example, their mean, or that with a margin to others", choices=FUSIONS),
)
def set_fusion(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_fusion(o.gallery, o.fusion)


@command(
    "change what decides in a gallery; clears the gallery's own tau",
    GALLERY,
    argument("decided_by", _DECIDES, choices=DECIDED_BY_NAMES, metavar="{distance,probability}"),
)
def set_decided_by(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_decided_by(o.gallery, o.decided_by)


@command(
    "set what a gallery demands of faces from now on",
    GALLERY,
    argument("policy", "the quality policy", choices=list(filter(None, QUALITY_POLICIES))),
)
def set_quality_policy(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_quality_policy(o.gallery, o.policy)


@command(
    "set how much nearer than the next subject one must be to be identified from now on",
    GALLERY,
    argument("gap", "0: it need not be", type=within(float), metavar="GAP"),
)
def set_least_gap(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_least_gap(o.gallery, o.gap)


@command(
    "set whether a gallery keeps a crop of each picture that is enrolled from now on, encrypted, to move to another"
    " encoder by; off deletes all that it has",
    GALLERY,
    argument("keep", "on, or off", choices=["on", "off"]),
)
def set_keep_crops(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_keep_crops(o.gallery, o.keep == "on")


@command(
    "let a gallery's answers lose something, so that searches read a part of it only",
    GALLERY,
    argument(
        "--mates-found",
        "share of matches by exact search that are found at least, as 0.999",
        type=within(float, above=0.5, below=1),
        metavar="SHARE",
    ),
    argument("--exact-on-alarm", "with it: answers are exact again once more is lost", action="store_true"),
    argument("--exact", "in its place: answers are exact again", action="store_true"),
)
def set_approximation(client: Client, o: Options) -> Iterable[Message]:
    if o.exact == (o.mates_found is not None) or (o.exact and o.exact_on_alarm):
        raise ValueError("give --mates-found SHARE, or --exact alone")
    yield client.set_approximation(o.gallery, o.mates_found, exact_on_alarm=o.exact_on_alarm)


@command(
    "list pairs of subjects that look like each other, the nearest first",
    GALLERY,
    argument("--within", "squared L2 [the gallery's tau]", type=within(float), metavar="DISTANCE"),
)
def list_look_alikes(client: Client, o: Options) -> Iterable[Message]:
    yield client.list_look_alikes(o.gallery, o.within)


@command(
    "set what is done about doubtful enrollments from now on",
    GALLERY,
    argument("policy", "the doubt policy", choices=list(filter(None, DOUBT_POLICIES))),
)
def set_doubt_policy(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_doubt_policy(o.gallery, o.policy)


@command(
    "enroll a subject from one example, or several",
    GALLERY,
    SUBJECT,
    EXAMPLES,
    argument("--label", "may be repeated", type=a_label, action="append", default=[], metavar="KEY=VALUE"),
    argument("--key", "a name of your own for the encoding; may be repeated", action="append", metavar="KEY"),
    argument(
        "--keep-file-names", "keep the files' names, encrypted, as where the encodings are from", action="store_true"
    ),
    argument("--on-existing", "when enrolled already [add]", choices=["add", "replace", "fail"], default="add"),
    argument("--request-id", "makes a retry safe", default="", metavar="ID"),
    EXPIRES,
    PURPOSE,
    CONSENT,
    ACCEPT_BREACHES,
    ON_DOUBT,
    ENCODER_DIGEST,
    FACE,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def enroll(client: Client, o: Options) -> Iterable[Message]:
    examples = list(read_examples(o.examples, o))
    keys = o.key or [""] * len(examples)
    if len(keys) != len(examples):
        raise ValueError(f"{len(keys)} keys for {len(examples)} examples: give one for each, or none")
    named = o.keep_file_names and len(o.examples) == len(examples)
    sources = [Path(file).name for file in o.examples] if named else [""] * len(examples)
    yield client.enroll(
        o.gallery,
        o.subject,
        *map(keyed, examples, keys, sources),
        labels=dict(o.label),
        on_existing=o.on_existing,
        request_id=o.request_id,
        accept_breaches=o.accept_breaches,
        doubt_policy=o.on_doubt,
        retention=_retention(o) if o.expires or o.purpose or o.consent else None,
    )


def _filter(o: Options) -> SubjectFilter | None:
    return subject_filter(dict(o.having), o.id_prefix) if o.having or o.id_prefix else None


def _which(o: Options) -> tuple[str, str]:
    """The id of the encoding, or else its key."""
    return ("", o.encoding) if o.key else (o.encoding, "")


def _retention(o: Options) -> Retention:
    return retention(o.expires, o.purpose, o.consent)


@command(
    "set how long a subject may be kept, and why; what is left out is cleared",
    GALLERY,
    SUBJECT,
    EXPIRES,
    PURPOSE,
    CONSENT,
)
def set_retention(client: Client, o: Options) -> Iterable[Message]:
    yield client.set_retention(o.gallery, o.subject, _retention(o))


@command(
    "list subjects whose time is over, whom the next sweep deletes",
    argument("--at", "at a time to come [now]", type=a_time, metavar="TIME"),
)
def list_expired(client: Client, o: Options) -> Iterable[Message]:
    return client.list_expired(o.at)


@command("show a subject: labels, times, encoding ids", GALLERY, SUBJECT)
def get_subject(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_subject(o.gallery, o.subject)


@command("list the subjects of a gallery", GALLERY, HAVING, ID_PREFIX)
def list_subjects(client: Client, o: Options) -> Iterable[Message]:
    return client.list_subjects(o.gallery, _filter(o))


@command(
    "count subjects, and with which values of a label",
    GALLERY,
    argument("--by", "key of the label", type=a_name, metavar="KEY"),
    HAVING,
    ID_PREFIX,
)
def count_subjects(client: Client, o: Options) -> Iterable[Message]:
    yield client.count_subjects(o.gallery, o.by or "", _filter(o))


@command(
    "give a subject another id", GALLERY, SUBJECT, argument("new_id", "the new one", type=a_name, metavar="NEW_ID")
)
def rename_subject(client: Client, o: Options) -> Iterable[Message]:
    yield client.rename_subject(o.gallery, o.subject, o.new_id)


@command(
    "change labels of a subject",
    GALLERY,
    SUBJECT,
    argument("--label", "to be set; may be repeated", type=a_label, action="append", default=[], metavar="KEY=VALUE"),
    argument("--remove", "to be taken away; may be repeated", action="append", default=[], metavar="KEY"),
    argument("--clear", "take away all that aren't set", action="store_true"),
)
def update_labels(client: Client, o: Options) -> Iterable[Message]:
    yield client.update_labels(o.gallery, o.subject, dict(o.label), remove=o.remove, clear=o.clear)


@command(
    "make two subjects one: all that SUBJECT has goes to INTO, and SUBJECT is gone",
    GALLERY,
    SUBJECT,
    argument("into", "who stays, with id, retention and labels", type=a_name, metavar="INTO"),
)
def merge_subjects(client: Client, o: Options) -> Iterable[Message]:
    yield client.merge_subjects(o.gallery, o.subject, o.into)


@command(
    "give an encoding to another subject; the last one takes its subject with it",
    GALLERY,
    SUBJECT,
    argument("encoding", "encoding id, or with --key its key", metavar="ENCODING"),
    argument("to", "who gets it", type=a_name, metavar="TO"),
    KEY,
)
def move_encoding(client: Client, o: Options) -> Iterable[Message]:
    encoding_id, encoding_key = _which(o)
    yield client.move_encoding(o.gallery, o.subject, encoding_id, o.to, encoding_key=encoding_key)


@command(
    "delete the subjects that have these labels, or an id that begins so",
    GALLERY,
    HAVING,
    ID_PREFIX,
    argument("--dry-run", "only tell how many they are", action="store_true"),
)
def delete_subjects(client: Client, o: Options) -> Iterable[Message]:
    while True:
        done = client.delete_subjects(o.gallery, subject_filter(dict(o.having), o.id_prefix), dry_run=o.dry_run)
        yield done
        if o.dry_run or not done.deleted:
            return


@command(
    "delete one encoding",
    GALLERY,
    SUBJECT,
    argument("encoding", "encoding id, or with --key its key", metavar="ENCODING"),
    KEY,
)
def delete_encoding(client: Client, o: Options) -> Iterable[Message]:
    encoding_id, encoding_key = _which(o)
    yield client.delete_encoding(o.gallery, o.subject, encoding_id, encoding_key=encoding_key)


@command("delete a subject and all its encodings", GALLERY, SUBJECT)
def delete_subject(client: Client, o: Options) -> Iterable[Message]:
    yield client.delete_subject(o.gallery, o.subject)


@command(
    '"not this person": what is nearer to this example than to the subject is not given the subject',
    GALLERY,
    SUBJECT,
    PROBE,
    ENCODER_DIGEST,
    FACE,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def add_negative(client: Client, o: Options) -> Iterable[Message]:
    (example,) = read_examples([o.probe], o)
    yield client.add_negative(o.gallery, o.subject, example)


@command("delete one negative of a subject", GALLERY, SUBJECT, argument("negative", "negative id", metavar="NEGATIVE"))
def delete_negative(client: Client, o: Options) -> Iterable[Message]:
    yield client.delete_negative(o.gallery, o.subject, o.negative)


@command(
    f"1:1, is it this subject? exit status 0: same, {EXIT_DIFFERENT}: different",
    GALLERY,
    SUBJECT,
    PROBE,
    TAU,
    FMR,
    ENCODER_DIGEST,
    FACE,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def verify(client: Client, o: Options) -> Iterable[Message]:
    (probe,) = read_examples([o.probe], o)
    yield _with_status(client.verify(o.gallery, o.subject, probe, tau=o.tau, target_fmr=o.fmr), o)


@command(
    f"1:1, do two examples show the same subject? exit status 0: same, {EXIT_DIFFERENT}: different",
    PROBE,
    OTHER_PROBE,
    argument("--gallery", "use this gallery's encoder and tau", default=""),
    ENCODER,
    TAU,
    FMR,
    ENCODER_DIGEST,
    FACE,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def compare(client: Client, o: Options) -> Iterable[Message]:
    probe, other = read_examples([o.probe, o.other], o)
    yield _with_status(
        client.compare(probe, other, gallery_id=o.gallery, encoder=o.encoder, tau=o.tau, target_fmr=o.fmr), o
    )


@command(
    "1:K, which enrolled subject is it, or a stranger?",
    GALLERY,
    EXAMPLES,
    MAX_CANDIDATES,
    TAU,
    ALL_MATCHES,
    LEAST_GAP,
    ONE_FACE_EACH,
    HAVING,
    ID_PREFIX,
    WITH_LABELS,
    EXACT,
    ENCODER_DIGEST,
    FACE,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def identify(client: Client, o: Options) -> Iterable[Message]:
    yield client.identify(
        o.gallery,
        *read_examples(o.examples, o),
        max_candidates=o.max_candidates,
        tau=o.tau,
        all_matches=o.all_matches,
        least_gap=o.least_gap,
        one_face_each=o.one_face_each,
        filter=_filter(o),
        with_labels=o.with_labels,
        exact=o.exact,
    )


@command(
    "1:K over one stream, an answer per picture",
    GALLERY,
    EXAMPLES,
    MAX_CANDIDATES,
    TAU,
    ALL_MATCHES,
    LEAST_GAP,
    ONE_FACE_EACH,
    HAVING,
    ID_PREFIX,
    WITH_LABELS,
    EXACT,
    ENCODER_DIGEST,
    FACE,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def identify_stream(client: Client, o: Options) -> Iterable[Message]:
    requests = (
        identify_request(
            o.gallery,
            probe,
            max_candidates=o.max_candidates,
            tau=o.tau,
            all_matches=o.all_matches,
            least_gap=o.least_gap,
            one_face_each=o.one_face_each,
            filter=_filter(o),
            with_labels=o.with_labels,
            exact=o.exact,
        )
        for probe in read_examples(o.examples, o)
    )
    for response in client.identify_stream(requests):
        if response.HasField("error"):
            o.status = 1
            response.error.message = why(from_error(response.error), [o.names[response.index]])
        yield response


@command(
    "print or save the encodings of pictures",
    EXAMPLES,
    ENCODER,
    FACE,
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
    argument("--out", "save the encodings there, as .npy whatever its name, float32 [N, D]", type=Path, metavar="FILE"),
)
def encode(client: Client, o: Options) -> Iterable[Message]:
    response = client.encode(*read_examples(o.examples, o), encoder=o.encoder)
    if o.out:
        with replacing(o.out) as fresh, fresh.open("wb") as file:  # to a file: np.save adds .npy to other names
            np.save(file, np.array([e.values for e in response.encodings], dtype=np.float32))
    yield response


@command(
    "find the faces of photos, with landmarks and quality; nothing is stored",
    argument("photos", "a photo", metavar="FILE", nargs="+"),
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def detect_faces(client: Client, o: Options) -> Iterable[Message]:
    o.names.extend(o.photos)
    yield client.detect_faces(*o.photos, small_faces=o.small_faces, upright_only=o.upright_only)


@command("say which version the server is, what it can do, and its limits")
def get_server(client: Client, o: Options) -> Iterable[Message]:
    yield client.get_server()


@command("list the models the server has loaded")
def list_models(client: Client, o: Options) -> Iterable[Message]:
    return client.list_models()


@command("show a model and its manifest", argument("model", "name or digest", metavar="MODEL"))
def describe_model(client: Client, o: Options) -> Iterable[Message]:
    yield client.describe_model(o.model)


@command(
    "wait until the server serves",
    argument("--wait", "how long to wait [1]", type=seconds(least=0), default=1.0, metavar="SECONDS"),
    argument("--service", "one service, as oneglance.v1.IdentificationService [all]", default="", metavar="NAME"),
    argument("--live", "be content with any answer: the server lives, serving or not", action="store_true"),
)
def health(client: Client, o: Options) -> Iterable[Message]:
    client.wait_until_serving(o.wait, o.service, any_answer=o.live)
    print("it answers" if o.live else "serving")
    return ()


def _with_status(answer: VerifyResponse, o: Options) -> VerifyResponse:
    """Set the exit status by the decision."""
    o.status = 0 if answer.same else EXIT_DIFFERENT
    return answer
