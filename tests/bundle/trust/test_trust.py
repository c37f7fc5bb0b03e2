"""Trust: whose signatures count, in both directions with model-signing itself, what a receipt is good for, and trust.toml."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import model_signing
import pytest
from bundles import edited, listed_again
from certificates import Holder, issue, new_key
from conftest import Result
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

import edgebert
from edgebert.bundle.read import read_bundle, read_signed_bundle
from edgebert.bundle.trust import policy
from edgebert.bundle.trust.config import trusted_fingerprints
from edgebert.bundle.trust.envelope import SIGNATURE
from edgebert.bundle.trust.keys import ensure_own_key, own_key_file
from edgebert.bundle.trust.pins import pin_certificate, pin_key, pin_sigstore, unpin
from edgebert.bundle.trust.policy import Signer
from edgebert.bundle.trust.receipts import KEPT
from edgebert.bundle.trust.sign import sign_bundle, sign_with_certificate, sign_with_key, sign_with_sigstore
from edgebert.errors import EnvironmentFault, TrustError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine, which trusts nobody yet. Its configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "their-config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "their-cache"))
    return tmp_path / "their-config" / "edgebert"


@pytest.fixture
def key(bundle: Path, machine: Path, tmp_path: Path) -> Path:
    """The private key that signed the bundle. The machine does not trust it yet."""
    made = new_key(tmp_path / "signer.pem")
    sign_with_key(bundle, made)
    return made


@pytest.fixture
def pinned(key: Path) -> Path:
    """The private key that signed the bundle, which the machine trusts as `signer`."""
    pin(key)
    return key


def pin(key: Path) -> str:
    return pin_key("signer", key.with_suffix(".pub").read_text())


def receipts() -> list[Path]:
    return sorted((Path(os.environ["XDG_CACHE_HOME"]) / "edgebert/receipts").glob("*.json"))


def write_config(machine: Path, text: str) -> None:
    machine.mkdir(parents=True, exist_ok=True)
    (machine / "trust.toml").write_text(text)


# Whose signature counts


def test_own_key_is_trusted_without_a_line(bundle: Path) -> None:
    assert read_signed_bundle(bundle)[1] == Signer("own key", ensure_own_key().fingerprint)
    assert not (own_key_file().parent.parent / "trust.toml").exists()


def test_bundle_loads_on_another_machine_when_its_key_is_pinned_there_and_not_before(bundle: Path, key: Path) -> None:
    with pytest.raises(TrustError, match="which is not trusted here") as refused:
        edgebert.load(bundle)
    assert "edgebert keys trust FILE --name NAME" in str(refused.value)
    fingerprint = pin(key)
    assert read_signed_bundle(bundle)[1] == Signer("signer", fingerprint)
    assert trusted_fingerprints() == (fingerprint,)
    assert edgebert.load(bundle)("a good film").label in ("negative", "positive")
    unpin("signer")
    with pytest.raises(TrustError, match=fingerprint):
        read_bundle(bundle)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_key_of_every_curve_that_signs_is_taken(bundle: Path, machine: Path, curve: ec.EllipticCurve) -> None:
    key = new_key(machine.parent.parent / "signer.pem", curve)
    sign_with_key(bundle, key)
    pin(key)
    read_bundle(bundle)


def test_key_and_trust_that_lie_in_the_bundle_are_not_looked_at(bundle: Path, key: Path) -> None:
    (bundle / "keys").mkdir()
    shutil.copyfile(key.with_suffix(".pub"), bundle / "keys/signing.pub")
    shutil.copyfile(key, bundle / "keys/signing.pem")
    (bundle / "trust.toml").write_text('unsigned = "load"\n[keys.a]\nfile = "keys/signing.pub"\n')
    listed_again(bundle, "keys/signing.pub", "keys/signing.pem", "trust.toml")
    sign_with_key(bundle, key)
    with pytest.raises(TrustError, match="which is not trusted here"):
        read_bundle(bundle)
    pin(key)
    assert read_signed_bundle(bundle)[1].name == "signer"


@pytest.mark.parametrize("mode", [0o620, 0o602])
@pytest.mark.parametrize("file", ["keys/signing.pem", "trust.toml", "pin.pub"])
def test_what_others_may_write_says_nothing_of_trust(bundle: Path, machine: Path, file: str, mode: int) -> None:
    ensure_own_key()
    shutil.copyfile(machine / "keys/signing.pub", machine / "pin.pub")
    write_config(machine, '[keys.a]\nfile = "pin.pub"\n')
    sign_bundle(bundle)
    read_bundle(bundle)
    (machine / file).chmod(mode)
    with pytest.raises(TrustError, match="Others than this user may write"):
        read_bundle(bundle)


def test_damaged_own_key_blocks_no_bundle_of_another_that_is_pinned(bundle: Path, key: Path) -> None:
    ensure_own_key()
    own_key_file().write_text("not a key")
    with pytest.raises(TrustError, match="The own key is damaged") as refused:
        read_bundle(bundle)
    assert "edgebert keys new" in str(refused.value)
    pin(key)
    read_bundle(bundle)


def test_unsigned_bundle_loads_when_the_machine_says_so_in_words(bundle: Path, machine: Path) -> None:
    (bundle / SIGNATURE).unlink()
    with pytest.raises(TrustError, match="is not signed"):
        read_bundle(bundle)
    write_config(machine, 'unsigned = "load"\n')
    assert read_signed_bundle(bundle)[1] == Signer("unsigned", "unsigned")


# With model-signing itself


def test_model_signing_verifies_what_is_signed_here(bundle: Path) -> None:
    for left in (".git/config", ".gitattributes", ".cache/huggingface/x"):
        (bundle / left).parent.mkdir(parents=True, exist_ok=True)
        (bundle / left).write_text("left by the Hub")
    sign_bundle(bundle)
    read_bundle(bundle)
    theirs = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=own_key_file().with_suffix(".pub"))
    theirs.verify(bundle, bundle / SIGNATURE)
    (bundle / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"Hash mismatch for .*config\.json"):
        theirs.verify(bundle, bundle / SIGNATURE)


def test_command_of_model_signing_verifies_what_is_signed_here(bundle: Path) -> None:
    sign_bundle(bundle)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(bundle), "--signature", str(bundle / SIGNATURE)]
    command += ["--public_key", str(own_key_file().with_suffix(".pub"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Verification succeeded" in done.stdout) == (0, True), done.stderr


def test_bundle_that_model_signing_signed_loads(bundle: Path, pinned: Path, tmp_path: Path) -> None:
    (bundle / SIGNATURE).unlink()
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=pinned)
    config.sign(bundle, tmp_path / "theirs.sig")  # its own defaults
    shutil.move(tmp_path / "theirs.sig", bundle / SIGNATURE)
    assert read_signed_bundle(bundle)[1].name == "signer"


def test_verify_says_who_signed_and_prints_nothing_of_model_signing(bundle: Path, cli: Callable[..., Result]) -> None:
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "edgebert", ignore_errors=True)
    result = cli("verify", bundle)
    assert result.err == ""
    signed = f"signed by {ensure_own_key().fingerprint} (own key)"
    assert result.out.splitlines()[:2] == ["13 files as the manifest says", signed]
    found = json.loads(cli("verify", bundle, "--json").out)
    assert found["signer"] == {"name": "own key", "identity": ensure_own_key().fingerprint}


# Receipts

LOADED = """
import sys
from pathlib import Path
from edgebert.bundle.read import read_bundle
read_bundle(Path(sys.argv[1]))
print({"model_signing", "cryptography", "sigstore", "OpenSSL"} & set(sys.modules) or "nothing")
"""


def loaded(bundle: Path) -> str:
    """What a process imports of that which checks signatures."""
    done = subprocess.run([sys.executable, "-c", LOADED, bundle], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folder of each signature that was checked."""
    seen: list[Path] = []
    verify = policy.verify
    monkeypatch.setattr(policy, "verify", lambda folder, *rest: (seen.append(folder), verify(folder, *rest))[1])
    return seen


def test_second_load_imports_nothing_that_checks_signatures(bundle: Path, pinned: Path) -> None:
    assert "model_signing" in loaded(bundle)
    assert loaded(bundle) == "nothing"


def test_receipt_is_of_a_content_wherever_it_lies(bundle: Path, pinned: Path, checks: list[Path], tmp_path: Path) -> None:
    first = read_signed_bundle(bundle)
    assert read_signed_bundle(Path(shutil.copytree(bundle, tmp_path / "copy"))) == first
    assert checks == [bundle]


def test_receipt_says_nothing_of_files_that_changed_since(bundle: Path, pinned: Path) -> None:
    read_bundle(bundle)
    data = bytearray((bundle / "onnx/model.onnx").read_bytes())
    data[100] ^= 1
    (bundle / "onnx/model.onnx").write_bytes(data)
    with pytest.raises(Exception, match=r"model\.onnx was altered"):
        read_bundle(bundle)


def test_receipt_ends_when_the_key_is_distrusted(bundle: Path, pinned: Path) -> None:
    read_bundle(bundle)
    unpin("signer")
    with pytest.raises(TrustError, match="not trusted here"):
        read_bundle(bundle)


def test_receipt_ends_when_the_file_of_a_pin_is_exchanged(bundle: Path, machine: Path, key: Path, checks: list[Path]) -> None:
    write_config(machine, '[keys.signer]\nfile = "signer.pub"\n')
    shutil.copyfile(key.with_suffix(".pub"), machine / "signer.pub")
    read_bundle(bundle)
    read_bundle(bundle)
    assert len(checks) == 1
    shutil.copyfile(new_key(machine / "other.pem").with_suffix(".pub"), machine / "signer.pub")
    with pytest.raises(TrustError, match="not trusted here"):
        read_bundle(bundle)


def test_receipt_ends_when_the_manifest_or_the_signature_changes(bundle: Path, pinned: Path, checks: list[Path]) -> None:
    read_bundle(bundle)
    edited(bundle, lambda manifest: manifest.update(name="renamed"))
    with pytest.raises(TrustError, match="is of another content"):
        read_bundle(bundle)
    sign_with_key(bundle, pinned)
    read_bundle(bundle)
    sign_with_key(bundle, pinned)  # the same content, another signature
    read_bundle(bundle)
    assert len(checks) == 3
    sign_with_key(bundle, new_key(pinned.with_name("other.pem")))
    with pytest.raises(TrustError, match="not trusted here"):
        read_bundle(bundle)


def as_a_link(receipt: Path) -> None:
    receipt.rename(receipt.with_suffix(".moved"))
    receipt.symlink_to(receipt.with_suffix(".moved"))


def as_a_pipe(receipt: Path) -> None:
    receipt.unlink()
    os.mkfifo(receipt)


SPOILT: dict[str, Callable[[Path], object]] = {
    "empty": lambda receipt: receipt.write_bytes(b""),
    "of another": lambda receipt: receipt.write_text(json.dumps({"name": "x", "identity": "y", "receipt": "0" * 64})),
    "open to others": lambda receipt: receipt.chmod(0o666),
    "in a folder that is open to others": lambda receipt: receipt.parent.chmod(0o777),
    "a link": as_a_link,
    "a pipe": as_a_pipe,
    "cut": lambda receipt: receipt.write_text('{"receipt":'),
    "a list": lambda receipt: receipt.write_text("[1]"),
    "not UTF-8": lambda receipt: receipt.write_bytes(b"\xff" * 100),
    "nested deeply": lambda receipt: receipt.write_text("[" * 100_000),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_receipt_is_ignored_when_it_is_none_that_counts(
    bundle: Path, pinned: Path, checks: list[Path], spoil: Callable[[Path], object]
) -> None:
    signer = read_signed_bundle(bundle)[1]
    (receipt,) = receipts()
    spoil(receipt)
    assert read_signed_bundle(bundle)[1] == signer
    assert len(checks) == 2


def test_bundle_loads_when_no_receipt_can_be_kept(
    bundle: Path, pinned: Path, checks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    read_bundle(bundle)
    read_bundle(bundle)
    assert len(checks) == 2


def test_oldest_receipts_go_when_there_are_many(bundle: Path, pinned: Path) -> None:
    read_bundle(bundle)
    (first,) = receipts()
    for number in range(KEPT):
        shutil.copy2(first, first.with_name(f"{number}.json"))
        os.utime(first.with_name(f"{number}.json"), (number, number))
    sign_with_key(bundle, pinned)
    read_bundle(bundle)
    assert len(receipts()) == KEPT
    assert first in receipts()
    assert not first.with_name("0.json").exists()


# trust.toml

WRONG: dict[str, tuple[str, str]] = {
    "no TOML": ("unsigned = load", "it is no TOML"),
    "another word": ('unsigned = "yes"', "unsigned: Input should be 'refuse' or 'load'"),
    "no word": ("unsigned = true", "unsigned: Input should be 'refuse' or 'load'"),
    "a word in capitals": ('unsigned = "LOAD"', "unsigned: Input should be 'refuse' or 'load'"),
    "an unknown key": ('unsinged = "load"', "unsinged: there is no such key"),
    "an unknown key of a pin": ('[keys.a]\npem = "x"\nuntil = "2027"', r"keys\.a\.until: there is no such key"),
    "a pin of nothing": ("[keys.a]", r"keys\.a: give `file` or `pem`"),
    "a pin of two things": ('[keys.a]\nfile = "x"\npem = "y"', r"keys\.a: give `file` or `pem`"),
    "a pin of a number": ("[keys.a]\npem = 1", r"keys\.a\.pem: Input should be a valid string"),
    "a file that is not there": ('[keys.a]\nfile = "nowhere.pub"', r"keys\.a\.file: .*nowhere\.pub cannot be read"),
    "a file that is a folder": ('[keys.a]\nfile = "."', r"keys\.a\.file: .* cannot be read"),
    "a name that is none": ('[keys."a b"]\npem = "x"', "a name holds letters, digits, - and _ only"),
    "a name for two things": (
        '[keys.a]\npem = "x"\n[sigstore.a]\nidentity = "i"\nissuer = "j"',
        "a names two things",
    ),
    "an identity without an issuer": ('[sigstore.a]\nidentity = "i"', r"sigstore\.a\.issuer: Field required"),
    "a key twice": ('unsigned = "load"\nunsigned = "load"', "it is no TOML"),
    "more than it may be": ("#" * (1 << 20) + "\n", "is larger than 1 MB"),
}


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_no_bundle_loads_when_trust_toml_is_wrong(
    bundle: Path, machine: Path, cli: Callable[..., Result], text: str, reason: str
) -> None:
    sign_bundle(bundle)
    write_config(machine, text)
    for _ in ("signed", "unsigned"):
        with pytest.raises(TrustError, match=reason) as refused:
            read_bundle(bundle)
        assert "No bundle loads until it is put right" in str(refused.value)
        (bundle / SIGNATURE).unlink(missing_ok=True)
    assert cli("keys", "list").code == 2


def test_pin_that_is_no_key_refuses_every_key_that_is_asked_for(bundle: Path, machine: Path) -> None:
    sign_bundle(bundle)
    write_config(machine, '[keys.a]\npem = "no key"\n')
    with pytest.raises(TrustError, match=r"keys\.a is not a public key in PEM form"):
        read_bundle(bundle)


def test_configuration_folder_is_the_users_when_the_variable_names_none(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert own_key_file() == tmp_path / "home/.config/edgebert/keys/signing.pem"


def test_compress_ends_well_and_says_how_to_sign_when_no_key_can_be_kept(
    finished: Path, tmp_path: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model", "data", "store"):
        shutil.copytree(finished / name, tmp_path / name)
    shutil.copyfile(finished / "recipe.yaml", tmp_path / "recipe.yaml")
    keys = os.environ["XDG_CONFIG_HOME"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    result = cli("compress", "recipe.yaml")
    assert result.code == 0, result.err
    assert "the bundle is not signed, so it does not load: " in result.err
    assert "Sign it later: edgebert keys sign BUNDLE" in result.err
    made = tmp_path / "runs/recipe/bundle"
    assert not (made / SIGNATURE).exists()
    refused = cli("run", made, "a good film")
    assert (refused.code, "is not signed" in refused.err) == (2, True)
    monkeypatch.setenv("XDG_CONFIG_HOME", keys)
    assert cli("keys", "sign", made).code == 0
    assert cli("run", made, "a good film").code == 0


# Certificates


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Holder, Holder]:
    """A root, and one that it lets issue certificates too."""
    root = issue(tmp_path, "root", is_authority=True)
    return root, issue(tmp_path, "middle", root, is_authority=True)


def pin_root(root: Holder, subject: str | None = None) -> None:
    pin_certificate("our-ca", root.file.read_text(), subject)


def sign_as(bundle: Path, leaf: Holder, *chain: Holder) -> Signer:
    return sign_with_certificate(bundle, leaf.key_file, leaf.file, [holder.file for holder in chain])


def test_bundle_loads_when_a_pinned_root_vouches_for_its_certificate(
    bundle: Path, machine: Path, authority: tuple[Holder, Holder], tmp_path: Path
) -> None:
    root, middle = authority
    leaf = issue(tmp_path, "release", middle)
    assert sign_as(bundle, leaf, middle).identity == "CN=release"
    with pytest.raises(TrustError, match="CN=release, which is not trusted here: no root certificate is pinned here"):
        read_bundle(bundle)
    pin_root(root)
    assert read_signed_bundle(bundle)[1] == Signer("our-ca", "CN=release")
    theirs = model_signing.verifying.Config().use_certificate_verifier(certificate_chain=[root.file])
    theirs.verify(bundle, bundle / SIGNATURE)
    unpin("our-ca")
    with pytest.raises(TrustError, match="no root certificate is pinned here"):
        read_bundle(bundle)


def test_root_vouches_for_one_subject_only_when_the_pin_says_so(
    bundle: Path, machine: Path, authority: tuple[Holder, Holder], tmp_path: Path
) -> None:
    root, _ = authority
    leaf = issue(tmp_path, "intern", root)
    sign_as(bundle, leaf)
    pin_root(root, "CN=release")
    with pytest.raises(TrustError, match="our-ca is for CN=release only"):
        read_bundle(bundle)
    unpin("our-ca")
    pin_root(root, "CN=intern")
    read_bundle(bundle)


def test_certificate_of_another_root_of_the_same_name_does_not_count(
    bundle: Path, machine: Path, authority: tuple[Holder, Holder], tmp_path: Path
) -> None:
    (tmp_path / "forged").mkdir()
    forged = issue(tmp_path / "forged", "root", is_authority=True)
    leaf = issue(tmp_path / "forged", "release", forged)
    sign_as(bundle, leaf, forged)
    pin_root(authority[0])
    with pytest.raises(TrustError, match="CN=release, which is not trusted here: our-ca: "):
        read_bundle(bundle)


def test_certificate_without_a_signature_by_its_key_does_not_count(
    bundle: Path, machine: Path, authority: tuple[Holder, Holder], tmp_path: Path
) -> None:
    leaf, other = issue(tmp_path, "release", authority[0]), issue(tmp_path, "other", authority[0])
    sign_as(bundle, other)
    value = json.loads((bundle / SIGNATURE).read_text())
    chain = value["verificationMaterial"]["x509CertificateChain"]["certificates"]
    chain[0]["rawBytes"] = base64.b64encode(leaf.certificate.public_bytes(Encoding.DER)).decode()
    (bundle / SIGNATURE).write_text(json.dumps(value))
    pin_root(authority[0])
    with pytest.raises(TrustError, match="CN=release, which is not trusted here: our-ca: "):
        read_bundle(bundle)


@pytest.mark.parametrize("years", [(1971, 1972), (2021, 2022), (2090, 2095)], ids=str)
def test_clock_of_a_device_locks_no_bundle_out(bundle: Path, machine: Path, tmp_path: Path, years: tuple[int, int]) -> None:
    """Expired by today's clock, or not valid yet, as all are on a device that believes it is 1970."""
    root = issue(tmp_path, "root", is_authority=True, years=(1970, 2100))
    leaf = issue(tmp_path, "release", root, years=years)
    sign_as(bundle, leaf)
    pin_root(root)
    read_bundle(bundle)


def test_certificate_does_not_count_when_it_began_after_its_root_ended(bundle: Path, machine: Path, tmp_path: Path) -> None:
    root = issue(tmp_path, "root", is_authority=True, years=(2000, 2010))
    leaf = issue(tmp_path, "release", root, years=(2015, 2016))
    sign_as(bundle, leaf)
    pin_root(root)
    with pytest.raises(TrustError, match=r"our-ca: .*expired"):
        read_bundle(bundle)


@pytest.mark.parametrize("signs", [False, None])
def test_certificate_does_not_count_when_it_is_not_for_signatures(
    bundle: Path, machine: Path, authority: tuple[Holder, Holder], tmp_path: Path, signs: bool | None
) -> None:
    leaf = issue(tmp_path, "release", authority[0], signs=signs)
    sign_as(bundle, leaf)
    pin_root(authority[0])
    with pytest.raises(TrustError, match="which is not for signatures"):
        read_bundle(bundle)


# Sigstore

ISSUER = "https://accounts.example.org"


@pytest.fixture
def by_sigstore(bundle: Path, machine: Path, tmp_path: Path) -> Path:
    """A bundle whose signature says that sigstore vouches for release@example.org. It does not."""
    leaf = issue(tmp_path, "sigstore", email="release@example.org")
    value = json.loads((bundle / SIGNATURE).read_text())
    der = base64.b64encode(leaf.certificate.public_bytes(Encoding.DER)).decode()
    value["verificationMaterial"] = {"certificate": {"rawBytes": der}, "tlogEntries": []}
    (bundle / SIGNATURE).write_text(json.dumps(value))
    return bundle


def test_identity_counts_for_nothing_when_it_is_not_pinned(by_sigstore: Path) -> None:
    with pytest.raises(TrustError, match=r"is signed by release@example\.org by way of sigstore, who is not trusted here"):
        read_bundle(by_sigstore)
    pin_sigstore("release", "somebody@example.org", ISSUER)
    with pytest.raises(TrustError, match="who is not trusted here"):
        read_bundle(by_sigstore)


def test_sigstore_says_at_once_when_there_is_no_network(
    by_sigstore: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgebert.bundle.trust.sigstore.HOST", "nowhere.invalid")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    pin_sigstore("release", "release@example.org", ISSUER)
    with pytest.raises(EnvironmentFault, match="sigstore cannot be reached") as refused:
        read_bundle(by_sigstore)
    assert "sigstore.release.trust_config" in str(refused.value)
    before = (by_sigstore / SIGNATURE).read_bytes()
    with pytest.raises(EnvironmentFault, match="sigstore cannot be reached"):
        sign_with_sigstore(by_sigstore)
    result = cli("keys", "sign", by_sigstore, "--sigstore")
    assert (result.code, "Sign with a key, which needs no network" in result.err) == (3, True)
    assert (by_sigstore / SIGNATURE).read_bytes() == before


def public_roots() -> dict[str, Any]:
    """Sigstore's own roots as its client ships them, in the form of a client trust configuration."""
    store = resources.files("sigstore") / "_store"
    folder = next(item for item in store.iterdir() if "tuf-repo-cdn.sigstore.dev" in item.name)
    return {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": json.loads((folder / "trusted_root.json").read_text()),
        "signingConfig": json.loads((folder / "signing_config.v0.2.json").read_text()),
    }


def test_forged_identity_is_refused_without_a_network_when_the_roots_are_pinned(by_sigstore: Path, machine: Path) -> None:
    pin_sigstore("release", "release@example.org", ISSUER)
    text = (machine / "trust.toml").read_text()
    write_config(machine, f'{text}trust_config = "sigstore.json"\n')
    (machine / "sigstore.json").write_text(json.dumps(public_roots()))
    with pytest.raises(TrustError, match=r"edgebert\.sig does not hold: \S"):
        read_bundle(by_sigstore)
    (machine / "sigstore.json").write_text("{}")
    with pytest.raises(TrustError, match="does not hold"):
        read_bundle(by_sigstore)


def test_every_pin_of_an_identity_is_tried(by_sigstore: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin_sigstore("one", "release@example.org", ISSUER)
    pin_sigstore("other", "release@example.org", "https://login.example.org")
    tried = []

    def verify(folder: Path, envelope: Any, name: str, pin: Any) -> None:
        tried.append(name)
        if pin.issuer == ISSUER:
            raise TrustError("of another issuer")

    monkeypatch.setattr("edgebert.bundle.trust.sigstore._verify", verify)
    assert read_signed_bundle(by_sigstore)[1] == Signer("other", "release@example.org")
    assert tried == ["one", "other"]
