"""SignedGraph: what another process needs to open a bundle's graph by its signed hashes, and not by whatever lies at a path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from edgebert.core.artifact import FileEntry
from edgebert.core.strict import Frozen


class SignedGraph(Frozen):
    """A graph of a bundle whose signature was checked. A part of jobs, so that a process hashes what it opens."""

    folder: str
    """The bundle's."""
    graph: str
    files: dict[str, FileEntry]
    """The graph and the files that it loads, by their names in the bundle, as the signed manifest lists them."""

    @contextmanager
    def held(self) -> Iterator[dict[str, Path]]:
        """Copies of the files, as `Runtime.open` takes them.

        Raises:
            BundleError: a file was altered.
            EnvironmentFault: there is no memory for a copy.
        """
        from edgebert.bundle.folder import BundleFolder
        from edgebert.bundle.held import HeldFiles

        beside = PurePosixPath(self.graph).parent
        with BundleFolder(Path(self.folder)) as folder, HeldFiles() as held:
            names = {name: str(PurePosixPath(name).relative_to(beside)) for name in self.files}
            yield {short: held.hold(folder, name, self.files[name]) for name, short in names.items()}


@contextmanager
def held_files(signed: SignedGraph | None) -> Iterator[Mapping[str, Path] | None]:
    """The copies of a signed graph; None for a model that nobody signed, which is opened where it lies."""
    if signed is None:
        yield None
        return
    with signed.held() as held:
        yield held
