"""Why containers could not start."""

from __future__ import annotations

import re

import pytest

from airflow_dla.runtime.starting import why_not_started


@pytest.mark.parametrize(
    ("words", "reason", "told"),
    [
        ('runc: exec: "train": executable file not found in $PATH: unknown', "user_error", r"command not found: 'train'; .* \./train"),
        ('exec: "train": stat train: no such file or directory: unknown', "user_error", "command not found"),
        ("[FATAL tini (7)] exec train failed: No such file or directory", "user_error", "command not found"),
        ('exec: "/etc/passwd": permission denied: unknown', "user_error", "may not be executed"),
        ("exec format error", "user_error", "another processor"),
        ("error setting rlimit type 7: operation not permitted", "user_error", "ask for less with ulimits"),
        ("unable to apply caps: operation not permitted", "user_error", "leave privileged"),
        ("something else", "user_error", r"correct what it names \(something else\)"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', "lost", "nvidia-container-toolkit"),
        ("nvidia-container-cli: device error: GPU-7: unknown device", "lost", "gpu_ids"),
        ("write /x: no space left on device", "lost", "disk is full"),
    ],
)
def test_why_not_started(words: str, reason: str, told: str):
    """What an engine says is kept and explained; where its host is at fault, the job is not."""
    found, message = why_not_started(words, "train")
    assert found == reason
    assert re.search(told, message)
    assert words in message


def test_no_shell():
    """An image without a shell is told from a command that is not there; a path is not looked for in the code folder."""
    assert "there is no shell '/bin/sh'; name the program itself" in why_not_started("executable file not found", "/bin/sh")[1]
    assert "./" not in why_not_started("executable file not found", "/opt/train")[1]


def test_long_words():
    """Of what an engine says at length the end is kept, where it says what."""
    assert why_not_started("x" * 1000 + ": exec format error", "train")[1].endswith(": exec format error)")
