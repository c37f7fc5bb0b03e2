"""OpenBundle: a bundle whose signature was checked, and the checked contents that runtimes and tokenizers are given of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from edgebert.bundle.files import check_contents
from edgebert.bundle.folder import BundleFolder, Identity
from edgebert.bundle.graph_files import files_beside
from edgebert.bundle.held import HeldFiles, mapped
from edgebert.bundle.manifest import BundleManifest
from edgebert.bundle.signed_graph import SignedGraph
from edgebert.bundle.trust.policy import Signer
from edgebert.errors import BundleError
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"


class OpenBundle:
    """Made by `open_bundle_folder`. A context manager: its copies are dropped at the end, what was opened from them stays."""

    def __init__(self, folder: BundleFolder, manifest: BundleManifest, sha256: str, signer: Signer) -> None:
        self.manifest = manifest
        self.sha256 = sha256
        """sha256 of the manifest's file, which names the bundle."""
        self.signer = signer
        self._folder, self._held = folder, HeldFiles()

    def __enter__(self) -> Self:
        """The bundle itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Drops the copies."""
        self._held.__exit__(*error)

    @property
    def folder(self) -> Path:
        """Path of its folder, for messages: another folder may lie there by now."""
        return self._folder.path

    @property
    def identity(self) -> Identity:
        """Device and inode of its folder."""
        return self._folder.identity

    @property
    def serving(self) -> Serving:
        """How text becomes input of its models."""
        return serving_of(self.folder, self.manifest)

    def open_tokenizer(self) -> Tokenizer:
        """Reads tokenizer.json.

        Raises:
            BundleError: it was altered, or is not a tokenizer.
        """
        return self.serving.open_tokenizer(self.held(TOKENIZER))

    @contextmanager
    def copies_of_its_own(self) -> Iterator[None]:
        """Drops the copies that are made within at its end, so that the graphs of a bundle are not held all at once."""
        former = self._held
        with HeldFiles() as self._held:
            try:
                yield
            finally:
                self._held = former

    def held(self, name: str) -> Path:
        """A path that opens the checked content of a listed file, whatever lies in the folder by then.

        Raises:
            BundleError: the file was altered.
            EnvironmentFault: there is no memory for a copy.
        """
        return self._held.hold(self._folder, name, self.manifest.files[name])

    def held_graph(self, name: str) -> dict[str, Path]:
        """A graph and the files that it loads: names relative to the graph's folder -> paths as of `held`.

        Raises:
            BundleError: one of them was altered, or the graph loads a file that the manifest does not list.
            EnvironmentFault: there is no memory for a copy.
        """
        with mapped(os.open(self.held(name), os.O_RDONLY | getattr(os, "O_BINARY", 0))) as data:
            beside = files_beside(self.folder, name, data, self.manifest.files)
        parent = PurePosixPath(name).parent
        return {str(PurePosixPath(file).relative_to(parent)): self.held(file) for file in (name, *sorted(beside))}

    def signed_graph(self, name: str) -> SignedGraph:
        """A graph for another process, which hashes it anew. Keeps no copies.

        Raises:
            BundleError: as `held_graph`.
            EnvironmentFault: there is no memory for a copy.
        """
        parent = PurePosixPath(name).parent
        with self.copies_of_its_own():
            names = [str(parent / short) for short in self.held_graph(name)]
        return SignedGraph(folder=str(self.folder), graph=name, files={file: self.manifest.files[file] for file in names})

    def check_contents(self) -> None:
        """Hashes every file, and looks at what every graph would load.

        Raises:
            BundleError: a file was altered, or a graph loads a file that the manifest does not list.
        """
        check_contents(self._folder, self.manifest.files)
        check_graphs(self._folder, self.manifest)


def check_graphs(folder: BundleFolder, manifest: BundleManifest) -> None:
    """Refuses graphs that load files which the manifest does not list.

    Raises:
        BundleError: with the first such graph, or one that cannot be read.
    """
    for name in sorted({variant.file for variant in manifest.variants}):
        try:
            with mapped(folder.open(name)) as data:
                files_beside(folder.path, name, data, manifest.files)
        except OSError as error:  # a file system that cannot map files
            raise BundleError(f"{folder.path / name} cannot be read: {error.strerror}.") from error


def serving_of(folder: Path, manifest: BundleManifest) -> Serving:
    """How text becomes input of a bundle's models."""
    return Serving(
        task=get_task(manifest.task, manifest.task_options),
        labels=manifest.labels,
        max_length=manifest.max_length,
        pad_id=manifest.pad_id,
        tokenizer=folder / TOKENIZER,
        truncation_side=manifest.truncation_side,
    )
