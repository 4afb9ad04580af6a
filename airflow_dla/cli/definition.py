"""Which commands there are. Airflow imports this whenever it parses a command line: the commands themselves load later."""

from __future__ import annotations

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_dla.cli.arguments import duration, natural, whole

_CONNECTION = Arg(("--conn-id",), default="dla_default", metavar="ID", help="Connection of the workspace (default: dla_default)")
_JSON = Arg(("--json",), action="store_true", help="Print exactly one JSON document; progress and logs go to standard error")
_EVERYWHERE = (_CONNECTION, _JSON)

_JOB = Arg(("job",), metavar="JOB", help="Id of a job, or of one of its attempts (JOB.NUMBER), as `jobs list` shows them")
_MODEL = Arg(("model",), metavar="MODEL", help="Name of a model")
_ALIAS = Arg(("--alias",), default="champion", metavar="ALIAS", help="The alias to move (default: champion)")
_WHY = Arg(("--why",), default="", metavar="TEXT", help="Why, for the log")


def get_cli_commands() -> list[CLICommand]:
    """Return the group ``airflow dla``."""
    commands = (*_alone(), _ledger(), _agents(), _jobs(), _models(), _artifacts())
    return [GroupCommand(name="dla", help="Deep-learning agents: jobs, allocation, models, artifacts", subcommands=commands)]


def _command(name: str, function: str, text: str, *args: Arg) -> ActionCommand:
    return ActionCommand(name=name, help=text, func=lazy_load_command(f"airflow_dla.cli.{function}"), args=args)


def _alone() -> tuple[ActionCommand, ...]:
    home = Arg(("--home",), metavar="FOLDER", help="Airflow home of the demo (default: airflow-dla/demo in your data folder)")
    file = Arg(
        ("file",), metavar="FILE", help="YAML or JSON: {capacity: {cpu: 80}, requests: [{name: a, cpu: 50}]}; - reads standard input"
    )
    return (
        _command("demo", "demo.demo", "Run the digits agent's pipeline on this machine, in an Airflow of its own", home, _JSON),
        _command("doctor", "doctor.doctor", "Check the workspace and this host, and say what to fix", *_EVERYWHERE),
        _command("allocate", "allocate.allocate", "Solve an allocation problem from a file; needs no workspace", file, _JSON),
        _simulate(),
    )


def _simulate() -> ActionCommand:
    args = (
        Arg(("trace",), metavar="PODS.csv", help="A placement list: cpu_milli, memory_mib, num_gpu, gpu_milli and perhaps gpu_spec"),
        Arg(("--cluster",), metavar="NODES.csv", help="The nodes: cpu_milli, memory_mib, gpu and perhaps model"),
        Arg(("--inflate",), type=float, default=1.3, metavar="X", help="GPUs requested in all, of those there are (default: 1.3)"),
        Arg(("--seeds",), type=whole, default=10, metavar="N", help="How many shuffles: seeds 42, 43, ... (default: 10)"),
        Arg(("--placement",), default="priced", metavar="POLICY", help="priced, fgd, best-fit or random (default: priced)"),
        _JSON,
    )
    return _command("simulate", "simulate_placement.run", "Simulate how a placement list packs into a cluster; needs no workspace", *args)


def _ledger() -> GroupCommand:
    commands = (
        _command("status", "ledger.status", "Show the ledger's schema; exit status 1 unless it is current", *_EVERYWHERE),
        _command("upgrade", "ledger.upgrade", "Create the ledger's schema, or bring it up to date", *_EVERYWHERE),
    )
    return GroupCommand(name="ledger", help="The ledger's schema", subcommands=commands)


def _agents() -> GroupCommand:
    name = Arg(("name",), metavar="NAME", help="Name of an agent")
    source = Arg(("source",), metavar="FILE", help="A YAML or JSON file, or module:name of a Python value, as agent() returns it")
    commands = (
        _command("list", "agents.list_agents", "List the agents that the ledger knows", *_EVERYWHERE),
        _command("show", "agents.show", "Show an agent", name, *_EVERYWHERE),
        _command("check", "agents.check", "Check an agent's description, its entrypoints included", source, _JSON),
    )
    return GroupCommand(name="agents", help="Agents", subcommands=commands)


def _jobs() -> GroupCommand:
    state = Arg(("--state",), metavar="STATE", help="Only jobs that are live, or in this state, or ended for this reason")
    dag = Arg(("--dag",), metavar="DAG", help="Only jobs of this DAG")
    limit = Arg(("--limit",), type=natural, default=100, metavar="N", help="At most so many, newest first (default: 100)")
    follow = Arg(("-f", "--follow"), action="store_true", help="Go on until the job ends")
    commands = (
        _command("list", "jobs.list_jobs", "List jobs, newest first", state, dag, limit, *_EVERYWHERE),
        _command("show", "jobs.show", "Show a job: its state, what it was granted and why, how it ended", _JOB, *_EVERYWHERE),
        _command("logs", "jobs.logs", "Print what a job on this host wrote", _JOB, follow, *_EVERYWHERE),
        _command("stop", "jobs.stop", "Stop a job", _JOB, *_EVERYWHERE),
    )
    return GroupCommand(name="jobs", help="Jobs", subcommands=commands)


def _models() -> GroupCommand:
    number = Arg(("version",), type=whole, metavar="VERSION", help="Number of a version")
    force = Arg(("--force",), action="store_true", help="Also when callers of the present version could not call it")
    commands = (
        _command("list", "models.list_models", "List models, their versions and aliases", *_EVERYWHERE),
        _command("show", "models.show", "Show a model's versions, and the log of its aliases", _MODEL, *_EVERYWHERE),
        _command("promote", "models.promote", "Point an alias at a version", _MODEL, number, _ALIAS, _WHY, force, *_EVERYWHERE),
        _command("rollback", "models.rollback", "Point an alias at the version before", _MODEL, _ALIAS, _WHY, *_EVERYWHERE),
    )
    return GroupCommand(name="models", help="Model versions", subcommands=commands)


def _artifacts() -> GroupCommand:
    digests = Arg(("digests",), nargs="*", metavar="DIGEST", help="Artifacts to read; all of the store's by default")
    dry = Arg(("--dry-run",), action="store_true", help="Only say what would be deleted")
    grace = Arg(("--grace",), type=duration, default=3600.0, metavar="TIME", help="Keep what is younger (default: 1h)")
    commands = (
        _command("verify", "artifacts.verify", "Read every byte and compare it with what was published", digests, *_EVERYWHERE),
        _command("gc", "artifacts.collect", "Delete what no model, young job, checkpoint or pin needs", dry, grace, *_EVERYWHERE),
    )
    return GroupCommand(name="artifacts", help="The artifact store", subcommands=commands)
