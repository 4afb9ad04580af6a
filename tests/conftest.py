"""Fixtures of the whole suite; an Airflow home of its own, before anything imports Airflow."""

import os
import tempfile

_HOME = tempfile.mkdtemp(prefix="dla-tests-airflow-")
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW"))]:
    del os.environ[_name]
os.environ.update(AIRFLOW_HOME=_HOME, AIRFLOW__CORE__LOAD_EXAMPLES="False", AIRFLOW__CORE__UNIT_TEST_MODE="True")

pytest_plugins = ["fixtures_postgres", "fixtures_ledger", "fixtures_workspace", "fixtures_airflow"]
