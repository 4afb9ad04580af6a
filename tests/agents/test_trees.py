"""Trees of a program that we do not trust: nothing leads out of them."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from airflow_dla.agents import trees
from airflow_dla.agents.protocol import JobError


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a folder with a file that must not be read."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").write_text("root:secret")
    return tmp_path / "etc"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree with files at two levels."""
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_text("1")
    (tmp_path / "tree" / "sub" / "b").write_text("22")
    return tmp_path / "tree"


def test_listing(tree: Path, secret: Path):
    """Files and links are listed as what they are; what a linked folder holds is not, nor is there anything behind a linked top."""
    (tree / "out").symlink_to(secret)
    (tree / "gone").symlink_to("nothing")
    found = trees.listing(tree)
    assert set(found) == {"a", "sub/b", "out", "gone"}
    assert found["sub/b"][0] == 2
    (tree.parent / "top").symlink_to(secret)
    assert trees.listing(tree.parent / "top") == trees.listing(tree / "absent") == {}
    assert trees.names(tree.parent / "top") == []


@pytest.mark.parametrize("link", [False, True])
def test_copy(tree: Path, secret: Path, tmp_path: Path, link: bool):
    """Files are copied, links out of the tree stay links, links to folders inside become folders."""
    (tree / "shadow").symlink_to(secret / "shadow")
    (tree / "etc").symlink_to(secret)
    (tree / "last").symlink_to("sub")
    (tree / "sub" / "up").symlink_to("..")
    copied = tmp_path / "copied"
    trees.copy(tree, (), copied, link=link)
    assert (copied / "sub" / "b").read_text() == (copied / "last" / "b").read_text() == "22"
    assert not (copied / "last").is_symlink()
    assert all((copied / name).is_symlink() for name in ("shadow", "etc", "sub/up"))
    assert (copied / "a").samefile(tree / "a") is link


def test_copy_through_a_folder_that_became_a_link(tree: Path, secret: Path, tmp_path: Path):
    """No component on the way down may be a link."""
    (tree / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(OSError, match="checkpoints"):
        trees.copy(tree, ("checkpoints", "etc"), tmp_path / "copied")
    (tree / "sub" / "etc").symlink_to(secret)
    with pytest.raises(OSError, match="etc"):
        trees.copy(tree, ("sub", "etc"), tmp_path / "copied2")


def test_copy_while_links_are_put_in(tree: Path, secret: Path, tmp_path: Path):
    """However quickly a folder becomes a link and a file a link, nothing of what they point at is copied."""
    (tree / "sub" / "shadow").write_text("mine")
    (tree / "link").symlink_to(secret)
    (tree / "shadow").symlink_to(secret / "shadow")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for first, second in (("sub", "link"), ("a", "shadow")):
                (tree / first).rename(tree / "aside")
                (tree / second).rename(tree / first)
                (tree / "aside").rename(tree / second)

    program = threading.Thread(target=swap)
    program.start()
    whole = 0
    for turn in range(100):
        copied = tmp_path / f"copied{turn}"
        with contextlib.suppress(OSError):
            trees.copy(tree, (), copied, link=turn % 2 == 0)
            whole += 1
        files = [path for path in copied.rglob("*") if path.is_file() and not path.is_symlink()]
        assert "root:secret" not in {path.read_text() for path in files}
        trees.listing(tree)
        trees.remove(copied)
    over.set()
    program.join()
    assert whole > 0


def test_copy_refuses_what_is_no_file(tree: Path, tmp_path: Path):
    """A pipe is refused by name, and nobody waits at it."""
    os.mkfifo(tree / "pipe")
    with pytest.raises(JobError, match="pipe is no regular file"):
        trees.copy(tree, (), tmp_path / "copied", link=True)


def test_depth(tmp_path: Path):
    """A tree deeper than any program needs is refused, not walked until we fall."""
    deep = tmp_path / "deep"
    (deep / "/".join(["d"] * 120)).mkdir(parents=True)
    with pytest.raises(OSError, match="100 deep"):
        list(trees.entries(deep))
    assert trees.listing(deep) == {}


def test_relink(tree: Path, secret: Path):
    """A link by the path of the container is made relative; all others stay."""
    (tree / "sub" / "a").symlink_to("/dla/out/m/a")
    (tree / "shadow").symlink_to(secret / "shadow")
    trees.relink(tree, "/dla/out/m")
    assert (tree / "sub" / "a").read_text() == "1"
    assert (tree / "shadow").readlink() == secret / "shadow"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_give(tree: Path, secret: Path):
    """Everything below gets its owner, nothing behind a link does."""
    (tree / "etc").symlink_to(secret)
    (tree / "shadow").symlink_to(secret / "shadow")
    trees.give(tree, (4321, 4322))
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in [tree, *tree.rglob("*")]} == {(4321, 4322)}
    assert secret.stat().st_uid == (secret / "shadow").stat().st_uid == 0


def test_remove(tree: Path, secret: Path):
    """Of a link only the link is removed, at the top as below."""
    (tree / "etc").symlink_to(secret)
    (tree.parent / "top").symlink_to(secret)
    trees.remove(tree)
    trees.remove(tree.parent / "top")
    assert not tree.exists()
    assert (secret / "shadow").exists()
