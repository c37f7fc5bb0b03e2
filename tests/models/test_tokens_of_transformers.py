"""The tokens are those that Transformers makes of the model's folder: on the workstation, in the bundle, on a device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from device_process import WITHOUT, WORKSTATION, run_python
from tokenizer_setups import RIGHT, SETUPS, Setups, sentences, written
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from edgebert.bundle.parts import BundleParts
from edgebert.bundle.write import _copy_model_files
from edgebert.core.packages import quiet_libraries
from edgebert.core.progress import Silent
from edgebert.core.store import Artifact, ArtifactStore, hash_file, hash_json
from edgebert.models.folder import ModelFolder
from edgebert.models.import_model import import_model, imported_contents
from edgebert.models.tokenizer_files import rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, count_tokens, read_tokenizer, special_tokens
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task
from edgebert.tasks.base import Row

MAX_LENGTH = 24
LEFT = ("left", "vocabulary_alone", "padded")
"""Set-ups that cut on the left; `padded` says so in its own tokenizer.json."""
Seen = list[tuple[list[int], list[int]]]
"""Ids and segments of each text."""
every_setup = pytest.mark.parametrize("name", SETUPS)
ON_DEVICE = """
import json, sys
from pathlib import Path
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task
rows, folders = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2:]
for folder in folders:
    serving = Serving(get_task("text-classification"), ("a", "b"), 24, 0, Path(folder) / "tokenizer.json")
    tokenizer = serving.open_tokenizer()
    print(json.dumps([[item.ids, item.type_ids] for item in serving.task.encode(tokenizer, rows, 24)]))
"""


@dataclass(frozen=True)
class Imported:
    """A set-up, its copy in a store, and the bundle's folder with its files."""

    model: ModelFolder
    artifact: Artifact
    bundle: Path

    def serving(self, folder: Path | None = None) -> Serving:
        """As the copy is served, or the files of a folder."""
        task = get_task("text-classification")
        return Serving(task, ("a", "b"), MAX_LENGTH, 0, (folder or self.artifact.path) / "tokenizer.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Imported]:
    """Every set-up, imported and written as a bundle's files."""
    folder = tmp_path_factory.mktemp("setups")
    setups, store = Setups(folder), ArtifactStore(folder / "store")
    store.prepare()
    (folder / "bundles").mkdir()
    return {name: bundled(make(setups), store, folder / "bundles" / name) for name, make in SETUPS.items()}


def bundled(model: ModelFolder, store: ArtifactStore, bundle: Path) -> Imported:
    """A model imported, and its files as they stand in a bundle."""
    made = Imported(model, import_model(model, store, Silent()), bundle)
    bundle.mkdir()
    _copy_model_files(cast(BundleParts, SimpleNamespace(model=made.artifact, serving=made.serving())), bundle)
    return made


def pairs() -> list[tuple[str, str]]:
    """Every fourth sentence with the one before it."""
    alone = sentences()
    return [(alone[at], alone[at - 1]) for at in range(0, len(alone), 4)]


def rows() -> list[Row]:
    """The sentences alone, and the pairs."""
    return [*({"text": text} for text in sentences()), *({"text": text, "text_pair": pair} for text, pair in pairs())]


def transformers_tokens(folder: Path, **options: Any) -> Seen:
    """What a model is given of `rows` in Transformers: ids, and segments where it is given some."""
    with quiet_libraries():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        found = [
            tokenizer(*texts, truncation=True, verbose=False, **options)
            for texts in ([sentences()], [list(column) for column in zip(*pairs(), strict=True)])
        ]
    segments = [item.get("token_type_ids") or [[0] * len(ids) for ids in item["input_ids"]] for item in found]
    return [pair for item, types in zip(found, segments, strict=True) for pair in zip(item["input_ids"], types, strict=True)]


def seen(serving: Serving, *, segments: bool, rows: Sequence[Row] = ()) -> Seen:
    """What edgebert gives a model."""
    encoded = serving.encode(serving.open_tokenizer(), rows)
    return [(list(item.ids), list(item.type_ids) if segments else [0] * len(item)) for item in encoded]


def test_there_are_200_sentences_and_the_setups_that_the_tests_speak_of() -> None:
    assert len(sentences()) >= 200 and len(SETUPS) >= 12


@every_setup
def test_tokens_are_those_of_transformers(name: str, made: dict[str, Imported]) -> None:
    found = made[name]
    segments = "token_type_ids" in found.model.family.inputs
    wanted = transformers_tokens(found.model.path, max_length=MAX_LENGTH)
    assert seen(found.serving(), segments=segments, rows=rows()) == wanted
    assert seen(found.serving(found.bundle), segments=segments, rows=rows()) == wanted
    assert transformers_tokens(found.bundle) == wanted  # a client that asks tokenizer_config.json for the longest text


@pytest.mark.slow
def test_a_device_without_transformers_makes_the_same_tokens(made: dict[str, Imported], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(rows()))
    folders = [found.bundle for found in made.values()]
    done = run_python(WITHOUT.format(absent=sorted(WORKSTATION)) + ON_DEVICE, tmp_path / "rows.json", *folders)
    assert done.returncode == 0, done.stderr
    for (name, found), line in zip(made.items(), done.stdout.splitlines(), strict=True):
        served = seen(found.serving(), segments=True, rows=rows())
        assert [tuple(item) for item in json.loads(line)] == served, name


@every_setup
def test_a_right_tokenizer_and_the_keys_of_its_model_stay_as_they_are(name: str, made: dict[str, Imported]) -> None:
    found = made[name]
    source, copy = found.model.path / "tokenizer.json", found.artifact.path / "tokenizer.json"
    former_key = hash_json({"model": found.model.contents(), "version": 1})
    assert (found.artifact.key == former_key) == (name in RIGHT)
    contents = imported_contents(found.model, found.artifact)
    assert (contents == found.model.contents()) == (name in RIGHT and name != "padded")
    assert (contents.get("truncation_side") == "left") == (name in LEFT)  # results of before 0.2 were cut on the right
    if name in RIGHT:
        assert hash_file(copy) == hash_file(source)


@every_setup
def test_a_bundle_says_what_is_served(name: str, made: dict[str, Imported]) -> None:
    folder = made[name].bundle
    main, config = (json.loads((folder / file).read_text()) for file in ("tokenizer.json", "tokenizer_config.json"))
    side = "left" if name in LEFT else "right"
    assert (config["model_max_length"], config["truncation_side"], config["padding_side"]) == (MAX_LENGTH, side, "right")
    assert main["padding"] is None
    assert (
        [main["truncation"]["direction"], main["truncation"]["max_length"]] == ["Left", MAX_LENGTH] if side == "left" else True
    )
    assert config["tokenizer_class"]
    assert len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a")) < 5  # by a client of the library alone


@every_setup
def test_a_cut_vocabulary_keeps_how_texts_are_read(name: str, made: dict[str, Imported], tmp_path: Path) -> None:
    found = made[name]
    folder, serving = found.artifact.path, found.serving()
    before = serving.encode(serving.open_tokenizer(), rows())
    uncut = serving.task.encode(serving.open_tokenizer(), rows(), 10_000)  # where a pair is cut depends on all of its tokens
    counts = count_tokens(item.ids for item in uncut)
    kept = choose_vocabulary(read_tokenizer(folder), counts, 1, special=special_tokens(folder))
    rewrite_tokenizer(folder, tmp_path / "cut", kept)
    after = seen(found.serving(tmp_path / "cut"), segments=True, rows=rows())
    assert [([kept[token] for token in ids], types) for ids, types in after] == [
        (list(item.ids), list(item.type_ids)) for item in before
    ]
    written(tmp_path / "cut", family=found.model.family.model_type, size=len(kept))
    segments = "token_type_ids" in found.model.family.inputs
    assert transformers_tokens(tmp_path / "cut", max_length=MAX_LENGTH) == [
        (ids, types if segments else [0] * len(ids)) for ids, types in after
    ]
