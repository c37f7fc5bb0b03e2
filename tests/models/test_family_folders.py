"""Folders of every family: tokenizers made from older files, and contents that cannot work, refused with one clear message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from tiny_families import TEXTS, able, tiny_folder
from tokenizers import Tokenizer

from edgebert.bundle.write import plain_config
from edgebert.errors import SourceError
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.folder import inspect_model
from edgebert.models.import_model import check_tokenizer, write_fast_tokenizer
from edgebert.models.load import copy_tokenizer, load_model, save_model
from edgebert.models.surgery import Units, prune
from edgebert.models.tensors import encoder_shapes, head_shapes, plain_tensors, unread
from edgebert.models.weight_files import read_tensors
from edgebert.tasks import get_task

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
SENTENCE = "ForSequenceClassification"


def edit_config(folder: Path, **changes: object) -> None:
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


@every_family
def test_tokenizer_json_is_made_from_the_older_files(family: Family, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    (folder / "tokenizer.json").unlink()
    if not family.vocabulary_files:
        with pytest.raises(SourceError, match=r"has no tokenizer \(tokenizer\.json\)"):
            inspect_model(folder)
        return
    if not all((folder / name).is_file() for name in family.vocabulary_files):
        (folder / family.vocabulary_files[0]).write_bytes(b"not a model of sentencepiece")
        with pytest.raises(SourceError, match=r"tokenizer\.json"):
            write_fast_tokenizer(folder, inspect_model(folder))
        return
    model = inspect_model(folder)
    write_fast_tokenizer(folder, model)
    check_tokenizer(folder / "tokenizer.json", model)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        assert made.encode(text).ids == whole.encode(text).ids
        assert made.encode(text, "and a pair").ids == whole.encode(text, "and a pair").ids


@pytest.mark.parametrize("family", able("units"), ids=lambda family: family.model_type)
def test_a_pruned_folder_is_inspected_and_reads_as_a_plain_one_in_a_bundle(family: Family, tmp_path: Path) -> None:
    source = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    pruned = prune(load_model(source, get_task("text-classification")), {1: Units((0, 2), (1, 5))})
    save_model(pruned, tmp_path / "pruned")
    copy_tokenizer(source, tmp_path / "pruned")
    folder = inspect_model(tmp_path / "pruned")
    assert folder.family is family and folder.has_head(get_task("text-classification"))
    plain = plain_config(dict(folder.config))
    assert plain["model_type"] == family.model_type
    assert plain["architectures"] == [f"{family.class_name}ForSequenceClassification"]
    assert plain[family.names.num_attention_heads] == 4 and plain[family.names.intermediate_size] == 64
    edit_config(tmp_path / "pruned", layer_heads=[1, 2])
    with pytest.raises(SourceError, match=r"layer_heads is \[1, 2\], not a list of 1 whole numbers"):
        inspect_model(tmp_path / "pruned")


@every_family
def test_a_part_of_a_tokenizer_is_not_one(family: Family, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    for name in family.vocabulary_files[1:]:
        (folder / name).unlink()
    if len(family.vocabulary_files) > 1:
        with pytest.raises(SourceError, match=f"only a part of its tokenizer: {family.vocabulary_files[1]} is missing"):
            inspect_model(folder)
    for name in family.vocabulary_files[:1]:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(SourceError, match="has no tokenizer"):
        inspect_model(folder)


@every_family
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: edit_config(folder, is_decoder=True), "is_decoder is true"),
        (lambda folder: edit_config(folder, position_embedding_type="relative_key"), "position_embedding_type"),
        (lambda folder: edit_config(folder, max_position_embeddings=2), "max_position_embeddings is 2; a text needs"),
        (lambda folder: edit_config(folder, model_type="gpt2"), "of type 'gpt2'.*" + ", ".join(f.model_type for f in FAMILIES)),
    ],
)
def test_what_cannot_work_is_refused(family: Family, edit: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    edit(folder)
    with pytest.raises(SourceError, match=message):
        inspect_model(folder)


@every_family
def test_positions_that_count_from_the_padding_token_need_it(family: Family, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    edit_config(folder, pad_token_id=...)
    if not family.skips_padding:
        assert inspect_model(folder).max_positions == 64
        return
    with pytest.raises(SourceError, match="has no pad_token_id, from which"):
        inspect_model(folder)


@every_family
def test_segment_ids_of_a_family_without_them_are_not_dropped_silently(family: Family, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    rows = inspect_model(folder).config.get("type_vocab_size", 2)
    start = f"{family.prefix}.embeddings."
    table = weights.get(f"{start}token_type_embeddings.weight", weights[f"{start}{family.embedding.word}.weight"][:rows].copy())
    save_file({**weights, f"{start}token_type_embeddings.weight": table}, folder / "model.safetensors")
    if family.embedding.segment and rows:
        assert inspect_model(folder).family is family
        return
    with pytest.raises(SourceError, match=r"has no segment ids|has no place for"):
        inspect_model(folder)


@pytest.mark.parametrize(
    ("family", "key"),
    [(family, key) for family in FAMILIES for key in family.fixed],
    ids=lambda item: getattr(item, "title", item),
)
def test_a_variant_that_is_not_compressed_is_refused_by_its_key(family: Family, key: str, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    if key != "pad_token_id":  # which a family that counts positions from it has to name
        edit_config(folder, **{key: ...})
        assert inspect_model(folder).family is family
    edit_config(folder, **{key: 5})
    with pytest.raises(SourceError, match=f"{key} is 5; edgebert compresses models of {family.title} in which it is "):
        inspect_model(folder)


@every_family
def test_every_tensor_of_the_encoder_is_compared_with_the_config(family: Family, tmp_path: Path) -> None:
    folder = tiny_folder(family.model_type, SENTENCE, tmp_path / "model")
    weights, config = load_file(folder / "model.safetensors"), inspect_model(folder).config
    wanted = dict(encoder_shapes(family, config)) | head_shapes(family, config)
    read = read_tensors(folder)
    names = {plain: name for name in weights for plain, _ in plain_tensors(name, read[name], family)}
    assert {name for name in names if not unread(name, family) or name in wanted} == set(wanted)
    for name in list(dict(encoder_shapes(family, config)))[-3:]:
        without = {key: value for key, value in weights.items() if key != names[name]}
        save_file(without, folder / "model.safetensors")
        with pytest.raises(SourceError, match="is missing"):
            inspect_model(folder)
        save_file({**without, names[name]: weights[names[name]][:-1].copy()}, folder / "model.safetensors")
        with pytest.raises(SourceError, match="has the shape"):
            inspect_model(folder)
    for size in family.defaults:
        save_file(weights, folder / "model.safetensors")
        edit_config(folder, **{family.name_of(size): "4"})
        with pytest.raises(SourceError, match="not a whole number"):
            inspect_model(folder)
        edit_config(folder, **{family.name_of(size): config[family.name_of(size)]})


def test_a_type_of_pruned_models_that_a_family_has_not_is_refused(tmp_path: Path) -> None:
    for family in FAMILIES:
        if "units" in family.lacks:
            folder = tiny_folder(family.model_type, SENTENCE, tmp_path / family.model_type)
            edit_config(folder, model_type=family.pruned_type)
            with pytest.raises(SourceError, match=f"no {family.title} can be pruned, because {family.lacks['units']}"):
                inspect_model(folder)
