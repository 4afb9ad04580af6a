"""Fail when the demo's report does not keep the README's promise."""

import json
import sys
from pathlib import Path

ACCURACY = 0.97


def main(report: str) -> int:
    """Read the one JSON document that the demo printed; print its numbers and return the exit status."""
    found = json.loads(Path(report).read_text(encoding="utf-8"))
    steps = ", ".join(f"{step['name']} {step['seconds']:.1f} s" for step in found["steps"])
    print(f"accuracy {found['accuracy']:.4f}, version {found['version']}, {found['wall_s']:.1f} s: {steps}")
    return 0 if found["accuracy"] >= ACCURACY else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
