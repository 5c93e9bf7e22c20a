"""``oneglance evaluate``: judge the encoder of a running server on labelled pictures."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from oneglance.client.sync_client import Client
from oneglance_apps.cli.commands import Options, call_options, run_with_client
from oneglance_core.progress import Progress
from oneglance_core.ranges import within

DESCRIPTION = """\
Judge an encoder of the server on pictures of subjects that it was not trained on:
DIR/SUBJECT/1.png, or DIR/GROUP/SUBJECT/1.png. Every picture is encoded by the
server; nothing is enrolled. ROC, DET, EER, FPIR and FNIR by the size of the gallery,
rank-1, by number of examples, rule of fusion and group, each with its 95 %
interval; with --report as one HTML page, with the hardest pairs as pictures.
"""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "evaluate",
        help="judge an encoder of the server on labelled pictures: error rates with intervals, as a page",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[call_options()],
    )
    parser.add_argument("data", type=Path, metavar="DIR", help="SUBJECT/1.png or GROUP/SUBJECT/1.png")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--encoder", default="", metavar="MODEL", help="name or digest of a loaded model [the only one]")
    which.add_argument("--gallery", default="", metavar="GALLERY", help="judge this gallery's encoder, and its tau")
    parser.add_argument("--against", metavar="MODEL", help="compare with this loaded model, on the same pictures")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page; replaced if it is there")
    parser.add_argument("--splits", type=within(int, least=1), metavar="N", help="random galleries [20]", default=20)
    parser.add_argument(
        "--seed", type=within(int, least=0), metavar="N", help="decides who is enrolled and probed [0]", default=0
    )
    parser.set_defaults(run=run)


def run(o: Options) -> int:
    return run_with_client(o, lambda client: _evaluate(client, o))


def _evaluate(client: Client, o: Options) -> None:
    from oneglance_apps.served_encodings import served_encodings
    from oneglance_core.judging.compare import compare
    from oneglance_core.judging.judge import judge
    from oneglance_core.judging.labelled import paired
    from oneglance_core.judging.report import write_report
    from oneglance_core.measures import match_rate, miss_rate

    if o.report is not None and (o.report.is_dir() or not o.report.resolve().parent.is_dir()):
        raise NotADirectoryError(f"--report {o.report}: no file can be written there")
    encoder = client.get_gallery(o.gallery).encoder_digest if o.gallery else o.encoder
    tau = client.get_threshold(o.gallery).tau if o.gallery else None
    facts = {"server": o.server, "data": o.data.resolve().name}
    with Progress() as progress:

        def far(done: float, words: str) -> None:
            progress.show(done, 1, words)

        def tell(line: str) -> None:
            progress.say(line, error=True)

        found = [served_encodings(client, o.data, name, tell, far) for name in [encoder, *filter(None, [o.against])]]
        digests = [digest for _, digest in found]
        names = [_name(client, digest) for digest in digests]
        people = [one for one, _ in found]
        if len(people) > 1:
            people = list(paired(people[0], people[1]))
            names[1] += f" {digests[1][:8]}" * (names[0] == names[1])
        judged = [
            (name, judge(one, splits=o.splits, seed=o.seed, far=far)) for name, one in zip(names, people, strict=True)
        ]
    comparison = compare(judged[0][1], judged[1][1]) if len(judged) > 1 else None
    facts |= {f"encoder {name}": digest for name, digest in zip(names, digests, strict=True)}
    if tau is not None:
        pairs = judged[0][1].pairs
        fmr, fnmr = match_rate(pairs.non_mated, tau), miss_rate(pairs.mated, tau)
        facts[f"gallery {o.gallery}"] = f"τ = {tau:.4f}: FMR {fmr:.2%}, FNMR {fnmr:.2%} of these pairs"
    if o.report is not None:
        facts["command"] = shlex.join(["oneglance", *sys.argv[1:]])
        write_report(o.report, judged, comparison, facts)
    if o.json:
        told = [{"name": name, **judgement.as_dict()} for name, judgement in judged]
        print(json.dumps({"judged": told, "comparison": comparison and comparison.as_dict(), "facts": facts}))
        return
    for name, judgement in judged:
        print(f"{name}: {judgement}")
    if comparison is not None:
        print(f"{names[0]} first, {names[1]} second: {comparison}")
    if o.gallery:
        print(f"gallery {o.gallery}: {facts[f'gallery {o.gallery}']}")


def _name(client: Client, digest: str) -> str:
    return next((model.name for model in client.list_models() if model.digest == digest), digest[:12])
