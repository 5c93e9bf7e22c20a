"""Build a release: ``python scripts/release.py --out dist/release`` from a clean checkout, with oneglance[release].

Makes the wheel and the sdist, the site of the documents, the Debian package, the chart, the contexts of the images
(what ``docker build`` reads; scripts/build_images builds), SBOM and licences of what the package installs, the
changelog of this version, and SHA256SUMS of all of them. The same commit gives the same bytes: times are
SOURCE_DATE_EPOCH, else the commit's, and versions are those of constraints.txt.
"""

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.build_deb import EXTRAS, install, pack, python_version, source_date  # noqa: E402
from scripts.sbom import write_lists  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not be there, or be empty")
    parser.add_argument(
        "--python", default="/usr/bin/python3", metavar="FILE", help="of the package [/usr/bin/python3]"
    )
    parser.add_argument("--without", nargs="*", default=[], choices=["deb"], help="what to leave out")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    if out.exists() and any(out.iterdir()):
        parser.error(f"{out} isn't empty")
    out.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    epoch = os.environ["SOURCE_DATE_EPOCH"] = source_date()
    wheel = build_distributions(out)
    package_chart(out, int(epoch))
    write_archive(out / f"oneglance-images-{version('oneglance')}.tar.gz", images_context(wheel), int(epoch))
    package_docs(out, int(epoch))
    if "deb" not in options.without:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            install(wheel, EXTRAS, options.python, tree / "opt/oneglance")
            write_lists(str(tree / "opt/oneglance/bin/python"), out)
            pack(tree, out, python_version(options.python))
    (out / "CHANGELOG.md").write_text(changelog((ROOT / "CHANGELOG.md").read_text(), version("oneglance")))
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(out.iterdir()))
    (out / "SHA256SUMS").write_text(sums)
    print(sums, end="")


def build_distributions(out: Path) -> Path:
    """The wheel and the sdist. Returns the wheel."""
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", str(out), str(ROOT)]
    subprocess.run(command, check=True)
    (out / ".gitignore").unlink(missing_ok=True)
    return next(out.glob("*.whl"))


def package_chart(out: Path, epoch: int) -> None:
    """As ``helm package``, whose archive has the time at which it was made in it."""
    import helm_python

    chart = ROOT / "deploy/chart/oneglance"
    findings = helm_python.lint(str(chart))
    if findings["errors"]:
        raise SystemExit(f"{chart}: {findings['errors']}")
    files = {f"oneglance/{file.relative_to(chart)}": file for file in chart.rglob("*") if file.is_file()}
    write_archive(out / f"oneglance-chart-{version('oneglance')}.tgz", files, epoch)


def package_docs(out: Path, epoch: int) -> None:
    """The site of the documents; it isn't made where a link leads nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, ROOT / "scripts/docs_site.py", "--out", folder], check=True, stdout=sys.stderr)
        site = Path(folder) / "site"
        files = {f"oneglance-docs/{file.relative_to(site)}": file for file in site.rglob("*") if file.is_file()}
        write_archive(out / f"oneglance-docs-{version('oneglance')}.tar.gz", files, epoch)


def images_context(wheel: Path) -> dict[str, Path]:
    files = ["constraints.txt", "scripts/sbom.py", "deploy/images/Dockerfile", "deploy/images/Dockerfile.dockerignore"]
    compose = [file for file in (ROOT / "deploy/compose").rglob("*") if file.is_file() and "secrets/" not in str(file)]
    found = [*(ROOT / name for name in files), *compose]
    return {str(file.relative_to(ROOT)): file for file in found} | {f"dist/{wheel.name}": wheel}


def write_archive(target: Path, files: Mapping[str, Path], epoch: int) -> None:
    """A .tar.gz whose bytes are made by the files alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            content = files[name].read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), epoch
            entry.mode = 0o755 if os.access(files[name], os.X_OK) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    with target.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as zipped:
        packed.seek(0)
        shutil.copyfileobj(packed, zipped)


def changelog(text: str, of: str) -> str:
    """The part of one version."""
    found = re.search(rf"^## {re.escape(of)}\b.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"CHANGELOG.md tells nothing of {of}")
    return found[0]


if __name__ == "__main__":
    main()
