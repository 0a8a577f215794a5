"""Law 4: a room imports only from rooms to its left, read off the source."""

import ast
from pathlib import Path

import pytest

import jaxfin

PACKAGE = Path(jaxfin.__file__).parent
REPOSITORY = PACKAGE.parent
# Rooms from left to right; those on one line do not import each other.
STREET = (
    ("errors", "options"),
    ("kernels",),
    ("data",),
    ("windows",),
    ("models",),
    ("explain",),
    ("fit",),
    ("methods",),
    ("forecasts",),
    ("portfolio",),
    ("evaluate",),
    ("audit",),
    ("report",),
    ("config", "checkpoint", "interrupts"),
    ("iterated", "sample", "training", "outcome"),
    ("compared",),
    ("study",),
    ("comparison", "study_audit"),
)
POSITION = {room: place for place, rooms in enumerate(STREET) for room in rooms}
NEIGHBOURS = {("options", "errors")}  # options checks and raises
MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Every module a file imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(node.module)
    return found


def users(package, root=PACKAGE):
    """Modules under a folder that import a package or a part of it."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if any(f"{name}.".startswith(f"{package}.") for name in imports(path))
    }


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def test_every_module_has_a_room_in_the_street():
    rooms = {room(module_name(path)) for path in MODULES} - {None}
    assert rooms == set(POSITION), "put a new room into STREET, in its place"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_come_from_the_left(path):
    here = room(module_name(path))
    for imported in imports(path):
        if imported.split(".")[0] != "jaxfin":
            continue
        there = room(imported)
        assert there is not None, f"{path}: import the module, not the package"
        if here is None or here == there or (here, there) in NEIGHBOURS:
            continue
        assert POSITION[there] < POSITION[here], f"{here} imports {imported}"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("hydra", set()),
        ("omegaconf", set()),
        ("flax.linen", {f"models/{kind}nets.py" for kind in ("", "sdf_", "series_")}),
        ("orbax", {"checkpoint.py"}),
        ("torch", set()),
    ],
)
def test_packages_stay_where_they_belong(package, allowed):
    assert users(package) <= allowed


@pytest.mark.parametrize("package", ["matplotlib", "rich"])
def test_pictures_and_progress_stay_at_the_end(package):
    for module in users(package):
        assert module.startswith("report/") or module in (
            "study.py",
            "comparison.py",
            "study_audit/run.py",
        ), module


def test_hydra_is_in_the_entry_points():
    names = ("command_line", "paper_forecasts", "reproduce", "train")
    entry_points = {f"{name}.py" for name in names}
    assert users("hydra", REPOSITORY / "experiments") == entry_points


def test_library_never_prints():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno}"


def test_there_are_no_utils():
    rooms = ("jaxfin", "experiments", "benchmarks", "tests")
    names = {path.stem for r in rooms for path in (REPOSITORY / r).rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


def test_checker_sees_imports_inside_functions(tmp_path):
    hidden = tmp_path / "hidden.py"
    hidden.write_text("def f():\n    from flax import linen\n    import orbax.x\n")
    assert users("flax.linen", tmp_path) == {"hidden.py"}
    assert users("orbax", tmp_path) == {"hidden.py"}
    assert not users("hydra", tmp_path)
