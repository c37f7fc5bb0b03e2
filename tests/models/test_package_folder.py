"""`package://` finds a folder and runs nothing of the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgebert.errors import EnvironmentFault, SourceError
from edgebert.models.package_folder import folder_in_package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one inside it; both stop everything when they are imported."""
    inner = tmp_path / "loud_models" / "small"
    (inner / "weights").mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (inner.parent / "module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return inner.parent


@pytest.mark.parametrize("address", ["package://loud_models/small/weights", "package://loud_models.small/weights"])
def test_no_module_is_imported_to_find_its_folder(address: str, package: Path) -> None:
    assert folder_in_package(address) == package / "small" / "weights"
    assert not [name for name in sys.modules if name.startswith("loud_models")]


@pytest.mark.parametrize(
    "module", ["loud_models.module", "loud_models.module.inner", "loud_models.none", "sys", "json.decoder"]
)
def test_what_is_no_package_has_no_folder(module: str, package: Path) -> None:
    with pytest.raises(EnvironmentFault, match=f"needs the Python package {module}, which is not installed"):
        folder_in_package(f"package://{module}/weights")


@pytest.mark.parametrize("inner", ["../x", "small/../../x", "/etc", "small/\0"])
def test_a_path_that_leaves_the_package_is_refused(inner: str, package: Path) -> None:
    with pytest.raises(SourceError, match="leaves the package"):
        folder_in_package(f"package://loud_models/{inner}")
