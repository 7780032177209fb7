"""The house: few rooms, no import circle, no import back up; who may import whom is read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gantune", "baselines", "benchmarks")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}
# who never imports whom, wherever in a file the import stands
FORBIDDEN = {
    "gantune.seqgan": ("transformers", "gantune.policy", "gantune.trainer", "gantune.hub"),
    "gantune.policy": ("gantune.seqgan", "gantune.trainer", "gantune.generation"),
    "gantune.trainer": ("gantune.cli",),
    "gantune.data": ("gantune.hub", "gantune.policy", "gantune.trainer"),
    "gantune": ("baselines", "benchmarks"),
    "baselines": ("benchmarks", "gantune.cli"),
}
ALLOWED = {("gantune.cli.compare", "benchmarks")}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, in functions too; not those that only annotations need."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: a relative import"
                names = (f"{child.module}.{alias.name}" for alias in child.names)
                yield from (name if name in FILES else child.module for name in names)
            yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


IMPORTS = {module: set(imports(path)) for module, path in FILES.items()}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room(module: str) -> str:
    """The folder of a module of gantune, or the module itself if it lies loose."""
    return ".".join(module.split(".")[:2])


def test_few_modules_lie_loose():
    loose = {package: {path.stem for path in (ROOT / package).glob("*.py")} for package in ("gantune", "benchmarks")}
    assert len(loose["gantune"]) <= 10, sorted(loose["gantune"])
    assert loose["benchmarks"] == {"__init__", "discriminators", "growth", "reference", "repeatability"}, (
        "a command each"
    )
    rooms = {path.parent.name for path in (ROOT / "gantune").glob("*/__init__.py")}
    assert rooms == {
        *("assets", "cli", "data", "diagnostics", "discriminators", "embedding_generator", "generation", "hub"),
        *("metrics", "policy", "seqgan", "trainer"),
    }


def test_no_import_goes_back_up():
    found = [
        f"{module} imports {imported}"
        for module, of_module in IMPORTS.items()
        for package, forbidden in FORBIDDEN.items()
        if within(module, package)
        for imported in of_module
        for other in forbidden
        if within(imported, other) and (module, other) not in ALLOWED
    ]
    assert not found


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({module: of & FILES.keys() - {module} for module, of in IMPORTS.items()}).prepare()


def test_no_rooms_of_gantune_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}
    for module, of_module in IMPORTS.items():
        if within(module, "gantune") and module != "gantune":
            others = {room(name) for name in of_module if within(name, "gantune")} - {room(module), "gantune"}
            graph.setdefault(room(module), set()).update(others)
    TopologicalSorter(graph).prepare()


def test_every_room_says_what_it_holds():
    for path in ROOT.glob("gantune/*/__init__.py"):
        if path.parent.name != "assets":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path}: no docstring"
