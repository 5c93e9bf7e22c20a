"""Build the site of the documents: python scripts/docs_site.py [--out build/docs], with oneglance[docs].

The README is the front page; docs/ and the changelog follow; pages about the Python client and the contract are made
from docstrings and comments. It fails on a link or an anchor that leads nowhere, on a page that isn't in
docs/zensical.toml, and on anything that a reader's browser would load from elsewhere.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.docs_contract import contract_page  # noqa: E402
from scripts.docs_python import python_page  # noqa: E402

DOCS = ROOT / "docs"
NAMES = {ROOT / "README.md": "index.md", ROOT / "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/docs", metavar="DIR", help="is emptied [build/docs]")
    out: Path = parser.parse_args().out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    write_pages(out / "pages")
    shutil.copy(DOCS / "zensical.toml", out)
    wrong = orphans(out)
    if not wrong:
        zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml"]
        built = subprocess.run(zensical, cwd=out, capture_output=True, text=True)
        if built.returncode:
            # It says in colors what is wrong, and then where in its own code it stopped.
            told = built.stdout + built.stderr.partition("Traceback")[0]
            sys.exit(re.sub(r"\x1b\[[\d;]*m", "", told))
        wrong = broken(out / "site")
    if wrong:
        sys.exit("\n".join(wrong))
    print(out / "site/index.html")


def write_pages(pages: Path) -> None:
    """Everything that the site is made of, with links that hold there."""
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.toml"))
    for source in [*NAMES, *DOCS.rglob("*.md")]:
        page = pages / (NAMES.get(source) or source.relative_to(DOCS))
        page.write_text(LINK.sub(partial(rewritten, source=source, pages=pages), source.read_text()))
    (pages / "python.md").write_text(python_page())
    (pages / "contract.md").write_text(contract_page())


def rewritten(link: re.Match[str], source: Path, pages: Path) -> str:
    """A link of a source as the site has it. A file outside of docs/ is put beside the pages."""
    target, hash_, anchor = link[2].partition("#")
    if urlsplit(link[2]).scheme or not target:
        return link[0]
    file = (source.parent / target).resolve()
    if file in NAMES:
        place = NAMES[file]
    elif file.is_relative_to(DOCS):
        place = file.relative_to(DOCS).as_posix()
    elif file == ROOT / "proto/oneglance/v1":
        place = "contract.md"
    elif file.is_file():
        # As text, which every browser shows.
        place = f"files/{file.relative_to(ROOT).as_posix()}.txt"
        (pages / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, pages / place)
    else:
        return link[0]  # leads nowhere: what builds the site says so
    return f"{link[1]}{place}{hash_}{anchor}{link[3]}"


def orphans(out: Path) -> list[str]:
    """Pages that the navigation doesn't have."""

    def named(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from named(inner)

    known = set(named(tomllib.loads((out / "zensical.toml").read_text())["project"]["nav"]))
    there = {page.relative_to(out / "pages").as_posix() for page in out.rglob("*.md")}
    return [f"{page} is not in the navigation of docs/zensical.toml" for page in sorted(there - known)]


class Addresses(HTMLParser):
    """What a page loads, and where its links lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "srcset", "poster") and value is not None:
                (self.linked if tag == "a" else self.loaded).append(value)


def broken(site: Path) -> list[str]:
    """What the finished pages load from elsewhere, and links to files that aren't there."""
    wrong = []
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html" or not (site.parent / "pages" / page.relative_to(site)).with_suffix(".md").is_file():
            continue  # theme's own; pages that come as they are
        found = Addresses(page)
        wrong += [f"{page}: loads {url}" for url in found.loaded if urlsplit(url).netloc]
        for url in found.loaded + found.linked:
            parts = urlsplit(url)
            if not parts.scheme and not parts.netloc and not (page.parent / unquote(parts.path)).exists():
                wrong.append(f"{page}: {url} is not there")
    return wrong


if __name__ == "__main__":
    main()
