"""The package as a whole: what it exports, what it documents, what importing it costs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import airflow_dla

ROOT = Path(airflow_dla.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "versions" not in path.parts)
HEAVY = {"airflow", "alembic", "fsspec", "numpy", "scipy", "sklearn", "sqlalchemy", "torch", "yaml"}
IMPORTS = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
UNRESOLVED = """
import importlib, json, sys
modules = [importlib.import_module(name) for name in sys.argv[1:]]
print(json.dumps([f"{module.__name__}.{name}" for module in modules for name in module.__all__ if not hasattr(module, name)]))
"""


def _name(path: Path) -> str:
    """Return the module's name."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _run(program: str, *arguments: str, home: Path) -> object:
    """Run a program in a fresh interpreter, with an Airflow home of its own, and read the JSON it prints last."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    environment |= {"AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _exports(path: Path) -> bool:
    return any(
        isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def test_every_name_that_is_exported_is_there(tmp_path: Path):
    """In each package that says what it exports."""
    packages = [_name(path) for path in FILES if _exports(path)]
    assert "airflow_dla.specs" in packages
    assert _run(UNRESOLVED, *packages, home=tmp_path) == []


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_everything_public_is_documented(path: Path):
    """Each module, and each public class, function and method in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [
        node
        for parent in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))]
        for node in parent.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_")
    ]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(tree), "the module has no docstring"
    assert silent == []


@pytest.mark.parametrize("module", ["airflow_dla", "airflow_dla.specs", "airflow_dla.errors", "airflow_dla.get_provider_info"])
def test_importing_it_costs_nothing(module: str, tmp_path: Path):
    """Every Airflow process reads the provider's information, and every DAG imports the helpers."""
    assert not HEAVY & set(_run(IMPORTS, module, home=tmp_path))


def test_the_version_is_said_once():
    """In the package as in its metadata."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert airflow_dla.__version__ == project["version"]


def test_constraints_are_plain():
    """One version for each name: no addresses, no extras, no local versions."""
    lines = (ROOT.parent / "constraints.txt").read_text(encoding="utf-8").split()
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0].replace("_", "-"))
    for line in lines:
        name, _, version = line.partition("==")
        assert name.replace("-", "").replace("_", "").replace(".", "").isalnum(), line
        assert version.replace(".", "").isalnum(), line


@pytest.mark.parametrize("module", ["airflow_dla.operators", "airflow_dla.triggers", "airflow_dla.hooks"])
def test_no_task_waits_for_scipy_to_be_imported(module: str, tmp_path: Path):
    """Importing it takes half a second of every task's start, and few rounds need it; nor does anybody load an engine's client ahead."""
    loaded = _run(IMPORTS, module, home=tmp_path)
    assert isinstance(loaded, list)
    assert {"scipy", "docker", "torch"}.isdisjoint(loaded)
