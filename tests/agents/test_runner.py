"""The runner: functions and commands, what they give and how they fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fakes.runner import RunJob


def test_function(run_job: RunJob):
    """Metrics are said in order, outputs checked, the returned ones come last."""
    code = """
        import numpy
        def main(job):
            job.log(step=1, loss=numpy.float32(0.5), bad=float("nan"))
            (job.outputs["model"].path / "w").write_text("x")
            return {"accuracy": numpy.array([0.75])}
    """
    ran = run_job(code, outputs=["model"])
    assert ran.code == 0
    assert [line["kind"] for line in ran.lines] == ["metric", "metric", "output"]
    assert ran.lines[0]["step"] == 1
    assert ran.metrics() == {"loss": 0.5, "bad": "nan", "accuracy": 0.75}


@pytest.mark.parametrize(
    ("code", "fields", "message"),
    [
        ("def main(job):\n    raise ValueError('no such\\n layer')", {}, "ValueError: no such layer"),
        ("def main(job):\n    return {'accuracy': 'high'}", {}, "metric 'accuracy' must be a number, got str"),
        ("def main(job):\n    return {'_x': 1}", {}, "metric '_x': a name has 1 to 63"),
        ("def main(job):\n    return [1]", {}, "work:main returned list"),
        ("def main(job):\n    job.log(loss='high')", {}, "metric 'loss' must be a number, got str"),
        ("def main(job):\n    pass", {"outputs": ["model"]}, "output 'model' was never written: .*out/model is empty"),
        ("def main():\n    pass", {}, r"must take one argument, the job; it is main\(\)"),
        ("def other(job):\n    pass", {}, "has no function 'main'; it has other"),
        ("import not_there", {}, "ModuleNotFoundError: No module named 'not_there'"),
        ("x = 1", {"entrypoint": "absent.sub:main"}, "no module 'absent'; the job's code folder holds work.py"),
        ("def main(job):\n    raise SystemExit(4)", {}, r"called sys.exit\(4\)"),
        ("def main(job):\n    job.inputs['far'].path", {"inputs": {"far": {"dla": "uri", "uri": "s3://b/x"}}}, "'far' is streamed from s3://b/x"),
        ("def main(job):\n    job.checkpoint.save(lambda folder: None)", {}, "nothing was written"),
        ("def main(job):\n    job.log(**{f'm{i}': i for i in range(9000)})", {}, "may have 65536 bytes"),
        ("x = 1", {"entrypoint": ["python", "absent.py"]}, "'absent.py' is not in the job's code folder, which holds work.py"),
        ("x = 1", {"entrypoint": ["no-such-program"]}, "cannot run 'no-such-program'"),
        ("import sys; print('bad flag'); sys.exit(3)", {"entrypoint": ["python", "work.py"]}, "status 3; its log ends with: bad flag"),
        ("x = 1", {"entrypoint": ["python", "work.py"], "args": {"a": "{inputs.b}"}}, r"\{inputs.b\} names nothing of this job"),
        ("import os; os.abort()", {"entrypoint": ["python", "work.py"]}, "crashed with SIGABRT"),
    ],
)  # fmt: skip
def test_user_errors(run_job: RunJob, code: str, fields: dict[str, Any], message: str):
    """A mistake of the author is told in one line that says what and where."""
    ran = run_job(code, **fields)
    assert ran.code != 0
    assert ran.error()["reason"] == "user_error"
    assert re.search(message, ran.error()["message"]), ran.error()
    assert "\n" not in ran.error()["message"]


def test_traceback_without_our_frames(run_job: RunJob):
    """The log shows where it went wrong in the author's code."""
    log = run_job("def main(job):\n    raise ValueError('deep')").log.decode()
    assert 'work.py", line 2, in main' in log
    assert "runner.py" not in log


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')",
        'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory")',
    ],
)
def test_out_of_memory_by_its_own_words(run_job: RunJob, error: str):
    """An allocator's error is out_of_memory, in a function and in a command."""
    assert run_job(f"def main(job):\n    raise {error}").error()["reason"] == "out_of_memory"
    assert run_job(f"raise {error}", ["python", "work.py"]).error()["reason"] == "out_of_memory"


def test_seeds(run_job: RunJob):
    """One seed gives one sequence in random and numpy, another seed another."""
    code = """
        import random, numpy
        def main(job):
            print("drew", random.random(), numpy.random.rand())
    """
    logs = [run_job(code, seed=seed).log for seed in (5, 5, 6)]
    assert logs[0] == logs[1] != logs[2]


def test_threads(run_job: RunJob):
    """A torch that the author's module has imported gets seed and granted threads."""
    pytest.importorskip("torch")
    code = """
        import torch
        def main(job):
            print("has", torch.get_num_threads(), job.threads, torch.initial_seed())
    """
    assert b"has 1 1 5" in run_job(code, seed=5, grant={"amounts": {"cpu": 0.5}}).log


def test_a_line_is_never_glued_to_the_program_s(run_job: RunJob):
    """A line of ours begins a line, also when the program left its own open."""
    ran = run_job("def main(job):\n    print('half', end='')\n    job.log(loss=1)\n    print('more')")
    assert re.match(rb"half\n::dla:n0::\{.*\}\nmore\n$", ran.log)


def test_user_modules_may_have_our_names(run_job: RunJob):
    """A module of the author called job or limits is his own; ours are not in his way."""
    code = """
        import sys
        def main(job):
            import limits
            print("mine", limits.X, sorted(name for name in sys.modules if name.startswith("airflow_dla")))
    """
    ran = run_job(code)
    assert ran.code != 0
    (ran.folder / "code" / "limits.py").write_text("X = 5")
    assert b"mine 5 []" in run_job(code).log


def test_entrypoint_of_the_package(run_job: RunJob, tmp_path: Path):
    """An entrypoint inside airflow_dla is found where the package is not installed."""
    (tmp_path / "in" / "model").mkdir(parents=True)
    (tmp_path / "in" / "model" / "w.onnx").write_bytes(b"plain")
    inputs = {"model": {"dla": "artifact", "digest": "sha256:0"}}
    ran = run_job("", "airflow_dla.agents.save_model:save", inputs=inputs, outputs=["signature"])
    assert ran.code == 0, ran.log
    assert (tmp_path / "out" / "signature" / "signature.json").exists()
