"""`edgebert verify`: who signed a bundle, whether its files are unaltered, and whether its variants answer as they did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from edgebert.cli.common import BundleArgument, JsonOption, print_result, visible
from edgebert.errors import EXIT_GATE_FAILED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgebert.bundle.self_test import SelfTest
    from edgebert.bundle.trust.policy import Signer


def verify(bundle: BundleArgument, json_output: JsonOption = False) -> None:
    """Checks who signed a bundle, rehashes it and replays its goldens. Exits 1 when a variant answers differently."""
    from edgebert.bundle.predictor import choose_variant
    from edgebert.bundle.read import open_bundle_folder
    from edgebert.bundle.self_test import replay_all
    from edgebert.runtimes import get_runtime

    with open_bundle_folder(bundle) as opened:
        opened.check_contents()
        manifest, signer, tests = opened.manifest, opened.signer, replay_all(opened)
    files = f"{len(manifest.files)} files as the manifest says"
    print_result(json_output, lambda: _as_json(signer, tests), lambda: [files, _signer_line(signer), *map(_test_line, tests)])
    if any(test.state == "differs" for test in tests):
        raise typer.Exit(EXIT_GATE_FAILED)
    for test in tests:
        if test.state == "untested" and test.variant.name == manifest.selected:
            get_runtime(test.variant.target.runtime).require()  # what the bundle is for could not be tested
    choose_variant(manifest)  # raises where nothing can run here


def _signer_line(signer: Signer) -> str:
    if signer.identity == "unsigned":
        return "not signed: trust.toml here lets such bundles load"
    return visible(f"signed by {signer.identity} ({signer.name})")


def _test_line(test: SelfTest) -> str:
    return f"{test.state:8} {test.variant.name}: {test.result}"


def _as_json(signer: Signer, tests: Sequence[SelfTest]) -> dict[str, Any]:
    from edgebert.core.packages import package_version

    variants = [
        {
            "variant": test.variant.name,
            "difference": test.difference,
            "probabilities": test.compared and test.compared.shares,
            "labels_changed": test.compared and test.compared.turned,
            "state": test.state,
            "obstacle": test.obstacle,
            "made_with": test.variant.requires,
            "here": {package: package_version(package) for package in test.variant.requires},
        }
        for test in tests
    ]
    return {"signer": {"name": signer.name, "identity": signer.identity}, "variants": variants}
