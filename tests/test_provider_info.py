"""What Airflow reads about this provider."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, resources
from typing import Any

import jsonschema
import pytest

from airflow_dla.get_provider_info import get_provider_info
from airflow_dla.hooks.settings import FIELDS


def named(info: dict[str, Any]) -> Iterator[str]:
    """Yield every module, class and function that the description names."""
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for group in info[kind]:
            yield from group["python-modules"]
    yield from (kind["hook-class-name"] for kind in info["connection-types"])
    yield from info["extra-links"]
    yield from info["cli"]


def schema(name: str) -> dict[str, Any]:
    """Return one of Airflow's schemas."""
    return json.loads(resources.files("airflow").joinpath(name).read_text(encoding="utf-8"))


def test_is_what_airflow_expects() -> None:
    """The description follows Airflow's schema for installed providers."""
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_connection_form_is_what_airflow_expects() -> None:
    """The form of the connection follows the schema that Airflow's own providers are held to."""
    wanted = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    jsonschema.validate(get_provider_info()["connection-types"], wanted)


@pytest.mark.parametrize("path", list(named(get_provider_info())))
def test_names_exist(path: str) -> None:
    """Whatever the description names can be imported."""
    module, _, name = path.rpartition(".")
    if name[0].isupper() or name == "get_cli_commands":
        assert hasattr(import_module(module), name)
    else:
        import_module(path)


def test_form_has_fields_that_are_read() -> None:
    """Every field of the form is one that the settings read."""
    (kind,) = get_provider_info()["connection-types"]
    assert set(kind["conn-fields"]) <= set(FIELDS)


def test_imports_nothing() -> None:
    """Reading the description loads neither Airflow nor anything numeric."""
    code = "import sys, airflow_dla.get_provider_info as p; p.get_provider_info(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"airflow", "numpy", "scipy", "sqlalchemy", "torch", "yaml"} & set(loaded)
