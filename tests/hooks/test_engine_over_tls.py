"""An engine behind TLS, reached as a connection names it: both sides show a certificate of the same authority."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("airflow.providers.docker", reason="extra docker is not installed")

from contracts.runtime import ended, job_file, submitted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from docker_daemon import Daemon
from docker_images import BASE
from fixtures_docker import image_on

from airflow_dla.artifacts import Store
from airflow_dla.errors import PlaceUnavailable
from airflow_dla.hooks.docker import engine_of
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.volume_ground import VolumeGround
from airflow_dla.specs import PlaceSpec

pytestmark = pytest.mark.timeout(300)


class Authority:
    """A certificate authority of one test.

    Parameters
    ----------
    folder : Path
        Where it leaves ``ca.pem``, and ``NAME.pem`` and ``NAME.key`` of whom it vouches for.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._write("ca.pem", builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def vouch(self, name: str) -> None:
        """Make a key and a certificate for 127.0.0.1, for either side."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = self._builder(subject, key).add_extension(address, critical=False).sign(self._key, hashes.SHA256())
        self._write(f"{name}.pem", made.public_bytes(serialization.Encoding.PEM))
        plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._write(f"{name}.key", key.private_bytes(*plain))

    def files(self, name: str) -> dict[str, str]:
        """Return the paths that a place names."""
        return {"ca": str(self.folder / "ca.pem"), "cert": str(self.folder / f"{name}.pem"), "key": str(self.folder / f"{name}.key")}

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        names = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        dated = names.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(hours=1))
        return dated.serial_number(x509.random_serial_number())

    def _write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority that vouches for an engine and for us."""
    found = Authority(tmp_path / "tls")
    found.vouch("engine")
    found.vouch("us")
    return found


@pytest.fixture
def place(own_engine: Daemon, authority: Authority) -> PlaceSpec:
    """Return a place whose engine listens behind TLS."""
    files = authority.files("engine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    options = [f"--host={address}", "--tlsverify", f"--tlscacert={files['ca']}", f"--tlscert={files['cert']}", f"--tlskey={files['key']}"]
    own_engine.restart(*options)
    return PlaceSpec(name="far", kind="docker", url=address, tls=authority.files("us"), helper=image_on(own_engine.engine, BASE))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store."""
    return Store(str(tmp_path / "store"))


@pytest.fixture
def runtime(place: PlaceSpec, store: Store, tmp_path: Path) -> Iterator[DockerRuntime]:
    """Return the place's runtime."""
    workspace, engine = uuid.uuid4().hex, engine_of(place, None)
    folder = Path(store.url.removeprefix("file://"))
    folder.mkdir(exist_ok=True)
    ground = VolumeGround(engine, place, workspace=workspace, logs=tmp_path / "logs", store_folder=folder)
    yield DockerRuntime(engine, place, node="far", workspace=workspace, ground=ground)
    engine.close()


def test_a_job_goes_both_ways_over_tls(runtime: DockerRuntime, store: Store, tmp_path: Path) -> None:
    """Code and secret in, log and output out; then nothing of it is left on the engine."""
    (tmp_path / "code").mkdir()
    lines = ["import os", "def main(job):", "    print('got', os.environ['TOKEN'], flush=True)"]
    lines += ["    (job.outputs['model'].path / 'model.txt').write_text('trained')"]
    (tmp_path / "code" / "work.py").write_text("\n".join(lines))
    code = store.publish(tmp_path / "code", kind="code")
    job = job_file("job.1", "work:main", store=store.url, code=code, outputs=("model",))
    submitted(runtime, Launch(job=job, secrets={"TOKEN": "s3cret"}, image=runtime.place.helper))
    found = ended(runtime, "job.1", 60.0)
    assert found.succeeded, found.message
    assert b"got s3cret" in runtime.logs("job.1", 0).data
    store.fetch(found.outputs["model"].digest, tmp_path / "model")
    assert (tmp_path / "model" / "model.txt").read_text() == "trained"
    runtime.collect("job.1")
    assert runtime.forget(older_than_s=-1.0) == ("job.1",)
    assert runtime.jobs() == {}


def test_who_shows_no_certificate_of_the_authority_is_not_let_in(place: PlaceSpec, authority: Authority, tmp_path: Path) -> None:
    """Neither do we talk to an engine of another authority; each is said as an engine that does not answer."""
    other = Authority(tmp_path / "other")
    other.vouch("us")
    strangers = {**other.files("us"), "ca": authority.files("us")["ca"]}
    for tls, said in ((strangers, "does not answer"), ({}, "does not answer"), (other.files("us"), "certificate or ours is not accepted")):
        known = PlaceSpec(name="far", kind="docker", url=place.url, tls=tls)
        with pytest.raises(PlaceUnavailable, match=f"place far: the Docker engine at tcp://.*{said}"):
            engine_of(known, None).facts()
