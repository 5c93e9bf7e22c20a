"""The site of the documents builds strictly: links hold, no page is left out, nothing is loaded from elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("zensical", reason="pip install 'oneglance[docs]'")
docs_site = pytest.importorskip("scripts.docs_site")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs")
    ran = subprocess.run(
        [sys.executable, ROOT / "scripts/docs_site.py", "--out", out], capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stderr
    return out / "site"


def test_the_front_page_is_the_readme_and_references_are_there(site: Path) -> None:
    assert "Seen once, known after." in (site / "index.html").read_text()
    assert 'href="operations.html#overload"' in (site / "index.html").read_text()
    client = (site / "python.html").read_text()
    assert client.index('id="bulk_enroll"') < client.index('id="answers"') < client.index('id="as_dataclass"')
    contract = (site / "contract.html").read_text()
    assert 'id="SubjectService.BulkEnroll"' in contract
    assert 'href="#EnrollRequest"' in contract
    assert (site / "files/examples/clients/client.go.txt").is_file()


def test_what_a_page_loads_from_elsewhere_or_links_to_in_vain_is_found(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/a.md").touch()
    (tmp_path / "site").mkdir()
    page = tmp_path / "site/a.html"
    page.write_text(
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">told</a>'
        '<a href="gone.html#x">lost</a><img src="//cdn.example/y.png"><a href="a.html#top">here</a>'
    )
    assert docs_site.broken(tmp_path / "site") == [
        f"{page}: loads https://cdn.example/x.js",
        f"{page}: loads //cdn.example/y.png",
        f"{page}: gone.html#x is not there",
    ]


def test_a_page_that_is_not_in_the_navigation_is_found(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    for name in ("a.md", "lost.md"):
        (tmp_path / "pages" / name).touch()
    (tmp_path / "zensical.toml").write_text('[project]\nnav = [{ "A" = [{ "B" = "a.md" }] }]\n')
    assert docs_site.orphans(tmp_path) == ["lost.md is not in the navigation of docs/zensical.toml"]


@pytest.mark.parametrize(("text", "complaint"), [("[x](nowhere.md)", "nowhere"), ("[x](faces.md#gone)", "anchor")])
def test_a_link_that_leads_nowhere_fails(
    text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs_site, "python_page", lambda: f"# Python\n\n{text}\n")
    monkeypatch.setattr(sys, "argv", ["docs_site.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        docs_site.main()
    assert complaint in str(caught.value.code)
