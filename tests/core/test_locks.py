"""Locks of the kernel: held by one, shared by many, and named where a file system has none."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from edgebert.compress.run_folder import output_folder
from edgebert.core.locks import HeldElsewhere, is_held, locked
from edgebert.core.store import ArtifactStore
from edgebert.errors import StoreError


def test_a_lock_is_held_by_one_and_shared_by_those_who_share_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not is_held(file)
    with locked(file):
        assert is_held(file)
        with pytest.raises(HeldElsewhere), locked(file, shared=True, wait=False):
            pytest.fail("two hold it")
    with locked(file, shared=True), locked(file, shared=True, wait=False):
        assert not is_held(file)  # several who ask at once are no holder
        with pytest.raises(HeldElsewhere), locked(file, wait=False):
            pytest.fail("one holds it alone beside those who share it")
    assert not is_held(file)


def test_asking_whether_a_lock_is_held_makes_no_file_and_needs_no_folder(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock") and not is_held(tmp_path / "gone" / "lock")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_lock_of_another_user_is_taken_for_reading(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def as_other_user(path: Path, flags: int, *mode: int) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(number, os.strerror(number), str(path))
        return really(path, flags, *mode)

    file = tmp_path / "lock"
    with locked(file):
        pass
    monkeypatch.setattr(os, "open", as_other_user)
    with locked(file):
        assert is_held(file)
    with pytest.raises(OSError, match=os.strerror(number)), locked(tmp_path / "none"):
        pytest.fail("nobody can hold what is not there")
    file.unlink()


def test_a_lock_that_may_not_be_read_counts_as_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert is_held(tmp_path / "lock")


def test_a_lock_whose_file_is_removed_by_its_holder_still_excludes_those_who_waited(tmp_path: Path) -> None:
    file, inside, most = tmp_path / "lock", [], []

    def work() -> None:
        for _ in range(50):
            with locked(file, passing=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200 and max(most) == 1
    assert not file.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_before_any_work(
    number: int, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match=r"cannot be locked.*\n.*name a folder elsewhere"), store.lease(tmp_path / "out"):
        pytest.fail("work began")
    with pytest.raises(StoreError, match="cannot be locked"), output_folder(tmp_path / "out"):
        pytest.fail("work began")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "store"]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_share_that_does_not_answer_is_named_and_nothing_is_made_again(
    number: int, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_store import KEY, put

    put(store)

    def lost(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    again = ArtifactStore(store.root)
    monkeypatch.setattr("edgebert.core.artifact.hash_file", lost)
    with pytest.raises(StoreError, match="Is the disk, or the network share, still there"):
        again.get(KEY)
    with pytest.raises(StoreError, match="cannot be used"):
        put(again, make=lambda draft: pytest.fail("made again"))
