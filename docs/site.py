"""What the site has beside the pages of this folder: results, change log, notebook, and tables of all options.

mkdocs calls the functions `on_...`; griffe, which reads the docstrings, the class.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import inspect
import io
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"
NOTEBOOK_PAGE = "tutorials/notebook.md"
OUTSIDE = (
    "results/README.md",
    "results/reference/**/*",
    "CHANGELOG.md",
    "examples/*",
    "gantune/assets/**/README.md",
    "gantune/assets/*-slots.json",
)
"""Files outside docs that pages point to; they are in the site under the same names."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
MARK = re.compile(r"<!--(options|help) ([\w ]+)-->")


def outside() -> dict[str, Path]:
    """Those files by their name in the site."""
    found = (path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern)) if path.is_file())
    return {path.relative_to(ROOT).as_posix(): path for path in found if path.name != "comparison.html"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, path in outside().items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, NOTEBOOK_PAGE, content=notebook(NOTEBOOK)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    names = {file.src_uri for file in files}
    markdown = LINK.sub(lambda link: in_site(link, page.file.src_uri, names), markdown)
    return MARK.sub(lambda mark: {"options": options, "help": help_text}[mark[1]](mark[2]), markdown)


def in_site(link: re.Match[str], page: str, names: set[str]) -> str:
    """A link that is right in the repository, as it is right in the site; without what the site has not."""
    image, text, address = link.groups()
    parts = urlsplit(address)
    if parts.scheme or not parts.path:
        return link[0]
    here = page if page in outside() else f"docs/{page}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(here), parts.path)).removeprefix("docs/")
    target = NOTEBOOK_PAGE if ROOT / target == NOTEBOOK else target
    if target not in names:
        return link[0] if not (ROOT / target).exists() else text
    anchor = f"#{parts.fragment}" if parts.fragment else ""
    return f"{image}[{text}]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"


# ------------------------------------------------------------------------------------------------ the command line


def options(command: str) -> str:
    """Tables of all options of a command, from its dataclasses."""
    if command == "train":
        from gantune.cli.train import CLASSES

        return tables(CLASSES)
    from baselines import METHODS
    from benchmarks.compare import arguments as of

    groups = [of.ComparisonArguments, of.FairnessArguments, of.JudgeArguments, of.ModelArguments, of.DataArguments]
    return tables([*groups, *(METHODS.get(name).config_class for name in METHODS.names())])


def tables(classes: Iterable[type]) -> str:
    """A table for each dataclass and each that it inherits from, of the options that none before has."""
    seen: set[str] = set()
    return "\n".join(line for each in classes for base in reversed(each.__mro__) for line in _table(base, seen))


def _table(of: type, seen: set[str]) -> Iterator[str]:
    own = inspect.get_annotations(of) if dataclasses.is_dataclass(of) else {}
    rows = [field for field in dataclasses.fields(of) if field.name in own and field.name not in seen] if own else []
    if not rows:
        return
    seen |= {field.name for field in rows}
    heading = vars(of).get("_argument_group_name", of.__name__)
    yield from (f"### {heading}", "", of.__doc__.splitlines()[0], "", "| option | default | what it is |")
    yield "| --- | --- | --- |"
    for field in rows:
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        values = default if isinstance(default, list) else [] if default is None else [default]
        told = f"`{' '.join(map(str, values))}`" if values else ""
        text = field.metadata.get("help", "").replace("|", "\\|").replace("<", "&lt;")
        yield f"| `--{field.name.replace('_', '-')}` | {told} | {text} |"
    yield ""


def help_text(command: str) -> str:
    """What `gantune COMMAND --help` prints."""
    from gantune.cli import main

    printed = io.StringIO()
    os.environ |= {"COLUMNS": "96", "NO_COLOR": "1"}
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return f"```text\n{printed.getvalue().strip()}\n```"


# ---------------------------------------------------------------------------------------------- notebook, docstrings


def notebook(file: Path) -> str:
    """An executed notebook as a page."""
    parts: list[str] = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts.extend(_output(output) for output in cell.get("outputs", ()))
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = base64.b64encode(base64.b64decode(data["image/png"])).decode()  # in one line
        return f"![what the cell draws](data:image/png;base64,{picture})"
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```"


def documented() -> dict[str, str]:
    """What the pages of reference/api document: full paths by name."""
    pages = (path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference/api").glob("*.md"))
    paths = [path for page in pages for path in re.findall(r"^::: (\S+)", page, re.MULTILINE)]
    return {path.rpartition(".")[2]: path for path in paths}


class References(griffe.Extension):
    """Our docstrings name what they refer to as [`name`]: a link where the site documents it."""

    def __init__(self) -> None:
        self.documented = documented()

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"\[`([\w.]+)`\](?![\[(])", self._linked, obj.docstring.value)

    def _linked(self, reference: re.Match[str]) -> str:
        path = self.documented.get(reference[1].rpartition(".")[2])
        return f"[`{reference[1]}`][{path}]" if path else f"`{reference[1]}`"
