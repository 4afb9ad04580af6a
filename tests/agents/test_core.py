"""The core runs anywhere: Python 3.8, the standard library, a folder copied alone."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.runner import RunJob

import airflow_dla

AGENTS = Path(airflow_dla.__file__).parent / "agents"

#: Everything but the one module that knows the artifact store; keeper and mate load it when they need it.
CORE = sorted(path.stem for path in AGENTS.glob("*.py") if path.stem not in {"staging", "__init__", "__main__"})

BLOCKER = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "agents":
            raise ImportError(f"the core imports {name}")
sys.meta_path.insert(0, Blocker())
for name in json.loads(sys.argv[2]):
    importlib.import_module(f"agents.{name}")
assert "airflow_dla" not in sys.modules
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return the folder copied alone to another parent."""
    return Path(shutil.copytree(AGENTS, tmp_path / "mnt" / "agents", ignore=shutil.ignore_patterns("__pycache__", "staging.py")))


@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.py")), ids=lambda path: path.stem)
def test_syntax_is_python_3_8(path: Path):
    """Every file can be read by Python 3.8."""
    ast.parse(path.read_text(), feature_version=(3, 8))


def test_nothing_newer_than_python_3_8_is_used():
    """Not only can it be read by Python 3.8: everything that it calls is there."""
    vermin = Path(sys.executable).with_name("vermin")
    done = subprocess.run([vermin, "-t=3.8-", "--no-tips", *sorted(AGENTS.glob("*.py"))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_core_imports_the_standard_library_only(copied: Path):
    """With everything else blocked, every module of the core imports."""
    subprocess.run([sys.executable, "-I", "-c", BLOCKER, str(copied.parent), json.dumps(CORE)], check=True)


def test_runs_from_a_copy(run_job: RunJob, copied: Path):
    """A folder copied alone runs a job with another Python than ours."""
    ran = run_job("def main(job):\n    return {'x': 1}", agents=copied)
    assert (ran.code, ran.metrics()) == (0, {"x": 1.0})


@pytest.mark.parametrize("version", ["3.8", "3.9"])
def test_runs_on_old_python(run_job: RunJob, copied: Path, tmp_path: Path, version: str):
    """A real old Python, where there is one, runs functions, commands, checkpoints and a container's first process."""
    old = interpreter(version)
    code = """
        def main(job):
            job.checkpoint.save(lambda folder: (folder / "s").write_text("1"))
            job.log(loss=1)
            return {"x": len(job.checkpoint.load().name)}
    """
    ran = run_job(code, python=old, agents=copied)
    assert (ran.code, ran.metrics()) == (0, {"loss": 1.0, "x": 1.0}), ran.log
    said = run_job("print('auc 0.5')", ["python", "work.py"], python=old, agents=copied, metrics={"auc": r"auc (\S+)"})
    assert (said.code, said.metrics()) == (0, {"auc": 0.5}), said.log
    first = subprocess.run([old, str(copied), "inside", str(tmp_path)], input=b'{"env": {"A": "1"}}', capture_output=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert b"auc 0.5" in first.stdout


def interpreter(version: str) -> str:
    """Return a Python of a version, if there is one on this machine that works."""
    beside = [str(path) for path in Path(sys.base_prefix).parent.glob(f"{version}*/bin/python{version}")]
    known = [path for path in (shutil.which(f"python{version}"), *beside) if path]
    for path in known:
        if subprocess.run([path, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return path
    pytest.skip(f"no python{version} on this machine")


def test_usage():
    """Anything but a role is refused with the usage."""
    done = subprocess.run([sys.executable, str(AGENTS), "fly"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run|keep|enter|inside|beside|fetch|stay|door JOBDIR, got 'fly'" in done.stderr


def test_keeper_is_small(copied: Path):
    """A keeper's imports hold no framework and little memory."""
    code = f"import sys; sys.path.insert(0, {str(copied.parent)!r}); import agents.keeper; print(open('/proc/self/status').read())"
    said = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    kibibytes = int(next(line.split()[1] for line in said.splitlines() if line.startswith("VmHWM")))
    assert kibibytes < 40_000
