"""One Hypothesis strategy for each word of `airflow_dla.specs`, for whoever tests with words."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from airflow_dla.specs import (
    RESOURCES,
    Account,
    AgentSpec,
    ArtifactRef,
    Demand,
    Distributed,
    Entrypoint,
    Exit,
    ExitReason,
    Expected,
    Grant,
    JobFile,
    JobKey,
    JobPolicy,
    JobSpec,
    KeeperFile,
    ModelRef,
    Node,
    Part,
    PlacePolicy,
    PlaceSpec,
    Range,
    Reason,
    Request,
    Spec,
    TeamSpec,
    UriRef,
)

identifiers = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)
variables = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0@"), min_size=1, max_size=20).filter(str.strip)
remarks = texts | st.just("")
finite = st.floats(allow_nan=False, allow_infinity=False)
amounts = st.floats(min_value=0.0, max_value=1e12, allow_nan=False)
lengths = st.floats(1e-9, 1e12)
naturals = st.integers(min_value=0, max_value=2**62)
integers = st.integers(min_value=-(2**62), max_value=2**62)
json_values = st.recursive(
    st.none() | st.booleans() | integers | finite | remarks,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
json_mappings = st.dictionaries(texts, json_values, max_size=3)
resource_amounts = st.dictionaries(st.sampled_from(list(RESOURCES)), amounts, max_size=4)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
addresses = st.tuples(st.sampled_from(["s3", "gs", "file", "memory"]), identifiers, identifiers).map(
    lambda parts: "{}://{}/{}".format(*parts)
)
protocols = st.sampled_from([0, 1])


def tuples_of(items: st.SearchStrategy, *, max_size: int = 4) -> st.SearchStrategy[tuple]:
    """Make lists of distinct items, as words hold them."""
    return st.lists(items, max_size=max_size, unique=True).map(tuple)


labels = st.dictionaries(texts, texts, max_size=2)
profiles = st.sampled_from(["1g.10gb", "1g.10gb+me", "3g.40gb", "7g.80gb"])


@st.composite
def ranges(draw: st.DrawFn, *, per_gpu: bool = False) -> Range:
    """Make amounts between what is needed and what is wanted."""
    low, high = sorted((draw(amounts), draw(amounts)))
    return Range(low, high, per_gpu)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Make requests that keep the rules about GPUs."""
    gpus = draw(st.none() | st.tuples(st.integers(0, 8), st.integers(1, 8)).map(sorted))
    plain = draw(st.dictionaries(st.sampled_from(["cpu", "memory", "shm", "disk", "network"]), ranges(), max_size=3))
    found = plain | {"cpu": Range(1.0, draw(st.floats(1.0, 64.0)))}
    selectors = {"labels": draw(labels), "prefer": draw(labels)}
    if gpus is None:
        found |= {f"mig-{profile}": Range(1.0, 2.0) for profile in draw(tuples_of(profiles, max_size=2))}
        return Request(found, **selectors)
    found["gpu"] = Range(float(gpus[0]), float(gpus[1]))
    found |= draw(st.dictionaries(st.sampled_from(["memory", "cpu"]), ranges(per_gpu=True), max_size=1))
    found |= draw(st.dictionaries(st.just("gpu_memory"), ranges(), max_size=1))
    return Request(found, draw(st.none() | identifiers), **selectors)


functions = st.from_regex(r"[a-z_][a-z0-9_]{0,8}(\.[a-z_][a-z0-9_]{0,8})?:[a-z_][a-z0-9_]{0,8}", fullmatch=True)
entrypoints = functions.map(lambda found: Entrypoint(function=found)) | st.builds(
    lambda program, rest: Entrypoint(command=(program, *rest)), texts, st.lists(remarks, max_size=3)
)
patterns = st.sampled_from([r"val_auc=(\S+)", r"loss: ([0-9.]+)", r"(?:a|b) (\d+)"])
secrets = st.sampled_from(["conn:", "var:", "file:"]).flatmap(lambda kind: identifiers.map(lambda name: kind + name))

artifacts = st.builds(ArtifactRef, digest=digests, kind=identifiers, size=naturals)
model_names = st.tuples(identifiers, st.integers(1, 999).map(str) | st.text(string.ascii_letters, min_size=1, max_size=9)).map("@".join)
models = st.builds(ModelRef, model=model_names, missing=st.sampled_from(["error", "skip"]), digest=st.none() | digests)
uris = st.builds(UriRef, uri=addresses, mode=st.sampled_from(["stream", "copy"]), pin=json_mappings)
references = artifacts | models | uris

agents = st.builds(
    AgentSpec,
    name=identifiers,
    image=st.none() | texts,
    code=st.none() | texts,
    entrypoints=st.dictionaries(identifiers, entrypoints, max_size=3),
    request=st.none() | requests(),
    metrics=st.dictionaries(identifiers, patterns, max_size=2),
    signature=json_mappings,
    env=st.dictionaries(variables, remarks, max_size=2),
    secrets=st.dictionaries(variables, secrets, max_size=2),
    volumes=json_mappings,
    server=json_mappings,
)
nodes = st.builds(
    Node,
    name=texts,
    place=texts,
    capacity=resource_amounts,
    labels=labels,
    cpu_ids=tuples_of(st.integers(0, 255)),
    gpu_ids=tuples_of(texts),
    mig_ids=st.dictionaries(profiles, tuples_of(texts), max_size=2),
)
demands = st.builds(
    Demand,
    id=texts,
    request=requests(),
    place=texts,
    node=st.none() | texts,
    team=texts,
    priority=integers,
    weight=st.floats(1e-6, 1e6),
    created_at=amounts,
    preemptible=st.booleans(),
    gang=st.none() | texts,
    gang_size=st.integers(1, 64),
    deadline=st.none() | amounts,
    run_s=st.none() | lengths,
)
grants = st.builds(
    Grant,
    id=texts,
    node=texts,
    amounts=resource_amounts,
    cpu_ids=tuples_of(st.integers(0, 255)),
    gpu_ids=tuples_of(texts),
    reason=remarks,
)
reasons = st.builds(
    Reason,
    binding=texts,
    node=st.none() | texts,
    shortfall=amounts,
    price=finite,
    position=naturals,
    expected_start=st.none() | amounts,
    start_low=st.none() | amounts,
    start_high=st.none() | amounts,
    unblock=tuples_of(texts),
    never=st.booleans(),
    text=texts,
)
teams = st.builds(
    TeamSpec,
    name=identifiers,
    parent=st.none() | identifiers,
    weight=st.floats(1e-6, 1e6),
    guaranteed=resource_amounts,
    borrow=resource_amounts,
    lend=resource_amounts,
    quota=resource_amounts,
    reclaim_after_s=st.none() | amounts,
    max_priority=st.none() | integers,
    gpu_hours=st.none() | amounts,
    period_s=lengths,
    tokens=st.none() | amounts,
    preemptible=st.booleans(),
    dags=tuples_of(texts),
    bundles=tuples_of(texts),
    airflow_teams=tuples_of(texts),
)
accounts = st.builds(
    Account,
    team=identifiers,
    at=amounts,
    past_use=resource_amounts,
    gpu_hours=amounts,
    period_at=amounts,
    tokens=st.none() | amounts,
    refilled_at=amounts,
)
expected = st.builds(
    Expected,
    id=texts,
    amounts=resource_amounts,
    at=amounts,
    late_s=amounts,
    run_s=lengths,
    dag=remarks,
    task=remarks,
    team=texts,
    priority=integers,
    place=texts,
)
keys = st.builds(JobKey, dag=texts, run=texts, task=texts, index=st.integers(-1, 10_000), member=naturals)
sizes = st.integers(1, 10_000)
spreads = st.builds(
    Distributed,
    nodes=st.tuples(sizes, sizes).map(lambda ends: (min(ends), max(ends))),
    nproc=sizes | st.sampled_from(["gpu", "auto"]),
    max_restarts=naturals,
    shrink_after_s=amounts,
)
job_parts = st.builds(
    Part,
    run_id=texts,
    node_rank=naturals,
    nodes=sizes,
    first_rank=naturals,
    local_world_size=sizes,
    world_size=sizes,
    address=texts,
    port=sizes,
    restarts=naturals,
    max_restarts=naturals,
)
policies = st.builds(
    JobPolicy,
    place=texts,
    team=identifiers,
    priority=integers,
    preemptible=st.booleans(),
    wait_timeout_s=st.none() | amounts,
    run_timeout_s=st.none() | lengths,
    infra_retries=naturals,
    grace_s=amounts,
    deadline_s=st.none() | lengths,
    gang=identifiers,
    gang_size=st.integers(1, 64),
    overrides=json_mappings,
)
jobs = st.builds(
    JobSpec,
    key=keys,
    agent=agents,
    entrypoint=entrypoints,
    request=requests(),
    verb=identifiers,
    args=json_mappings,
    inputs=st.dictionaries(identifiers, references, max_size=2),
    outputs=tuples_of(identifiers),
    policy=policies,
    code=st.none() | artifacts,
    seed=naturals,
    expected_s=st.none() | lengths,
    distributed=st.none() | spreads,
    lineage=json_mappings,
    protocol=protocols,
)
job_files = st.builds(
    JobFile,
    attempt=texts,
    nonce=texts,
    entrypoint=entrypoints,
    grant=grants,
    store=addresses,
    checkpoint=texts,
    args=json_mappings,
    inputs=st.dictionaries(identifiers, references, max_size=2),
    outputs=tuples_of(identifiers),
    metrics=st.dictionaries(identifiers, patterns, max_size=2),
    env=st.dictionaries(variables, remarks, max_size=2),
    code=st.none() | artifacts,
    seed=naturals,
    grace_s=amounts,
    part=st.none() | job_parts,
    run_timeout_s=st.none() | lengths,
    protocol=protocols,
)
keeper_files = st.builds(KeeperFile, pid=st.integers(1, 2**22), boot_id=texts, start_ticks=naturals, limits=remarks, protocol=protocols)
exits = st.builds(
    Exit,
    reason=st.sampled_from(ExitReason),
    message=remarks,
    code=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
    oom_kills=naturals,
    started_at=amounts,
    ended_at=amounts,
    outputs=st.dictionaries(identifiers, artifacts, max_size=2),
    metrics=st.dictionaries(remarks, finite, max_size=3),
    peaks=st.dictionaries(identifiers, amounts, max_size=2),
    protocol=protocols,
)

folders = identifiers.map("/srv/{}".format)
users = st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)).map(lambda ids: "{}:{}".format(*ids))
images = st.tuples(identifiers, identifiers).map(lambda parts: "{}/{}:1".format(*parts))
place_policies = st.builds(
    PlacePolicy,
    images=tuples_of(images | st.just("*")),
    mounts=tuples_of(folders.map("{}/*:rw".format) | folders),
    volumes=tuples_of(identifiers.map("{}-*".format)),
    privileged=st.booleans(),
    host_network=st.booleans(),
    networks=st.lists(identifiers.filter(lambda name: name != "host"), min_size=1, max_size=3, unique=True).map(tuple),
    users=tuples_of(users | st.just("1000:*")),
    overrides=tuples_of(st.sampled_from(["dns", "extra_hosts", "ulimits"])),
    capabilities=tuples_of(st.sampled_from(["SYS_PTRACE", "NET_BIND_SERVICE"])),
    read_only=st.booleans(),
    pids=st.integers(1, 2**31),
)
place_names = identifiers.filter(lambda name: name != "any")
engines = st.fixed_dictionaries({"url": st.sampled_from(["unix:///run/docker.sock", "ssh://dla@gpu1", "tcp://gpu1:2375"])}) | st.just(
    {"url": "tcp://gpu1:2376", "tls": {"ca": "/tls/ca.pem", "cert": "/tls/cert.pem", "key": "/tls/key.pem"}}
)


@st.composite
def docker_places(draw: st.DrawFn) -> PlaceSpec:
    """Make Docker places that keep the rules about addresses and TLS."""
    return PlaceSpec(
        name=draw(place_names),
        kind="docker",
        **draw(engines),
        connection=draw(st.none() | texts),
        folder=draw(st.none() | folders),
        image=draw(st.none() | images),
        user=draw(st.none() | users),
        runtime=draw(st.none() | identifiers),
        keep_s=draw(amounts),
        capacity=draw(json_mappings),
        labels=draw(labels),
        policy=draw(place_policies),
    )


object_names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
sizes_written = st.integers(1, 500).map("{}GiB".format)
scratches = (
    st.just("emptydir")
    | object_names.map("pvc:{}".format)
    | st.fixed_dictionaries({"size": sizes_written}, optional={"storage_class": object_names})
)
tolerations = st.fixed_dictionaries({"key": object_names, "operator": st.just("Exists")}, optional={"effect": st.just("NoSchedule")})
clusters = (
    st.fixed_dictionaries({"connection": texts, "context": st.none() | texts})
    | st.fixed_dictionaries({"kubeconfig": folders, "context": st.none() | texts})
    | st.just({"in_cluster": True})
)
cluster_policies = st.builds(
    PlacePolicy,
    images=tuples_of(images | st.just("*")),
    mounts=tuples_of(folders.map("{}/*:rw".format) | folders),
    volumes=tuples_of(identifiers.map("{}-*".format)),
    users=tuples_of(users | st.just("1000:*")),
    overrides=tuples_of(st.sampled_from(["node_selector", "sidecars", "annotations"])),
    service_accounts=tuples_of(object_names),
    priority_classes=tuples_of(object_names),
    pull_secrets=tuples_of(object_names),
    read_only=st.booleans(),
)


@st.composite
def kubernetes_places(draw: st.DrawFn) -> PlaceSpec:
    """Make Kubernetes places that keep the rules about who is asked for a cluster, and who allocates there."""
    return PlaceSpec(
        name=draw(place_names),
        kind="kubernetes",
        **draw(clusters),
        **draw(st.just({}) | object_names.map(lambda queue: {"allocator": "kueue", "queue": queue, "workload_priorities": {queue: 10}})),
        namespace=draw(st.none() | object_names),
        helper=draw(st.none() | images),
        image=draw(st.none() | images),
        user=draw(st.none() | users),
        scratch=draw(scratches),
        store=draw(st.sampled_from([None, "direct", "relay"])),
        gpu_resource=draw(st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"])),
        resources=draw(st.dictionaries(profiles.map("mig-{}".format), st.just("nvidia.com/shared"), max_size=1)),
        node_selector=draw(st.dictionaries(object_names, object_names, max_size=1)),
        tolerations=tuple(draw(st.lists(tolerations, max_size=2))),
        service_account=draw(st.none() | object_names),
        image_pull_secrets=draw(tuples_of(object_names, max_size=2)),
        priority_class=draw(st.none() | object_names),
        runtime_class=draw(st.none() | object_names),
        keep_s=draw(amounts),
        capacity=draw(json_mappings),
        labels=draw(labels),
        policy=draw(cluster_policies),
    )


places = st.builds(PlaceSpec, name=place_names, kind=st.just("local")) | docker_places() | kubernetes_places()

#: Every word that reads and writes itself as a mapping, and a strategy for it.
WORDS: dict[type[Spec | Request], st.SearchStrategy] = {
    Account: accounts,
    AgentSpec: agents,
    ArtifactRef: artifacts,
    Demand: demands,
    Distributed: spreads,
    Exit: exits,
    Expected: expected,
    Grant: grants,
    JobFile: job_files,
    JobKey: keys,
    JobPolicy: policies,
    JobSpec: jobs,
    KeeperFile: keeper_files,
    ModelRef: models,
    Node: nodes,
    PlacePolicy: place_policies,
    PlaceSpec: places,
    Part: job_parts,
    Reason: reasons,
    Request: requests(),
    TeamSpec: teams,
    UriRef: uris,
}
