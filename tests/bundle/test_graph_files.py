"""Graphs that load other files: wherever ONNX lets one be named, it has to be one that the bundle lists."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import listed_again
from onnx import TensorProto, helper

import edgebert
from edgebert.bundle.graph_files import DEPTH_LIMIT, files_beside
from edgebert.bundle.read import read_bundle
from edgebert.bundle.trust.envelope import SIGNATURE
from edgebert.bundle.trust.sign import sign_bundle
from edgebert.errors import BundleError

Maker = Callable[[TensorProto], onnx.ModelProto]


def elsewhere(location: str, name: str = "w") -> TensorProto:
    """A tensor whose values are in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(nodes: list[onnx.NodeProto], tensors: list[TensorProto] | None = None) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    return helper.make_graph(nodes, "g", [], [output], initializer=tensors or [])


def model(nodes: list[onnx.NodeProto], tensors: list[TensorProto] | None = None) -> onnx.ModelProto:
    return helper.make_model(graph(nodes, tensors))


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], value=tensor)


def inside_a_branch(tensor: TensorProto) -> onnx.ModelProto:
    branch = graph([helper.make_node("Identity", ["w"], ["y"])], [tensor])
    return model([helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=graph([]))])


def in_a_sparse_initializer(tensor: TensorProto) -> onnx.ModelProto:
    made = model([])
    made.graph.sparse_initializer.add(values=tensor)
    return made


def in_sparse_indices(tensor: TensorProto) -> onnx.ModelProto:
    made = model([])
    made.graph.sparse_initializer.add(indices=tensor)
    return made


def in_a_sparse_constant(tensor: TensorProto) -> onnx.ModelProto:
    sparse = onnx.SparseTensorProto(values=tensor)
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
    return model([node])


def in_a_list_of_tensors(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Custom", [], ["y"])
    node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS, tensors=[tensor])
    return model([node])


def in_a_list_of_graphs(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Custom", [], ["y"])
    node.attribute.add(name="bodies", type=onnx.AttributeProto.GRAPHS, graphs=[graph([constant(tensor)])])
    return model([node])


def in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    made = model([])
    made.functions.add(name="f", domain="d").node.append(constant(tensor))
    return made


def in_the_default_of_a_function(tensor: TensorProto) -> onnx.ModelProto:
    made = model([])
    made.functions.add(name="f", domain="d").attribute_proto.add(name="a", type=onnx.AttributeProto.TENSOR, t=tensor)
    return made


def in_training(tensor: TensorProto) -> onnx.ModelProto:
    made = model([])
    made.training_info.add(algorithm=graph([], [tensor]))
    return made


def at_the_start_of_training(tensor: TensorProto) -> onnx.ModelProto:
    made = model([])
    made.training_info.add(initialization=graph([constant(tensor)]))
    return made


MAKERS: dict[str, Maker] = {
    "an initializer": lambda tensor: model([], [tensor]),
    "a constant": lambda tensor: model([constant(tensor)]),
    "a branch": inside_a_branch,
    "a sparse initializer": in_a_sparse_initializer,
    "the indices of a sparse initializer": in_sparse_indices,
    "a sparse constant": in_a_sparse_constant,
    "a list of tensors": in_a_list_of_tensors,
    "a list of graphs": in_a_list_of_graphs,
    "a function": in_a_function,
    "the default of a function": in_the_default_of_a_function,
    "training": in_training,
    "the start of training": at_the_start_of_training,
}


def check(folder: Path, data: bytes, listed: tuple[str, ...] = ("onnx/m.onnx", "onnx/w.bin", "w.bin")) -> None:
    files_beside(folder, "onnx/m.onnx", data, listed)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_external_tensor_is_found_wherever_it_can_be(tmp_path: Path, make: Maker) -> None:
    check(tmp_path, make(elsewhere("w.bin")).SerializeToString())
    with pytest.raises(BundleError, match=r"m\.onnx loads \.\./w\.bin, which is no file that the manifest lists"):
        check(tmp_path, make(elsewhere("../w.bin")).SerializeToString())


@pytest.mark.parametrize(
    "location",
    [
        "/etc/hostname",
        "../w.bin",
        "./w.bin",
        "x/../w.bin",
        "other.bin",
        "..\\w.bin",
        "C:w.bin",
        "*/_ORT_MEM_ADDR_/*",
        "",
        "w.bin\0",
    ],
)
def test_location_is_refused_when_it_is_not_the_plain_name_of_a_listed_file(tmp_path: Path, location: str) -> None:
    with pytest.raises(BundleError, match="which is no file that the manifest lists"):
        check(tmp_path, model([], [elsewhere(location)]).SerializeToString())


def test_location_is_found_beside_large_weights_and_in_a_large_constant(tmp_path: Path) -> None:
    large = helper.make_tensor("large", TensorProto.FLOAT, [100_000], np.zeros(100_000, np.float32).tobytes(), raw=True)
    check(tmp_path, model([constant(large)], [large]).SerializeToString())
    for made in (
        model([constant(large)], [large, elsewhere("x")]),
        model([constant(large), constant(elsewhere("x"))], [large]),
    ):
        with pytest.raises(BundleError, match="loads x"):
            check(tmp_path, made.SerializeToString())
    large.external_data.add(key="location", value="x")
    with pytest.raises(BundleError, match="loads x"):
        check(tmp_path, model([constant(large)]).SerializeToString())


def test_every_key_value_counts_when_a_tensor_has_two_locations(tmp_path: Path) -> None:
    tensor = elsewhere("w.bin")
    tensor.external_data.add(key="location", value="/etc/hostname")
    with pytest.raises(BundleError, match="loads /etc/hostname"):
        check(tmp_path, model([], [tensor]).SerializeToString())


def test_the_word_location_elsewhere_is_no_external_data(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["location"], ["y"], name="location", doc_string="location")
    made = helper.make_model(graph([node]), producer_name="location")
    made.metadata_props.add(key="location", value="/etc/hostname")
    check(tmp_path, made.SerializeToString())


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs, as deep as asked."""
    inner = elsewhere("w.bin").SerializeToString()
    message = field(5, inner)
    for _ in range(depth):
        message = field(1, field(5, field(6, message)))
    return field(7, message)


BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "a part longer than the file": (b"\x3a\x7fabc", "a part is longer than what it is in"),
    "a part longer than what it is in": (field(7, b"\x2a\x7flocation"), "a part is longer than what it is in"),
    "a number that does not end": (b"\x3a" + b"\xff" * 12, "a number does not end"),
    "a number that the file cuts": (b"\x3a\xff", "it ends too soon"),
    "a group": (b"\x3b\x3c", "it holds bytes that are no field"),
    "text": (b"#!/bin/sh\n", "is not a whole ONNX file"),
    "graphs in graphs": (nested(DEPTH_LIMIT), "its parts are nested too deeply"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_file_that_is_no_graph_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        check(tmp_path, data)


def test_graphs_in_graphs_are_walked_as_deep_as_protobuf_goes(tmp_path: Path) -> None:
    check(tmp_path, nested(30))
    with pytest.raises(BundleError, match=r"loads w\.bin"):
        check(tmp_path, nested(30), listed=("onnx/m.onnx",))


XML: dict[str, tuple[bytes, str]] = {
    "entities": (b'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/hostname">]><net/>', "declares entities"),
    "UTF-16": ('<?xml version="1.0"?><net/>'.encode("utf-16"), "is not XML in UTF-8"),
    "no XML": (b"PK\x03\x04", "is not XML"),
}


@pytest.mark.parametrize(("data", "reason"), XML.values(), ids=XML)
def test_openvino_graph_is_refused_when_it_is_no_plain_xml(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        files_beside(tmp_path, "m.xml", data, ("m.xml", "m.bin"))


def moved_out(bundle: Path, location: str) -> None:
    """Weights of the FP32 graph go into another file; everything is listed and signed again."""
    path = bundle / "onnx/model.onnx"
    made = onnx.load(path)
    onnx.external_data_helper.convert_model_to_external_data(made, location="weights.data", size_threshold=1024)
    onnx.save_model(made, path)
    for tensor in made.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(made.SerializeToString())
    listed_again(bundle, "onnx/model.onnx", "onnx/weights.data")
    sign_bundle(bundle)


def test_bundle_loads_when_its_graph_keeps_weights_in_a_file_of_the_bundle(bundle: Path) -> None:
    before = edgebert.load(bundle, variant="onnxruntime/fp32")("a good film")
    moved_out(bundle, "weights.data")
    assert (bundle / "onnx/weights.data").stat().st_size > 10_000
    assert edgebert.load(bundle, variant="onnxruntime/fp32")("a good film") == before


@pytest.mark.parametrize("location", ["../../outside.data", "/etc/hostname", "../onnx/weights.data"])
def test_signed_bundle_is_refused_when_its_graph_loads_what_lies_outside(bundle: Path, location: str) -> None:
    moved_out(bundle, location)
    shutil.copyfile(bundle / "onnx/weights.data", bundle.parent / "outside.data")
    assert (bundle / SIGNATURE).is_file()
    with pytest.raises(BundleError, match=r"onnx/model\.onnx loads .*, which is no file that the manifest lists"):
        read_bundle(bundle)


def stretched(number: int) -> bytes:
    """In ten bytes, where fewer would do."""
    plain = varint(number)
    return bytes([*plain[:-1], plain[-1] | 0x80, *[0x80] * (9 - len(plain)), 0])


def within(fields: list[int], inner: bytes, odd: int, tag: Callable[[int], bytes]) -> bytes:
    """`inner` in messages within messages, of which the one at index `odd` has a tag made by `tag`."""
    for index, field in reversed(list(enumerate(fields))):
        plain = field << 3 | 2
        inner = (tag(plain) if index == odd else varint(plain)) + varint(len(inner)) + inner
    return inner


PATHS = {"an initializer": [7, 5, 13], "a constant": [7, 1, 5, 5, 13], "a function": [25, 7, 5, 5, 13]}
ODD_TAGS: dict[str, Callable[[int], bytes]] = {
    "over 32 bits": lambda tag: varint(tag | 1 << 32),
    "over 34 bits": lambda tag: varint(tag | 1 << 34),
    "ten bytes": stretched,
}


@pytest.mark.parametrize("tag", ODD_TAGS.values(), ids=ODD_TAGS)
@pytest.mark.parametrize(
    ("path", "odd"), [(path, odd) for path in PATHS.values() for odd in range(len(path))], ids=lambda value: str(value)
)
def test_field_number_that_protobuf_cuts_to_another_is_refused(
    tmp_path: Path, path: list[int], odd: int, tag: Callable[[int], bytes]
) -> None:
    entry = varint(1 << 3 | 2) + varint(8) + b"location" + varint(2 << 3 | 2) + varint(8) + b"../w.bin"
    with pytest.raises(BundleError, match="which is no file that the manifest lists"):
        check(tmp_path, within(path, entry, -1, tag))
    with pytest.raises(BundleError, match="is not a whole ONNX file"):
        check(tmp_path, within(path, entry, odd, tag))


@pytest.mark.parametrize("tag", [b"\x02", b"\x00"], ids=["message", "number"])
def test_field_of_number_0_is_refused(tmp_path: Path, tag: bytes) -> None:
    with pytest.raises(BundleError, match="a field whose number is none"):
        check(tmp_path, tag + b"\0")


def test_size_that_protobuf_cuts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a whole ONNX file"):
        check(tmp_path, varint(7 << 3 | 2) + varint(4 | 1 << 32) + b"\0" * 4)
