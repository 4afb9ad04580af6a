"""References: digests, model names, and addresses without passwords."""

from __future__ import annotations

import json

import pytest

from airflow_dla.errors import InvalidSpec, SecretExposed
from airflow_dla.specs import ArtifactRef, ModelRef, UriRef, public_url, reference

DIGEST = "sha256:" + "0f" * 32

EXPOSED = [
    "postgresql://dla:hunter2@db.acme.io/ledger",
    "postgresql+psycopg://dla:hunter2@db:5432/ledger",
    "postgresql://dla:hun/ter2@db/ledger",
    "postgresql://dla:hunter2/@db/ledger",
    "postgresql://:hunter2@db/ledger",
    "postgresql://db/ledger?user=dla&password=hunter2",
    "postgresql://db/ledger?user=dla&PassWord=hunter2",
    "postgresql://db/ledger?user=dla&p%61ssword=hunter2",
    "postgresql://db/ledger?sslpassword=hunter2",
    "s3://AKIA:hunter2@bucket/data",
    "simplecache::s3://AKIA:hunter2@bucket/data",
    "zip://a.csv::ftp://me:hunter2@host/a.zip",
    "jdbc:postgresql://u:hunter2@db/x",
    "https://ghp_hunter2@github.com/acme/data",
    "HTTPS://hunter2@host/x",
    "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=hunter2",
    "https://bucket.s3.amazonaws.com/x?a=b&X-Amz-Security-Token=hunter2",
    "https://account.blob.core.windows.net/c/x?sv=1&sig=hunter2",
    "abfs://c@account/x?account_key=hunter2",
    "https://api.acme.io/data?api_key=hunter2",
    "https://api.acme.io/data#access_token=hunter2",
    "mssql://db/x?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter2",
]

PUBLIC = [
    "postgresql://dla@db.acme.io:5432/ledger",
    "postgresql+psycopg:///ledger?host=/run/postgresql",
    "sqlite:////var/lib/dla/ledger.db",
    "s3://bucket/a:b@c",
    "s3://bucket/images/",
    "http://host:8080/a@b",
    "https://host/x?tokenizer=bert&max_tokens=5",
    "https://host/x?v=3",
    "abfss://container@account.dfs.core.windows.net/x",
    "hf://datasets/acme/x@main/train.parquet",
    "/data/images",
    "file:///data/images",
]


@pytest.mark.parametrize("url", EXPOSED)
def test_a_password_in_a_url_is_refused(url: str):
    """Whatever its form, and never repeated in the message."""
    with pytest.raises(SecretExposed, match="put it into an Airflow connection and name that") as caught:
        public_url(url, "workspace.ledger")
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize("url", PUBLIC)
def test_a_url_without_a_password_passes(url: str):
    """Users, ports and signs in paths are no secrets."""
    assert public_url(url, "workspace.store") == url


@pytest.mark.parametrize("url", ["http://[::1", "http://[x]y", ""])
def test_odd_urls_end_in_our_errors_or_none(url: str):
    """Never in one of the standard library's."""
    try:
        public_url(url, "x")
    except InvalidSpec as error:
        assert "x must be" in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("raw", ["images/train", "./x", "data.csv", "~/x"])
def test_relative_addresses_are_refused(raw: str):
    """Every job runs in a folder of its own."""
    with pytest.raises(InvalidSpec, match="must be a URL or an absolute path"):
        UriRef.from_mapping({"uri": raw})


@pytest.mark.parametrize("raw", ["0f" * 32, "sha256:", "sha256:" + "0F" * 32, "sha256:" + "0f" * 31, DIGEST + "\n"])
def test_digests(raw: str):
    """Sixty-four lower-case hexadecimal digits."""
    with pytest.raises(InvalidSpec, match="must be 'sha256:' and 64 hexadecimal digits"):
        ArtifactRef.from_mapping({"digest": raw})


def test_a_size_is_not_negative():
    """It counts bytes."""
    with pytest.raises(InvalidSpec, match=r"artifact reference\.size must be >= 0, got -1"):
        ArtifactRef.from_mapping({"digest": DIGEST, "size": -1})


def test_references_stay_small():
    """Several of the longest fit into one XCom of 1 KiB."""
    longest = ArtifactRef(digest=DIGEST, kind="k" * 63, size=2**63)
    assert len(json.dumps(longest.to_mapping())) <= 220


def test_model_versions_and_aliases():
    """A number names a version, anything else an alias."""
    numbered, named = ModelRef(model="digits@3"), ModelRef(model="digits@champion")
    assert (numbered.name, numbered.number, numbered.alias) == ("digits", 3, None)
    assert (named.name, named.number, named.alias) == ("digits", None, "champion")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("digits", "NAME@VERSION or NAME@ALIAS, got 'digits'"),
        ("@champion", "model name must be a non-empty string"),
        ("digits@", "model version or alias must be a non-empty string"),
        ("digits@a@b", "model version or alias must be 1 to 63"),
        ("my model@1", "model name must be 1 to 63"),
        ("digits@0", "numbered 1, 2, 3, …, got 'digits@0'"),
        ("digits@007", "numbered 1, 2, 3, …, got 'digits@007'"),
        ("digits@-1", "model version or alias must be 1 to 63"),
        ("digits@²", "model version or alias must be 1 to 63"),
    ],
)
def test_model_names_that_are_none(raw: str, message: str):
    """Each with an example of what would do."""
    with pytest.raises(InvalidSpec, match=message):
        ModelRef.from_mapping({"model": raw})


@pytest.mark.parametrize("word", [ArtifactRef(digest=DIGEST), ModelRef(model="a@b"), UriRef(uri="s3://b/x")], ids=lambda word: word.dla)
def test_any_reference_is_read_by_its_kind(word: ArtifactRef | ModelRef | UriRef):
    """The key ``dla`` says which it is."""
    assert reference(word.to_mapping(), "x") == word
    assert reference(word, "x") is word


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, r"inputs\.train is None where a reference is expected; the task before pushed none"),
        ("s3://bucket/x", r"wrap it: uri\('s3://bucket/x'\) or model\('name@alias'\)"),
        ({}, "'dla' must be one of artifact, model, uri, got None"),
        ({"dla": "file"}, "got 'file'"),
        ({"dla": []}, r"got \[\]"),
        ({"dla": "model", "model": "a@b", "digets": 1}, "did you mean 'digest'"),
        (["s3://x"], "must be a mapping, got list"),
        (7, "must be a mapping, got int 7"),
    ],
)
def test_what_is_no_reference(raw: object, message: str):
    """Refused with a hint, before anything is launched."""
    with pytest.raises(InvalidSpec, match=message):
        reference(raw, "inputs.train")


def test_a_password_in_a_bare_string_is_not_repeated():
    """Not even to say that a string is no reference."""
    with pytest.raises(SecretExposed) as caught:
        reference("s3://key:hunter2@bucket", "inputs.train")
    assert "hunter2" not in str(caught.value)
