"""Who may import whom, read from the sources themselves."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lit_ghibli

PACKAGE = Path(lit_ghibli.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Right may import left, never the reverse. `errors` and its like stand left of all, like `images`.
LEVELS = [
    {
        "images",
        "errors",
        "extras",
        "seeding",
        "checksums",
        "files",
        "documents",
        "overrides",
        "signals",
        "cluster",
        "locks",
    },
    {"losses", "networks", "painter", "scenes", "data", "metrics", "reports", "opinion", "published"},
    {"training", "checkpoints", "recipes", "trust"},
    {"methods", "inference"},
    {"studies"},
    {"callbacks"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}


def imported(source: str, package: str) -> set[str]:
    """Full names of everything that a module of ``package`` imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def imports_of(path: Path) -> set[str]:
    return imported(path.read_text(), ".".join(path.relative_to(PACKAGE.parent).parent.parts))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own(names: set[str]) -> set[str]:
    """The parts of the suite among imported names."""
    parts = {name.split(".")[1] for name in names if name.startswith("lit_ghibli.")}
    return parts & LEVEL.keys()


def test_every_kind_of_import_is_seen():
    source = "import a.b\ndef f():\n    from c import d\n    from . import e\n    from ..g.h import i\n"
    assert imported(source, "p.q") == {"a.b", "c.d", "p.q.e", "p.g.h.i"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_imports_from_its_right(path):
    if path == PACKAGE / "__init__.py":
        assert not own(imports_of(path)), "the front door opens when it is asked for"
        return
    assert part(path) in LEVEL, "a new part of the suite needs a layer"
    # The modules of one part, and those of parts on one level, may use each other.
    to_the_right = {name for name in own(imports_of(path)) if LEVEL[name] > LEVEL[part(path)]}
    assert not to_the_right


def test_no_imports_run_in_a_circle():
    """Neither those of modules, the ones inside functions included, nor those of the parts that they make up."""
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in SOURCES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph, parts = {}, {}
    for name, path in modules.items():
        names = imports_of(path)
        graph[name] = (names | {each.rpartition(".")[0] for each in names}) & modules.keys() - {name, "lit_ghibli"}
        if name != "lit_ghibli":
            parts.setdefault(part(path), set()).update(own(names) - {part(path)})
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # raises a CycleError that names them
    assert len(list(TopologicalSorter(parts).static_order())) == len(parts)


@pytest.mark.parametrize(
    ("library", "parts"),
    [
        ("hydra", {"commands", "recipes"}),
        ("omegaconf", {"commands", "recipes"}),
        ("wandb", {"callbacks"}),
        ("gradio", {"commands"}),
    ],
)
def test_libraries_stay_where_they_belong(library, parts):
    users = {part(path) for path in SOURCES if any(name.split(".")[0] == library for name in imports_of(path))}
    assert users <= parts


def test_losses_and_networks_do_not_know_each_other():
    for path in SOURCES:
        if part(path) == "losses":
            assert "networks" not in own(imports_of(path)), path
        elif part(path) == "networks":
            assert "losses" not in own(imports_of(path)), path


def test_no_method_imports_another():
    for path in (PACKAGE / "methods").glob("*.py"):
        names = {name.split(".")[2] for name in imports_of(path) if name.startswith("lit_ghibli.methods.")}
        assert names <= {"base"}, path


def test_reports_know_nothing_of_torch_modules():
    for path in (PACKAGE / "reports").glob("*.py"):
        assert not {name.split(".")[0] for name in imports_of(path)} & {"torch", "torchvision", "lightning"}, path
