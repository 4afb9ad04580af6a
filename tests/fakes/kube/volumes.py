"""The volumes of a pod as folders of this host, filled as a kubelet does."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakes.kube.store import Document, Store


class Unmountable(Exception):
    """Raised when a volume lacks what it is made of; a kubelet tries again."""


class Volumes:
    """What one pod mounts.

    Parameters
    ----------
    store : `Store`
    pod : mapping
    folder : path
        Of the pod.
    claims : path
        Where persistent volumes lie, by namespace and claim.
    """

    def __init__(self, store: Store, pod: Document, folder: Path, claims: Path) -> None:
        self._store = store
        self._pod = pod
        self._folder = folder
        self._claims = claims
        self._namespace = str(pod["metadata"]["namespace"])

    def prepare(self) -> None:
        """Make every volume.

        Raises
        ------
        Unmountable
        """
        for volume in self._pod["spec"].get("volumes") or []:
            self._prepare(volume)

    def binds(self, container: Mapping[str, Any]) -> list[str]:
        """Return a container's mounts as the engine wants them."""
        return [self._bind(mount) for mount in container.get("volumeMounts") or []]

    def remove(self) -> None:
        """Let go of what was the pod's alone."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _bind(self, mount: Mapping[str, Any]) -> str:
        volume = next(one for one in self._pod["spec"]["volumes"] if one["name"] == mount["name"])
        path = self._path(volume)
        if below := mount.get("subPath"):
            path = path / below
            if not path.exists():
                path.mkdir(parents=True)
                path.chmod(0o777)
        reads = mount.get("readOnly") or not {"emptyDir", "hostPath", "persistentVolumeClaim", "ephemeral"} & set(volume)
        return f"{path}:{mount['mountPath']}:{'ro' if reads else 'rw'}"

    def _path(self, volume: Mapping[str, Any]) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            return self._claims / self._namespace / str(volume["persistentVolumeClaim"]["claimName"])
        return self._folder / str(volume["name"])

    def _prepare(self, volume: Mapping[str, Any]) -> None:
        path = self._path(volume)
        if "hostPath" in volume:
            if not path.exists():
                raise Unmountable(f'MountVolume.SetUp failed for volume "{volume["name"]}" : hostPath type check failed: no {path}')
            return
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        group = (self._pod["spec"].get("securityContext") or {}).get("fsGroup")
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(0o2777)
        for name, data in self._files(volume).items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            file.chmod(int(volume.get("secret", {}).get("defaultMode") or 0o644))

    def _files(self, volume: Mapping[str, Any]) -> dict[str, bytes]:
        if "configMap" in volume:
            return self._kept(volume, "configmaps", volume["configMap"]["name"], volume["configMap"])
        if "secret" in volume:
            return self._kept(volume, "secrets", volume["secret"]["secretName"], volume["secret"])
        if "downwardAPI" in volume:
            return {
                one["path"]: field_of(self._pod, one["fieldRef"]["fieldPath"]).encode() for one in volume["downwardAPI"].get("items") or []
            }
        if "projected" in volume:
            parts = [self._files({"name": volume["name"], **source}) for source in volume["projected"]["sources"]]
            return {name: data for part in parts for name, data in part.items()}
        return {}

    def _kept(self, volume: Mapping[str, Any], plural: str, name: str, source: Mapping[str, Any]) -> dict[str, bytes]:
        document = self._store.get(plural, self._namespace, name)
        if document is None:
            if source.get("optional"):
                return {}
            raise Unmountable(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {plural.removesuffix("s")} "{name}" not found')
        data = content(document)
        if source.get("items"):
            return {one["path"]: data[one["key"]] for one in source["items"]}
        return data


def content(document: Mapping[str, Any]) -> dict[str, bytes]:
    """Return what a ConfigMap or a Secret holds."""
    data = document.get("data") or {}
    if document["kind"] == "Secret":
        plain = {name: value.encode() for name, value in (document.get("stringData") or {}).items()}
        return {name: base64.b64decode(value) for name, value in data.items()} | plain
    coded = {name: base64.b64decode(value) for name, value in (document.get("binaryData") or {}).items()}
    return {name: value.encode() for name, value in data.items()} | coded


def field_of(pod: Document, path: str) -> str:
    """Return a field of a pod as the downward API gives it."""
    if path.endswith("']"):
        path, _, key = path.removesuffix("']").partition("['")
        return str((pod["metadata"].get(path.removeprefix("metadata.")) or {}).get(key, ""))
    found: Any = pod
    for part in path.split("."):
        found = (found or {}).get(part)
    if isinstance(found, dict):
        return "\n".join(f"{name}={json.dumps(value)}" for name, value in found.items())
    return str(found if found is not None else "")
