"""What Airflow reads about this provider: plain data, imported by every Airflow process."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description in the form of Airflow's ``provider_info.schema.json``."""
    integration = "Deep-learning agents"
    return {
        "package-name": "airflow-dla",
        "name": integration,
        "description": "Deep-learning agents: train, evaluate, version and serve models with the right share of CPUs, GPUs and memory.",
        "integrations": [{"integration-name": integration, "tags": ["software"]}],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    "airflow_dla.operators.job",
                    "airflow_dla.operators.prepare_data",
                    "airflow_dla.operators.train_model",
                    "airflow_dla.operators.evaluate_model",
                    "airflow_dla.operators.save_model",
                    "airflow_dla.operators.infer",
                    "airflow_dla.operators.granted",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_dla.sensors.capacity", "airflow_dla.sensors.model_version"],
            }
        ],
        "hooks": [
            {
                "integration-name": integration,
                "python-modules": ["airflow_dla.hooks.workspace", "airflow_dla.hooks.jobs", "airflow_dla.hooks.resource_allocation"],
            }
        ],
        "triggers": [{"integration-name": integration, "python-modules": ["airflow_dla.triggers.grant", "airflow_dla.triggers.job"]}],
        "connection-types": [
            {
                "connection-type": "dla",
                "hook-class-name": "airflow_dla.hooks.workspace.DlaHook",
                "hook-name": integration,
                "conn-fields": _connection_fields(),
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "password", "port"],
                    "relabeling": {},
                    "placeholders": {},
                },
            }
        ],
        "extra-links": [
            "airflow_dla.operators.links.JobLogLink",
            "airflow_dla.operators.links.ArtifactLink",
            "airflow_dla.operators.links.ModelVersionLink",
        ],
        "config": {
            "dla": {
                "description": "Deep-learning agents.",
                "options": {
                    "embedded": {
                        "description": (
                            "When the connection `dla_default` does not exist: keep ledger, store and jobs in `$AIRFLOW_HOME/dla/`. "
                            "`auto` does so where Airflow runs on one host (LocalExecutor, or metadata in SQLite), "
                            "`always` on every host by itself, `never` refuses."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "never",
                        "default": "auto",
                    }
                },
            }
        },
        "cli": ["airflow_dla.cli.definition.get_cli_commands"],
    }


def _connection_fields() -> dict[str, Any]:
    """Return the fields of the form in the web UI; every one may be left empty."""
    return {
        "ledger": _field(
            "Ledger",
            "Id of a postgres or sqlite connection, or a URL without a password: postgresql://user@host/database, "
            "sqlite:////var/lib/dla/ledger.db. Empty: SQLite in $AIRFLOW_HOME/dla/.",
        ),
        "store": _field(
            "Artifact store",
            "A folder, a URL that fsspec opens without a password (s3://bucket/prefix), or the id of a connection whose extra holds "
            "url and its credentials. Empty: a folder in $AIRFLOW_HOME/dla/.",
        ),
        "places": _field(
            "Places",
            'JSON: where jobs run, by name. Empty: {"local": {"kind": "local"}}, processes of Airflow\'s hosts. Beside that one, Docker '
            'engines, one node each: {"gpu1": {"kind": "docker", "url": "unix:///var/run/docker.sock", "connection": "docker_default", '
            '"image": "registry/train:1", "user": "1000:1000", "runtime": "nvidia", "keep": "1h", "labels": {"zone": "a"}, '
            '"capacity": {"cpu": 8}, "policy": {"images": ["registry/*"], "mounts": ["/data/*"], "networks": ["bridge", "none"]}}}. '
            "`connection` is the id of a docker connection with the registry's login; all but kind may be left out. "
            "A local place beside an engine on one host: say in Capacity what the local one has. A cluster, each of its nodes one: "
            '{"k8s": {"kind": "kubernetes", "connection": "kubernetes_default", "namespace": "ml", "image": "registry/train:1"}}, with the '
            "id of a kubernetes connection, kubeconfig (a file on Airflow's hosts), or in_cluster: true. With `capacity` it is one node of "
            "that much. `airflow dla doctor --place k8s` says what it lacks.",
            kind="object",
        ),
        "capacity": _field(
            "Capacity",
            'JSON: what this host may grant, where that is not what is found: {"cpu": 8, "memory": "32GiB", "gpu": 1, "gpu_type": "h200"}. '
            'GPUs count only when they are named here, and slices of them by id: {"mig_ids": {"1g.10gb": ["MIG-..."]}}. '
            'Labels that requests may ask for: {"labels": {"zone": "a"}}.',
            kind="object",
        ),
        "request": _field(
            "Default request",
            'JSON: what a job asks for when neither operator nor agent says: {"cpu": 1, "memory": "1GiB"}.',
            kind="object",
        ),
        "allocation": _field(
            "Allocation",
            'JSON: how a shortage is resolved: {"strategy": "lp", "shedding": "strict", "costs": {"cpu": 1}, "weights": {"default": 1}}.',
            kind="object",
        ),
        "timing": _field(
            "Timing",
            'JSON: how long is waited for what, where the defaults do not fit: {"unfollowed": "30m"}, after which an unfollowed job '
            'is stopped, {"silent": "5m"}, after which a node that does not answer is written off; also lease, renew, reap, look and bare.',
            kind="object",
        ),
        "jobs_folder": _field("Jobs folder", "Scratch folder of local jobs, on a local disk. Empty: $AIRFLOW_HOME/dla/jobs."),
        "statsd_host": _field("StatsD host", "Where metrics go. Empty: wherever Airflow sends its own."),
        "statsd_port": _field("StatsD port", "8125 when empty.", kind="integer", minimum=1, maximum=65535),
    }


def _field(label: str, description: str, *, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}
