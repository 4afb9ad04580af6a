"""Fail when a test was skipped that should have run: only those that need a GPU or a cluster of one's own may be."""

import sys
import xml.etree.ElementTree as ET

#: Suites that must not be missing altogether.
SUITES = ("tests.specs", "tests.ledger", "tests.system", "tests.test_docker_engine")

#: Said where the environment names none; the same tests run on a fake of its API.
NO_CLUSTER = "no cluster is named: set DLA_TEST_KUBECONFIG"


def main(report: str) -> int:
    """Read pytest's JUnit report; print what is wrong and return the exit status."""
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - written by our own pytest
    skipped = [(case, mark) for case in cases for mark in case.iter("skipped") if mark.get("type") != "pytest.xfail"]
    wrong = [f"skipped: {case.get('classname')}.{case.get('name')}: {mark.get('message')}" for case, mark in skipped if not _absent(mark)]
    wrong += [f"no test ran in {suite}" for suite in SUITES if not any(_in(case, suite) for case in cases)]
    print(f"{len(cases)} tests, {len(skipped)} skipped", *wrong, sep="\n")
    return 1 if wrong else 0


def _absent(mark: ET.Element) -> bool:
    reason = mark.get("message") or ""
    return "GPU" in reason or reason.startswith(NO_CLUSTER)


def _in(case: ET.Element, suite: str) -> bool:
    return f"{case.get('classname')}.".startswith(f"{suite}.") and case.find("skipped") is None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
