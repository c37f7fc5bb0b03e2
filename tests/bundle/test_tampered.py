"""Bundles that were tampered with: none loads, each says why, and nothing but our own checks reads a byte of it before."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import edited, listed_again
from certificates import new_key
from conftest import Result
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

import edgebert
from edgebert.bundle.manifest import MANIFEST, BundleManifest
from edgebert.bundle.read import read_bundle
from edgebert.bundle.trust.envelope import SIGNATURE
from edgebert.bundle.trust.keys import own_key_file
from edgebert.bundle.trust.sign import sign_bundle, sign_with_key
from edgebert.core.store import hash_file
from edgebert.errors import BundleError, TrustError
from edgebert.runtimes import RUNTIMES

Tampering = Callable[[Path], Any]


@pytest.fixture(autouse=True)
def _nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever opens a graph or a tokenizer fails the test, and so does a process that would measure."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a file of the bundle was parsed")

    for runtime in RUNTIMES:
        monkeypatch.setattr(type(runtime), "open", refuse)
    monkeypatch.setattr("edgebert.runtimes.serving.Serving.open_tokenizer", refuse)
    monkeypatch.setattr("edgebert.measure.bench.run.run", refuse)


def flipped(file: Path, index: int, bit: int) -> bytes:
    """Flips a bit of a file. Returns the content before."""
    before = file.read_bytes()
    data = bytearray(before)
    data[index] ^= 1 << bit
    file.write_bytes(data)
    return before


def test_bundle_is_refused_when_one_bit_of_a_file_is_flipped(bundle: Path) -> None:
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert len(files) == 15
    signed = r"edgebert\.json is not valid|is of another content|contradict|The manifest of"
    for file in files:
        before = flipped(file, file.stat().st_size // 2, 2)
        altered = f"{file.name} was altered after it was written"
        with pytest.raises(BundleError, match={MANIFEST: signed, SIGNATURE: r"edgebert\.sig"}.get(file.name, altered)):
            read_bundle(bundle)
        file.write_bytes(before)


def test_bundle_is_refused_when_a_bit_anywhere_in_its_signature_is_flipped(bundle: Path) -> None:
    whole = (bundle / SIGNATURE).read_bytes()
    for index in range(0, len(whole), 7):
        flipped(bundle / SIGNATURE, index, (index // 7) % 8)
        with pytest.raises(TrustError):
            read_bundle(bundle)
        (bundle / SIGNATURE).write_bytes(whole)
    read_bundle(bundle)


def swapped(first: str, second: str) -> Tampering:
    def tamper(bundle: Path) -> None:
        (bundle / first).rename(bundle / "kept")
        (bundle / second).rename(bundle / first)
        (bundle / "kept").rename(bundle / second)

    return tamper


def swapped_and_listed(bundle: Path) -> None:
    swapped("onnx/model.onnx", "onnx/model_quantized.onnx")(bundle)
    listed_again(bundle, "onnx/model.onnx", "onnx/model_quantized.onnx")


def removed(name: str) -> Tampering:
    return lambda bundle: (bundle / name).unlink()


def cut(name: str) -> Tampering:
    return lambda bundle: os.truncate(bundle / name, (bundle / name).stat().st_size // 2)


def added(name: str) -> Tampering:
    def tamper(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(b"")

    return tamper


def grown(name: str) -> Tampering:
    return lambda bundle: (bundle / name).write_bytes((bundle / name).read_bytes() + b"\n")


def as_link(name: str) -> Tampering:
    def tamper(bundle: Path) -> None:
        (bundle / name).rename(bundle.parent / "elsewhere")
        (bundle / name).symlink_to(bundle.parent / "elsewhere")

    return tamper


def as_pipe(name: str) -> Tampering:
    def tamper(bundle: Path) -> None:
        (bundle / name).unlink(missing_ok=True)
        os.mkfifo(bundle / name)

    return tamper


def as_socket(bundle: Path) -> None:
    (bundle / "vocab.txt").unlink()
    here = Path.cwd()
    os.chdir(bundle)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind("vocab.txt")
    finally:
        os.chdir(here)


def as_folder(name: str) -> Tampering:
    def tamper(bundle: Path) -> None:
        (bundle / name).unlink()
        (bundle / name).mkdir()

    return tamper


def of_size(name: str, size: int) -> Tampering:
    """A file with a hole in it, as a compressed archive unpacks to."""

    def tamper(bundle: Path) -> None:
        with (bundle / name).open("ab") as file:
            file.truncate(size)

    return tamper


def oversize_and_listed(name: str, size: int) -> Tampering:
    def tamper(bundle: Path) -> None:
        of_size(name, size)(bundle)
        edited(bundle, lambda manifest: manifest["files"][name].update(size=size))
        sign_bundle(bundle)

    return tamper


def many_files(bundle: Path) -> None:
    for number in range(1001):
        (bundle / f"{number}.txt").write_bytes(b"")


def deep_folders(bundle: Path) -> None:
    (bundle / "/".join("d" * 9)).mkdir(parents=True)


def manifest_text(change: Callable[[str], str]) -> Tampering:
    return lambda bundle: (bundle / MANIFEST).write_text(change((bundle / MANIFEST).read_text()))


ALTERED: dict[str, tuple[Tampering, str]] = {
    "two graphs swapped": (swapped("onnx/model.onnx", "onnx/model_quantized.onnx"), r"onnx/model\w*\.onnx was altered"),
    "two graphs swapped and listed": (swapped_and_listed, "is of another content: 'edgebert.json'"),
    "weights swapped": (
        swapped("openvino/openvino_model.bin", "openvino/openvino_model_qint8_quantized.bin"),
        r"openvino_model\w*\.bin was altered",
    ),
    "configuration and tokenizer swapped": (swapped("config.json", "tokenizer.json"), "config.json was altered"),
    "a byte more": (grown("config.json"), "config.json was altered"),
    "no tokenizer": (removed("tokenizer.json"), "tokenizer.json is missing"),
    "no graph": (removed("onnx/model_quantized.onnx"), "model_quantized.onnx is missing"),
    "no weights": (removed("openvino/openvino_model.bin"), "openvino_model.bin is missing"),
    "no manifest": (removed(MANIFEST), f"has no {MANIFEST}"),
    "a graph cut in half": (cut("onnx/model.onnx"), "onnx/model.onnx was altered"),
    "weights cut in half": (cut("openvino/openvino_model.bin"), "openvino_model.bin was altered"),
    "a manifest cut in half": (cut(MANIFEST), "is not valid"),
    "a signature cut in half": (cut(SIGNATURE), "is no model signature"),
    "an empty manifest": (lambda bundle: (bundle / MANIFEST).write_bytes(b""), "is not valid"),
    "an empty signature": (lambda bundle: (bundle / SIGNATURE).write_bytes(b""), "is no model signature"),
    "a manifest that is a list": (lambda bundle: (bundle / MANIFEST).write_text("[]"), "is not valid"),
    "a manifest in UTF-16": (manifest_text(lambda text: text.encode("utf-16").decode("latin1")), "is not valid"),
    "a manifest with a key twice": (
        manifest_text(lambda text: text.replace('"verdict":', '"verdict": "FAILED",\n"verdict":')),
        "the key 'verdict' stands there twice",
    ),
    "a manifest with NaN": (
        manifest_text(lambda text: re.sub(r'"tolerance": ?0\.1', '"tolerance":NaN', text)),
        "NaN is no number",
    ),
    "a manifest nested deeply": (manifest_text(lambda text: '{"lineage":' + "[" * 100_000), "is not valid"),
    "a manifest that is no file": (as_folder(MANIFEST), "bundles hold files only"),
    "a file more": (added("payload.py"), "holds payload.py, which its manifest does not list"),
    "a file more in a folder": (added("onnx/model.onnx.data"), "holds onnx/model.onnx.data"),
    "a hidden file more": (added(".hidden/x"), "holds .hidden/x"),
    "a file whose name moves the cursor": (added("\x1b[2J.txt"), r"holds '\\x1b\[2J.txt', which its manifest does not list"),
    "a file that is a link": (as_link("tokenizer.json"), "holds tokenizer.json, which is a link"),
    "a folder that is a link": (as_link("onnx"), "holds onnx, which is a link"),
    "a manifest that is a link": (as_link(MANIFEST), f"{MANIFEST} is a link"),
    "a signature that is a link": (as_link(SIGNATURE), f"holds {SIGNATURE}, which is a link"),
    "a link more": (lambda bundle: (bundle / "more").symlink_to("/"), "holds more, which is a link"),
    "a link to nothing": (lambda bundle: (bundle / "more").symlink_to("nowhere"), "holds more, which is a link"),
    "a pipe more": (as_pipe("pipe"), "holds pipe, which is a pipe"),
    "a pipe for a graph": (as_pipe("onnx/model.onnx"), "holds onnx/model.onnx, which is a pipe"),
    "a pipe for a manifest": (as_pipe(MANIFEST), f"{MANIFEST} is a pipe"),
    "a pipe for a signature": (as_pipe(SIGNATURE), f"holds {SIGNATURE}, which is a pipe"),
    "a socket for a file": (as_socket, "holds vocab.txt, which is a socket"),
    "a folder for a file": (as_folder("vocab.txt"), "vocab.txt is missing"),
    "a manifest with a hole of 1 GB": (of_size(MANIFEST, 1 << 30), f"{MANIFEST} is larger than 2 MB"),
    "a signature with a hole of 1 GB": (of_size(SIGNATURE, 1 << 30), f"{SIGNATURE} is larger than 4 MB"),
    "a graph with a hole of 1 TB": (of_size("onnx/model.onnx", 1 << 40), "onnx/model.onnx was altered"),
    "a tokenizer of 65 MB that is listed": (
        oversize_and_listed("tokenizer.json", 65 << 20),
        "tokenizer.json is larger than 64 MB",
    ),
    "a configuration of 5 MB that is listed": (oversize_and_listed("config.json", 5 << 20), "config.json is larger than 4 MB"),
    "a thousand files more": (many_files, "holds more than 1000 files"),
    "folders in folders": (deep_folders, "holds folders deeper than a bundle's"),
}


def update(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update(values)


def update_variant(index: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["variants"][index].update(values)


def lists(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["files"].update({name: {"sha256": "0" * 64, "size": 0}})


def logits(change: Callable[[list[Any]], Any], index: int = 1) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: change(manifest["variants"][index]["golden_outputs"]["logits"])


def selects_a_failed_one(manifest: dict[str, Any]) -> None:
    chosen = next(item for item in manifest["variants"] if item["name"] == manifest["selected"])
    chosen.update(status="FAILED", reasons=["accuracy 0.1 is under 0.9"])


LEAVES, ELSEWHERE = "leaves the bundle", "is not the same file everywhere"
LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a path with ..": (lists("../outside.onnx"), LEAVES),
    "a path with .. inside": (lists("onnx/../../outside.onnx"), LEAVES),
    "an absolute path": (lists("/etc/hostname"), LEAVES),
    "a Windows path": (lists("..\\outside.onnx"), LEAVES),
    "a drive": (lists("C:outside.onnx"), LEAVES),
    "a NUL in a path": (lists("a\0b"), LEAVES),
    "a line break in a path": (lists("a\nb"), LEAVES),
    "an empty path": (lists(""), LEAVES),
    "a path with . before": (lists("./vocab.txt"), ELSEWHERE),
    "a path with . inside": (lists("onnx/./model.onnx"), ELSEWHERE),
    "a path with two slashes": (lists("onnx//model.onnx"), ELSEWHERE),
    "a path with a slash behind": (lists("onnx/"), ELSEWHERE),
    "a name that ends in a dot": (lists("vocab.txt."), ELSEWHERE),
    "a name that Windows keeps": (lists("onnx/con.onnx"), ELSEWHERE),
    "two names that differ in case": (lists("VOCAB.txt"), "two names are one file"),
    "a list with the signature": (lists("EDGEBERT.sig"), "may not be listed in a manifest"),
    "a list with what the Hub keeps": (lists(".cache/model.onnx"), "may not be listed in a manifest"),
    "a listed file that is not there": (lists("onnx/more.onnx"), "more.onnx is missing"),
    "a variant outside": (update_variant(0, file="../outside.onnx"), LEAVES),
    "a variant that is not listed": (update_variant(0, file="onnx/other.onnx"), "uses onnx/other.onnx, but does not list it"),
    "a variant that is no graph": (update_variant(0, file="vocab.txt"), "in vocab.txt, which is no file of onnxruntime"),
    "a variant of the other runtime": (
        update_variant(0, file="openvino/openvino_model.xml"),
        "in openvino/openvino_model.xml, which is no file of onnxruntime",
    ),
    "a runtime that runs no bundles": (
        lambda manifest: manifest["variants"][0]["target"].update(runtime="torch"),
        "for the runtime torch, which runs no bundles",
    ),
    "an unknown runtime": (
        lambda manifest: manifest["variants"][0]["target"].update(runtime="shell"),
        "is not valid: variants.0.target.runtime",
    ),
    "weights that are not listed": (lambda manifest: manifest["files"].pop("openvino/openvino_model.bin"), "does not list"),
    "a selection that is no variant": (update(selected="onnxruntime/int2"), "selects onnxruntime/int2"),
    "a selection that failed": (selects_a_failed_one, "is selected and FAILED, and that the verdict is PASSED"),
    "a selection that was never judged": (update(selected="onnxruntime/fp32"), "is selected and BASELINE"),
    "a verdict with reasons against it": (update(reasons=["too slow"]), "says PASSED, with 1 reasons against it"),
    "a failure without a reason": (update_variant(1, status="FAILED"), "FAILED, with 0 reasons against it"),
    "a candidate that is a baseline": (update_variant(1, status="BASELINE"), "is a candidate and BASELINE"),
    "two variants of one name": (update_variant(0, name="onnxruntime/int8-dynamic"), "has two variants of one name"),
    "a name that moves the cursor": (update(name="\x1b[2J"), "which cannot be printed"),
    "no variants": (update(variants=[]), "is not valid: variants"),
    "an unknown key": (update(run="code"), "is not valid: run"),
    "a later schema": (update(schema_version=2), "is not valid: schema_version"),
    "an unknown task": (update(task="translation"), "the task translation"),
    "a tolerance of everything": (update_variant(0, tolerance=1e9), "is not valid: variants.0.tolerance"),
    "a tolerance without end": (update_variant(0, tolerance=float("inf")), "Infinity is no number"),
    "a tolerance of nothing": (update_variant(0, tolerance=0.0), "is not valid: variants.0.tolerance"),
    "no goldens": (lambda manifest: manifest["goldens"].update(rows=[], token_ids=[]), "is not valid: goldens.rows"),
    "goldens without tokens": (lambda manifest: manifest["goldens"]["token_ids"].pop(), "golden rows, and the tokens of"),
    "goldens longer than allowed": (update(max_length=2), "golden tokens that are none, or more than 2"),
    "no golden outputs": (update_variant(1, golden_outputs={}), "golden outputs of onnxruntime/int8-dynamic that are not"),
    "golden outputs one too few": (logits(lambda values: values.pop()), "that are not one array of numbers for each row"),
    "golden outputs of words": (logits(lambda values: values[0].__setitem__(0, "high")), "that are not one array of numbers"),
    "golden outputs that are ragged": (logits(lambda values: values[0].append([0.0])), "that are not one array of numbers"),
    "golden outputs of another shape": (logits(lambda values: values[0].append(0.0)), "of other shapes than those of"),
    "goldens of other columns": (
        lambda manifest: manifest["goldens"].update(rows=[{"question": "x"} for _ in manifest["goldens"]["rows"]]),
        "has golden rows of the columns 'question'",
    ),
    "a padding token beyond 64 bits": (update(pad_id=2**70), "is not valid: pad_id"),
    "a length beyond any": (update(max_length=10**30), "is not valid: max_length"),
    "a label that a terminal obeys": (
        update(labels=["\x9b2J", "positive"]),
        r"has the label '\\x9b2J', which cannot be printed",
    ),
    "a file that a terminal obeys": (lists("\x9b2J"), LEAVES),
    "more labels than answers": (update(labels=["negative", "neutral", "positive"]), "has 3 labels, and golden logits"),
}


@pytest.fixture
def takes_unsigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose trust.toml lets unsigned bundles load."""
    (tmp_path / "config/edgebert").mkdir(parents=True)
    (tmp_path / "config/edgebert/trust.toml").write_text('unsigned = "load"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.parametrize(("lie", "reason"), LIES.values(), ids=LIES)
def test_bundle_is_refused_when_its_manifest_lies_signed_by_a_trusted_key_or_where_none_has_to_sign(
    bundle: Path, takes_unsigned: None, lie: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    edited(bundle, lie)
    sign_bundle(bundle)
    for _ in ("signed", "unsigned"):
        with pytest.raises(BundleError, match=reason):
            read_bundle(bundle)
        (bundle / SIGNATURE).unlink(missing_ok=True)


def test_manifest_that_is_written_anew_loads_when_it_is_signed_anew(bundle: Path) -> None:
    edited(bundle, lambda manifest: None)
    with pytest.raises(TrustError, match=r"is of another content: 'edgebert\.json'"):
        read_bundle(bundle)  # it says the same in other bytes
    sign_bundle(bundle)
    read_bundle(bundle)


def signature(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle / SIGNATURE).read_text()))


def with_material(**material: Any) -> Tampering:
    return with_signature(lambda value: value.update(verificationMaterial=material))


def with_signature(change: Callable[[dict[str, Any]], Any]) -> Tampering:
    def tamper(bundle: Path) -> None:
        value = signature(bundle)
        change(value)
        (bundle / SIGNATURE).write_text(json.dumps(value))

    return tamper


def by_another_key(bundle: Path) -> None:
    sign_with_key(bundle, new_key(bundle.parent / "other.pem"))


def by_another_key_with_our_hint(bundle: Path) -> None:
    hint = signature(bundle)["verificationMaterial"]
    by_another_key(bundle)
    with_signature(lambda value: value.update(verificationMaterial=hint))(bundle)


def of_another_bundle(bundle: Path) -> None:
    other = Path(shutil.copytree(bundle, bundle.parent / "other"))
    (other / "README.md").write_text("# Another\n")
    listed_again(other, "README.md")
    sign_bundle(other)
    shutil.copyfile(other / SIGNATURE, bundle / SIGNATURE)


def of_this_with_a_file_replaced(bundle: Path) -> None:
    """Everything is consistent, but nobody signed what the signature says."""
    (bundle / "README.md").write_text("# Better\n")
    listed_again(bundle, "README.md")

    def change(statement: dict[str, Any]) -> None:
        for resource in statement["predicate"]["resources"]:
            if resource["name"] in ("README.md", MANIFEST):
                resource["digest"] = hash_file(bundle / resource["name"])

    stated(change)(bundle)


def stated(change: Callable[[dict[str, Any]], Any]) -> Tampering:
    """Another statement under the same signature."""

    def replace(value: dict[str, Any]) -> None:
        envelope = value["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    return with_signature(replace)


def stated_and_signed(change: Callable[[dict[str, Any]], Any]) -> Tampering:
    """Another statement, signed by the own key, as the key's holder could by other means than ours."""

    def sign_again(value: dict[str, Any]) -> None:
        key = serialization.load_pem_private_key(own_key_file().read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        envelope = value["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"])
        signed = b"DSSEv1 %d %s %d %s" % (len(envelope["payloadType"]), envelope["payloadType"].encode(), len(payload), payload)
        envelope["signatures"] = [{"sig": base64.b64encode(key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode(), "keyid": ""}]

    def tamper(bundle: Path) -> None:
        stated(change)(bundle)
        with_signature(sign_again)(bundle)

    return tamper


def before_1_0(statement: dict[str, Any]) -> None:
    resources = statement["predicate"]["resources"]
    statement["subject"] = [{"name": item["name"], "digest": {"sha256": item["digest"]}} for item in resources]
    statement.update(predicateType="https://model_signing/Digests/v0.1", predicate={})


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        kept = [item for item in statement["predicate"]["resources"] if item["name"] != name]
        statement["predicate"]["resources"] = kept
        root = hashes.Hash(hashes.SHA256())
        for item in kept:
            root.update(bytes.fromhex(item["digest"]))
        statement["subject"][0]["digest"]["sha256"] = root.finalize().hex()

    return change


def how(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda statement: statement["predicate"]["serialization"].update(values)


NOT_TRUSTED = "is signed by the key [0-9a-f]{64}, which is not trusted here"
MISSIGNED: dict[str, tuple[Tampering, str]] = {
    "no signature": (removed(SIGNATURE), "is not signed: it has no edgebert.sig"),
    "a signature in another name": (
        lambda bundle: (bundle / SIGNATURE).rename(bundle / "model.sig"),
        "holds model.sig, which its manifest does not list",
    ),
    "another key": (by_another_key, NOT_TRUSTED),
    "another key with our hint": (by_another_key_with_our_hint, "edgebert.sig does not hold"),
    "the signature of another bundle": (of_another_bundle, "is of another content: 'README.md' is not as it was signed"),
    "a statement that nobody signed": (of_this_with_a_file_replaced, "edgebert.sig does not hold"),
    "a subject that nobody signed": (
        stated(lambda statement: statement["subject"][0].update(name="other")),
        "edgebert.sig does not hold",
    ),
    "a signed statement without the manifest": (stated_and_signed(without(MANIFEST)), "does not cover edgebert.json"),
    "a signed statement without a graph": (stated_and_signed(without("onnx/model.onnx")), "does not cover onnx/model.onnx"),
    "a signed statement of no file": (
        stated_and_signed(lambda statement: statement["predicate"].update(resources=[])),
        "does not cover README.md",
    ),
    "a signed statement that names a file twice": (
        stated_and_signed(lambda statement: statement["predicate"]["resources"].append(statement["predicate"]["resources"][0])),
        "it names a file twice",
    ),
    "a signed statement in shards": (stated_and_signed(how(method="shards", shard_size=1)), "it is not of whole files"),
    "a signed statement with links": (stated_and_signed(how(allow_symlinks=True)), "it is not of whole files"),
    "a signed statement of the form before 1.0": (stated_and_signed(before_1_0), "it states 'https://model_signing/Digests"),
    "no hint": (with_material(publicKey={}, tlogEntries=[]), "it has other keys than"),
    "a hint that is a path": (
        with_material(publicKey={"hint": "../key"}, tlogEntries=[]),
        "it does not say by which key it is",
    ),
    "a key and a certificate": (
        with_signature(lambda value: value["verificationMaterial"].update(certificate={"rawBytes": ""})),
        "it names no key or certificate, or several",
    ),
    "two signatures": (
        with_signature(lambda value: value["dsseEnvelope"]["signatures"].append(value["dsseEnvelope"]["signatures"][0])),
        "it holds no single signature",
    ),
    "a second payload": (with_signature(lambda value: value["dsseEnvelope"].update(pay_load="")), "it has other keys than"),
    "a signature that is a list": (lambda bundle: (bundle / SIGNATURE).write_text("[]"), "is no model signature"),
    "a signature nested deeply": (lambda bundle: (bundle / SIGNATURE).write_text("[" * 100_000), "is no model signature"),
    "a signature with a key twice": (
        lambda bundle: (bundle / SIGNATURE).write_text('{"mediaType": 1, ' + (bundle / SIGNATURE).read_text()[1:]),
        "the key 'mediaType' stands there twice",
    ),
    "a certificate of nobody": (
        with_material(x509CertificateChain={"certificates": [{"rawBytes": "AAAA"}]}, tlogEntries=[]),
        "holds no certificate that can be read",
    ),
    "an identity of nobody": (
        with_material(certificate={"rawBytes": "AAAA"}, tlogEntries=[]),
        "by way of sigstore, who is not trusted here",
    ),
}


REFUSED = ALTERED | MISSIGNED


@pytest.mark.parametrize(("tamper", "reason"), REFUSED.values(), ids=REFUSED)
def test_bundle_is_refused_when_its_folder_was_altered_or_is_not_signed_as_it_is_by_whom_is_trusted(
    bundle: Path, cli: Callable[..., Result], tamper: Tampering, reason: str
) -> None:
    tamper(bundle)
    with pytest.raises(BundleError, match=reason):
        edgebert.load(bundle)
    result = cli("verify", bundle)
    assert (result.code, result.out) == (2, "") and re.search(reason, result.err)


@pytest.mark.parametrize("name", ["another key", "the signature of another bundle", "a signature that is a list"])
def test_signature_that_is_there_has_to_hold_although_none_is_asked_for(bundle: Path, takes_unsigned: None, name: str) -> None:
    tamper, reason = MISSIGNED[name]
    sign_bundle(bundle)
    tamper(bundle)
    with pytest.raises(BundleError, match=reason):
        read_bundle(bundle)


@pytest.mark.parametrize("verb", [("run", "a good film"), ("verify",), ("bench",)], ids=lambda verb: verb[0])
def test_no_verb_takes_a_bundle_that_is_not_signed(bundle: Path, cli: Callable[..., Result], verb: tuple[str, ...]) -> None:
    (bundle / SIGNATURE).unlink()
    result = cli(verb[0], bundle, *verb[1:])
    assert (result.code, result.out) == (2, "") and "is not signed" in result.err


@pytest.mark.parametrize("field", ["labels", "reasons", "variants", "lineage"])
def test_list_of_a_million_wrong_things_is_one_error(bundle: Path, field: str) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    content[field] = [[]] * 10_000
    with pytest.raises(ValidationError) as refused:
        BundleManifest.model_validate(content)
    assert refused.value.error_count() < 10


@pytest.mark.parametrize("key", ["", "files"])
def test_object_of_too_many_keys_is_refused_before_each_is_looked_at(bundle: Path, key: str) -> None:
    many = {f"k{number}": 1 for number in range(20_000)}
    edited(bundle, lambda manifest: (manifest[key] if key else manifest).update(many))
    with pytest.raises(BundleError, match="has more keys than any of a bundle's"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update({"\x1b[2J\x9b2J": 1}),
        lambda manifest: manifest.update(task="\x1b[2J\x9b2J"),
        lambda manifest: manifest.update(selected="\x1b[2J\x9b2J"),
    ],
    ids=["key", "task", "selected"],
)
def test_nothing_of_a_stranger_reaches_the_terminal_as_it_is(
    bundle: Path, cli: Callable[..., Result], change: Tampering
) -> None:
    edited(bundle, change)
    result = cli("run", bundle, "a good film")
    assert result.code == 2
    assert r"\x1b[2J\x9b2J" in result.err
    assert result.err.replace("\n", "").isprintable()
