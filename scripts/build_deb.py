"""Build the Debian package: ``scripts/build_deb.py --out dist`` (a wheel is built first, or given by ``--wheel``).

The server lives in /opt/oneglance, a virtual environment of its own on the system's Python, with everything it needs;
/usr/bin/oneglance starts it. The package depends on that Python (its minor version), on nothing else. The same sources
and the same ``SOURCE_DATE_EPOCH`` give the same bytes, as long as the package index gives the same versions:
constraints.txt pins them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = "cpu,heic,http,otel,sound"
DEPLOY = ROOT / "deploy"
# What an installation leaves behind that tells where and when it was made.
_OF_THIS_MACHINE = ("direct_url.json", "uv_cache.json", "uv_build.json")
_CONTROL = """\
Package: oneglance
Version: {version}
Architecture: {architecture}
Maintainer: oneglance <oneglance@localhost>
Installed-Size: {kibibytes}
Depends: python3 (>= {python}), python3 (<< {next_python}), systemd
Section: net
Priority: optional
Description: one-shot identification over gRPC
 Enroll a subject from one example, then verify, identify, or answer "unknown".
 This package brings the server, the command line and the bundled models.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="where the package goes [dist]")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="oneglance's wheel [built first]")
    parser.add_argument("--extras", default=EXTRAS, help="of the wheel, comma-separated [%(default)s]")
    parser.add_argument("--python", default="/usr/bin/python3", metavar="FILE", help="the system's [/usr/bin/python3]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        wheel = options.wheel or build_wheel(Path(folder))
        install(wheel, options.extras, options.python, tree / "opt/oneglance")
        print(pack(tree, options.out, python_version(options.python)))


def build_wheel(out: Path) -> Path:
    _uv("build", "--quiet", "--wheel", "--out-dir", str(out), str(ROOT))
    return next(out.glob("*.whl"))


def install(wheel: Path, extras: str, python: str, environment: Path) -> None:
    """A virtual environment that works wherever it is moved to, with the wheel and what its extras ask for."""
    _uv("venv", "--quiet", "--relocatable", "--no-project", "--python", python, str(environment))
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    target = ["--python", str(environment / "bin/python"), "--link-mode", "copy"]
    _uv("pip", "install", "--quiet", *target, *pins, f"oneglance[{extras}] @ {wheel.resolve().as_uri()}")
    for script in (environment / "bin").iterdir():
        if not script.name.startswith(("python", "oneglance")):
            script.unlink()
    for noted in [file for name in _OF_THIS_MACHINE for file in environment.rglob(name)]:
        record = noted.with_name("RECORD")
        kept = [line for line in record.read_text().splitlines(True) if f"/{noted.name}," not in line]
        record.write_text("".join(kept))
        noted.unlink()
    for left in (".lock", ".gitignore", "CACHEDIR.TAG"):
        (environment / left).unlink(missing_ok=True)


def pack(tree: Path, out: Path, python: tuple[int, int]) -> Path:
    """Add to ``tree``, which has /opt/oneglance, what else the package holds, and pack it. Returns the package."""
    for source, target, mode in (
        ("systemd/oneglance.service", "usr/lib/systemd/system/oneglance.service", 0o644),
        ("systemd/oneglance.sysusers", "usr/lib/sysusers.d/oneglance.conf", 0o644),
        ("systemd/oneglance.tmpfiles", "usr/lib/tmpfiles.d/oneglance.conf", 0o644),
        ("systemd/tls.conf", "usr/share/doc/oneglance/tls.conf", 0o644),
        ("systemd/cuda.conf", "usr/share/doc/oneglance/cuda.conf", 0o644),
        ("../LICENSE", "usr/share/doc/oneglance/copyright", 0o644),
        ("debian/oneglance.toml", "etc/oneglance/oneglance.toml", 0o640),
        ("debian/postinst", "DEBIAN/postinst", 0o755),
        ("debian/prerm", "DEBIAN/prerm", 0o755),
        ("debian/postrm", "DEBIAN/postrm", 0o755),
    ):
        copy = tree / target
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DEPLOY / source, copy)
        copy.chmod(mode)
    command = tree / "usr/bin/oneglance"
    command.parent.mkdir(parents=True)
    command.symlink_to("/opt/oneglance/bin/oneglance")
    (tree / "DEBIAN/conffiles").write_text("/etc/oneglance/oneglance.toml\n")
    size = sum(file.lstat().st_size for file in tree.rglob("*") if not file.is_dir())
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)
    major, minor = python
    control = _CONTROL.format(
        version=version("oneglance"),
        architecture=architecture.stdout.strip(),
        kibibytes=-(-size // 1024),
        python=f"{major}.{minor}",
        next_python=f"{major}.{minor + 1}",
    )
    (tree / "DEBIAN/control").write_text(control)
    for folder in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    out.mkdir(parents=True, exist_ok=True)
    packing = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z10", "--build", str(tree), str(out)]
    environment = {"SOURCE_DATE_EPOCH": source_date(), **os.environ}
    told = subprocess.run(packing, check=True, capture_output=True, text=True, env=environment).stdout
    found = re.search(r"in '(.+)'", told)
    assert found, told
    return Path(found[1])


def source_date() -> str:
    """SOURCE_DATE_EPOCH, else the time of the last commit, s."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    asked = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return given or subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def python_version(python: str) -> tuple[int, int]:
    asked = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    major, minor = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    return int(major), int(minor)


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", *arguments], check=True)


if __name__ == "__main__":
    main()
