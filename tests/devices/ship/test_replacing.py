"""A bundle of another kind than the one that serves is shipped only where the user says what may change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import changed, fill, make_root, small_bundle, switch
from fake_device import FakeDevice

from edgebert.bundle.read import read_manifest
from edgebert.core.parallel_progress import SilentParallelProgress
from edgebert.devices.agent.protocol import Kind
from edgebert.devices.agent.status import kind_of, read_kind
from edgebert.devices.ship.delivery import Delivery, Order
from edgebert.devices.ship.payload import load_payload
from edgebert.devices.ship.replacing import CHANGES, check_replaces, read_changes
from edgebert.devices.ship.rollout import Rollout
from edgebert.errors import EXIT_INPUT, InputError

MADE, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
SERVING = Kind(bundle="mine", task="text-classification", inputs=("text",), labels=("no", "yes"), made=MADE)


def other(**fields: Any) -> Kind:
    return SERVING.model_copy(update=fields)


@pytest.mark.parametrize(
    ("new", "needed", "words"),
    [
        (SERVING, (), ""),
        (other(made=LATER), (), ""),
        (other(bundle="other", made=None), (), ""),
        (other(labels=("yes", "no")), (), ""),
        (other(inputs=("text", "text_pair")), ("inputs",), "a request has text and text_pair instead of text"),
        (other(labels=("no", "yes", "maybe")), ("labels",), "the labels are no, yes, maybe instead of no, yes"),
        (other(labels=("bad", "good")), ("labels",), "the labels are bad, good instead of no, yes"),
        (other(task="token-classification", labels=("O",)), ("task", "labels"), "the task is token-classification instead of"),
        (other(options={"prompt": "query", "vectors": "int8"}), ("options",), "the task has other options: prompt, vectors"),
        (other(made="2025-12-31T23:59:59Z"), ("older",), "it was made 2025-12-31T23:59:59Z, and the one that serves 2026"),
        (other(made=None), ("older",), "it was made by an older edgebert, and the one that serves 2026-01-01T00:00:00Z"),
        (other(labels=tuple(map(str, range(77)))), ("labels",), "the labels are 0, 1, 2, 3, 4 and 72 more instead of"),
    ],
)
def test_every_change_has_to_be_named(new: Kind, needed: Sequence[str], words: str) -> None:
    check_replaces(SERVING, new, needed, "kitchen")
    check_replaces(Kind(), new, (), "kitchen")  # nothing serves there
    for missing in needed:
        with pytest.raises(InputError) as refused:
            check_replaces(SERVING, new, set(CHANGES) - {missing}, "kitchen")
        assert refused.value.hint == f"If that is meant: --replace {missing}"
    if needed:
        with pytest.raises(InputError) as refused:
            check_replaces(SERVING, new, (), "kitchen")
        assert words in refused.value.message and "kitchen serves mine" in refused.value.message
        assert refused.value.hint == f"If that is meant: --replace {','.join(needed)}"


def test_changes_are_words_or_several_with_commas() -> None:
    assert read_changes(()) == frozenset()
    assert read_changes(("labels, older", "task")) == {"labels", "older", "task"}
    with pytest.raises(InputError, match="names no change"):
        read_changes(("labels older",))


@pytest.fixture(scope="module")
def small(model_template: Path) -> Path:
    return small_bundle(model_template)


def ship(device: FakeDevice, bundle: Path, *named: str) -> Delivery:
    order = Order(wait_s=0.0, replace=frozenset(named))
    payload = replace(load_payload(bundle), key=None)  # whom the device trusts is not the matter here
    rollout = Rollout([device], payload, order, SilentParallelProgress())
    asyncio.run(rollout.run())
    return rollout.results[0]


def test_a_bundle_of_another_kind_is_refused_before_a_byte_is_sent(small: Path) -> None:
    serves = kind_of(read_manifest(small)).model_copy(update={"inputs": ("text", "text_pair")})
    device = FakeDevice("kitchen", manifests=["0" * 64], kind=serves)
    refused = ship(device, small)
    assert (refused.outcome, refused.exit_code, refused.sent_bytes) == ("failed", EXIT_INPUT, 0)
    assert device.asked == ["hello", "status", "kind"] and refused.hint == "If that is meant: --replace inputs"
    assert ship(device, small, "inputs").outcome == "switched"


def test_an_older_bundle_does_not_take_the_place_of_a_newer_one_of_its_name(small: Path, tmp_path: Path) -> None:
    old = changed(small, tmp_path / "old", lambda manifest: manifest["lineage"][0].update(made=MADE))
    serves = kind_of(read_manifest(small))
    assert serves.made is not None and serves.made > MADE
    device = FakeDevice("kitchen", manifests=["0" * 64], kind=serves)
    assert ship(device, old).hint == "If that is meant: --replace older"
    assert ship(device, old, "older").outcome == "switched"


def test_an_agent_that_is_too_old_to_be_asked_takes_what_it_took_before(small: Path) -> None:
    device = FakeDevice("kitchen", manifests=["0" * 64], kind=None)
    assert ship(device, small).outcome == "switched"


def test_a_device_whose_answer_was_lost_is_not_asked_what_it_may_have_switched_to(small: Path) -> None:
    device = FakeDevice("kitchen", manifests=["0" * 64], kind=kind_of(read_manifest(small)), lose=["after install"])
    assert ship(device, small).outcome == "switched"
    assert device.asked.count("kind") == 1


def test_the_agent_says_what_kind_serves(small: Path, tmp_path: Path) -> None:
    root = make_root(tmp_path / "edgebert")
    assert read_kind(root) == Kind()
    slot = fill(root, "a", small)
    switch(root, "a")
    found = read_kind(root)
    assert found == kind_of(read_manifest(small))
    assert (found.task, found.inputs, found.labels) == ("text-classification", ("text",), ("negative", "positive"))
    (slot / "edgebert.json").write_text("{}")
    assert read_kind(root) == Kind()


@pytest.mark.parametrize(
    ("task", "given", "told"),
    [
        ("embedding", {"prompts": {"query": "q: "}, "judged_by": "retrieval"}, {"prompts": {"query": "q: "}}),
        ("multi-label-classification", {"thresholds": [0.2, 0.7]}, {}),  # a run tunes them
        ("zero-shot-classification", {"candidates": ["a", "b"], "entailment": 2}, {"candidates": ["a", "b"]}),
    ],
)
def test_a_kind_has_the_options_that_change_what_answers_are(
    small: Path, task: str, given: dict[str, Any], told: dict[str, Any]
) -> None:
    assert kind_of(read_manifest(small)).options == {}
    manifest = read_manifest(small).model_copy(update={"task": task, "task_options": given})
    assert kind_of(manifest).options == told


def test_a_time_that_is_none_counts_as_unknown(small: Path) -> None:
    manifest = read_manifest(small)
    for said in (None, "yesterday", 5, "9999-99-99"):
        assert manifest.model_copy(update={"lineage": ({"made": said},)}).made is None
    assert manifest.model_copy(update={"lineage": ()}).made is None
    assert manifest.model_copy(update={"lineage": ({"made": LATER},)}).made == LATER
