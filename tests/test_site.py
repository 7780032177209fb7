"""What the site adds to the pages of docs: files from elsewhere, links to them, tables of all options, the notebook."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
pytest.importorskip("griffe", reason="the extra `docs` is not installed")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_of_docs", ROOT / "docs/site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("how-to/trl.md", "[a](serve.md#x)", "[a](serve.md#x)"),
        ("concepts/game.md", "[a](../../results/README.md)", "[a](../results/README.md)"),
        ("concepts/game.md", "![a](../images/game.svg)", "![a](../images/game.svg)"),
        ("index.md", "[a](../examples/first_steps.ipynb)", "[a](tutorials/notebook.md)"),
        ("results/README.md", "[a](../docs/index.md)", "[a](../index.md)"),
        ("scaling.md", "[`a`](../benchmarks/speed/scaling.py)", "`a`"),
        ("index.md", "[a](no/such.md)", "[a](no/such.md)"),
        ("index.md", "[a](https://arxiv.org/abs/1609.05473)", "[a](https://arxiv.org/abs/1609.05473)"),
    ],
)
def test_links_of_the_repository_are_links_of_the_site(site, page, link, there):
    names = {"how-to/serve.md", "images/game.svg", "index.md", "tutorials/notebook.md", *site.outside()}
    assert site.in_site(site.LINK.match(link), page, names) == there


@pytest.mark.parametrize("command", ["train", "compare"])
def test_every_option_is_in_the_tables_once(site, command):
    from benchmarks.compare.arguments import parse
    from gantune.cli.options import option_types
    from gantune.cli.train import CLASSES

    listed = re.findall(r"^\| `--([\w-]+)` \|", site.options(command), flags=re.MULTILINE)
    expected = option_types(CLASSES) if command == "train" else parse([]).tuning
    assert len(listed) == len(set(listed)) and {name.replace("_", "-") for name in expected} <= {*listed, "seed"}


def test_help_and_notebook_become_pages(site):
    assert "--max-new-tokens" in site.help_text("generate") and "--forbidden" in site.help_text("data clean")
    page = site.notebook(site.NOTEBOOK)
    assert page.startswith("# First steps\n") and "```python\nfrom gantune import" in page
    assert "](data:image/png;base64,iVBOR" in page and "```text\ngame 0." in page
