"""`edgebert keys`: the own key, pins, and signing, as the command line has them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundles import edited
from certificates import PEM, issue, new_key
from conftest import Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edgebert.bundle.trust.config import load_trust, trusted_fingerprints
from edgebert.bundle.trust.envelope import SIGNATURE
from edgebert.bundle.trust.keys import ensure_own_key, own_key_file, own_public_key, replace_own_key
from edgebert.bundle.trust.pins import pin_key

PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that trusts nobody and has no key yet. Its configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "config" / "edgebert"


@pytest.fixture
def keys(machine: Path, cli: Callable[..., Result]) -> Callable[..., Result]:
    """`edgebert keys` on that machine."""
    return lambda *arguments: cli("keys", *arguments)


def done(result: Result) -> str:
    assert result.code == 0, result.err
    return result.out


def refused(result: Result, *words: str) -> None:
    assert (result.code, result.out) == (2, ""), result.err
    assert all(word in result.err for word in words), result.err
    assert "Traceback" not in result.err


# The own key


def test_list_makes_nothing(keys: Callable[..., Result], machine: Path) -> None:
    assert done(keys("list")) == "own key      none yet: edgebert keys show\nUnsigned bundles are refused.\n"
    assert not machine.exists()


def test_show_makes_the_own_key_for_this_user_alone(keys: Callable[..., Result], machine: Path) -> None:
    pem = done(keys("show"))
    assert pem.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert done(keys("show")) == pem == (machine / "keys/signing.pub").read_text()
    assert (machine / "keys/signing.pem").stat().st_mode & 0o777 == 0o600
    assert (machine / "keys").stat().st_mode & 0o777 == 0o700
    key = serialization.load_pem_private_key((machine / "keys/signing.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"
    assert sorted(path.name for path in (machine / "keys").iterdir()) == ["signing.pem", "signing.pub"]


AT_ONCE = """
import sys
from edgebert.bundle.trust.keys import ensure_own_key
sys.stdin.readline()
print(ensure_own_key().fingerprint)
"""


def test_processes_that_need_a_key_at_once_get_the_same_one(machine: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", AT_ONCE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    found = {process.communicate()[0].strip() for process in started}
    assert found == {ensure_own_key().fingerprint}
    assert sorted(path.name for path in (machine / "keys").iterdir()) == ["signing.pem", "signing.pub"]


def test_public_half_is_written_again_when_it_is_not_the_keys(machine: Path) -> None:
    own = ensure_own_key()
    own_key_file().with_suffix(".pub").write_text("something else")
    assert ensure_own_key() == own
    assert own_key_file().with_suffix(".pub").read_text() == own.pem


def test_key_does_not_sign_when_others_may_read_it(keys: Callable[..., Result], bundle: Path) -> None:
    ensure_own_key()
    own_key_file().chmod(0o644)
    result = keys("sign", bundle)
    assert (result.code, "Others may read the private key" in result.err, "chmod 600" in result.err) == (3, True, True)


def test_own_key_that_is_none_is_refused(keys: Callable[..., Result], machine: Path) -> None:
    (machine / "keys").mkdir(parents=True)
    own_key_file().write_text("no key")
    own_key_file().chmod(0o600)
    for verb in ("show", "list", "new"):
        refused(keys(verb), "signing.pem is not a private key in PEM form")


@pytest.mark.parametrize("verb", [("show",), ("new",), ("trust", "-", "--name", "a")])
def test_folder_that_cannot_be_written_is_named(
    keys: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    pem = new_key(tmp_path / "other.pem").with_suffix(".pub").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(pem)))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    result = keys(*verb)
    assert (result.code, "Not a directory" in result.err, "XDG_CONFIG_HOME" in result.err) == (3, True, True), result.err


def test_new_key_signs_and_the_old_one_is_trusted_until_it_is_distrusted(
    keys: Callable[..., Result], cli: Callable[..., Result], bundle: Path
) -> None:
    done(keys("sign", bundle))
    old = ensure_own_key()
    text = done(keys("new"))
    name = f"former-{old.fingerprint[:12]}"
    assert f"edgebert keys distrust {name}" in text
    new = own_public_key()
    assert new is not None and new != old
    assert trusted_fingerprints() == (new.fingerprint, old.fingerprint)
    assert f"signed by {old.fingerprint} ({name})" in done(cli("verify", bundle))
    (kept,) = own_key_file().parent.glob("signing-*.pem")
    assert kept.stat().st_mode & 0o777 == 0o600 and str(kept) in text
    done(keys("distrust", name))
    refused(cli("verify", bundle), old.fingerprint, "not trusted here")
    done(keys("sign", bundle))
    assert f"signed by {new.fingerprint} (own key)" in done(cli("verify", bundle))


def test_rotation_that_is_cut_short_locks_nothing_out(machine: Path) -> None:
    """The pin of the old key stands before the new key does."""
    old = ensure_own_key()
    pin_key("former", old.pem)
    assert trusted_fingerprints() == (old.fingerprint,)
    new, kept = replace_own_key()
    assert trusted_fingerprints() == (new.fingerprint, old.fingerprint)
    assert kept.is_file()


# Pins


def test_trusted_key_is_listed_until_it_is_distrusted(keys: Callable[..., Result], machine: Path, tmp_path: Path) -> None:
    public = new_key(tmp_path / "other.pem").with_suffix(".pub")
    (fingerprint,) = done(keys("trust", public, "--name", "build-server")).split()[-1:]
    assert f"key          {fingerprint}  build-server" in done(keys("list")).splitlines()
    found = json.loads(done(keys("list", "--json")))
    assert found == {
        "own": None,
        "trusted": [{"kind": "key", "name": "build-server", "identity": fingerprint}],
        "unsigned": "refuse",
    }
    public.unlink()  # what is trusted does not lean on the file that it came from
    assert trusted_fingerprints() == (fingerprint,)
    done(keys("distrust", "build-server"))
    assert trusted_fingerprints() == ()
    assert (machine / "trust.toml").read_text().strip() == ""


def test_key_comes_from_standard_input(keys: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = new_key(tmp_path / "other.pem").with_suffix(".pub").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(pem)))
    done(keys("trust", "-", "--name", "a"))
    assert len(trusted_fingerprints()) == 1


def test_the_same_key_under_the_same_name_is_trusted_once(keys: Callable[..., Result], machine: Path, tmp_path: Path) -> None:
    public = new_key(tmp_path / "other.pem").with_suffix(".pub")
    done(keys("trust", public, "--name", "a"))
    text = (machine / "trust.toml").read_text()
    done(keys("trust", public, "--name", "a"))
    assert (machine / "trust.toml").read_text() == text
    other = new_key(tmp_path / "more.pem").with_suffix(".pub")
    refused(keys("trust", other, "--name", "a"), "a is trusted already, as something else", "edgebert keys distrust a")


def test_comments_and_words_of_the_user_stay(keys: Callable[..., Result], machine: Path, tmp_path: Path) -> None:
    machine.mkdir(parents=True)
    mine = '# ours\nunsigned = "load" # in the lab\n\n[sigstore.release]\nidentity = "r@example.org"\nissuer = "https://x"\n'
    (machine / "trust.toml").write_text(mine)
    public = new_key(tmp_path / "other.pem").with_suffix(".pub")
    for name in ("a", "b"):
        done(keys("trust", public, "--name", name))
    done(keys("distrust", "a"))
    assert (machine / "trust.toml").read_text().startswith(mine)
    assert set(load_trust().keys) == {"b"}
    done(keys("distrust", "b"))
    assert (machine / "trust.toml").read_text().strip() == mine.strip()
    assert "Unsigned bundles LOAD: trust.toml says so." in done(keys("list"))


def test_trust_toml_that_is_a_link_stays_one(keys: Callable[..., Result], machine: Path, tmp_path: Path) -> None:
    machine.mkdir(parents=True)
    (tmp_path / "dotfiles.toml").write_text("# ours\n")
    (machine / "trust.toml").symlink_to(tmp_path / "dotfiles.toml")
    done(keys("trust", new_key(tmp_path / "other.pem").with_suffix(".pub"), "--name", "a"))
    assert (machine / "trust.toml").is_symlink()
    assert (tmp_path / "dotfiles.toml").read_text().startswith("# ours\n\n[keys.a]")


def test_entry_that_was_written_in_another_form_is_left_alone(
    keys: Callable[..., Result], machine: Path, tmp_path: Path
) -> None:
    machine.mkdir(parents=True)
    text = 'keys = {a = {file = "a.pub"}}\n'
    (machine / "trust.toml").write_text(text)
    public = new_key(machine / "a.pem").with_suffix(".pub")
    refused(keys("distrust", "a"), "is not written as `edgebert keys` writes it", "Remove [keys.a] by hand")
    refused(keys("trust", public, "--name", "b"), "Add [keys.b] by hand")
    assert (machine / "trust.toml").read_text() == text


def test_distrust_names_the_list_when_there_is_no_such_name(keys: Callable[..., Result]) -> None:
    refused(keys("distrust", "nobody"), "Nothing is trusted under the name nobody", "edgebert keys list")


def public_pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(PEM, PUBLIC)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a public key in PEM form"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is not a public key in PEM form"),
        (public_pem(rsa.generate_private_key(65537, 2048)), "is not an elliptic-curve key"),
        (public_pem(ed25519.Ed25519PrivateKey.generate()), "is not an elliptic-curve key"),
        (public_pem(ec.generate_private_key(ec.SECP256K1())), "is not an elliptic-curve key of P-256"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is not a certificate in PEM form"),
        (b"x" * (2 << 20), "is too large for a key or a certificate"),
    ],
    ids=["nothing", "no key", "RSA", "Ed25519", "another curve", "no certificate", "2 MB"],
)
def test_file_that_is_no_key_for_signatures_is_not_trusted(
    keys: Callable[..., Result], machine: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "given").write_bytes(content)
    refused(keys("trust", tmp_path / "given", "--name", "a"), reason)
    assert not (machine / "trust.toml").exists()


def test_private_key_is_not_taken_for_a_public_one(keys: Callable[..., Result], tmp_path: Path) -> None:
    refused(keys("trust", new_key(tmp_path / "mine.pem"), "--name", "a"), "is a private key", "edgebert keys show")


@pytest.mark.parametrize("name", ["", "a b", "a.b", "-", "ä", "a" * 65, "a\n[keys.b]", "../a"])
def test_name_that_is_none_is_refused(keys: Callable[..., Result], machine: Path, tmp_path: Path, name: str) -> None:
    public = new_key(tmp_path / "other.pem").with_suffix(".pub")
    refused(keys("trust", public, "--name", name), "A name holds letters, digits, - and _ only")
    assert not (machine / "trust.toml").exists()


def test_root_and_identity_are_trusted_by_their_own_words(keys: Callable[..., Result], tmp_path: Path) -> None:
    root = issue(tmp_path, "root", is_authority=True)
    assert "CN=release that CN=root vouches for" in done(keys("trust", root.file, "--name", "ca", "--subject", "CN=release"))
    identity = ("--sigstore", 'r"@example.org', "--issuer", "https://accounts.example.org")
    assert "accounts.example.org" in done(keys("trust", *identity, "--name", "release"))
    lines = done(keys("list")).splitlines()
    assert "certificate  CN=release that CN=root vouches for  ca" in lines
    assert 'sigstore     r"@example.org as https://accounts.example.org knows it  release' in lines
    done(keys("distrust", "ca"))
    done(keys("distrust", "release"))
    assert len(done(keys("list")).splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "There is nothing to trust"),
        (("nowhere.pub",), "nowhere.pub cannot be read: No such file or directory"),
        (("--sigstore", "r@example.org"), "--sigstore goes with --issuer"),
        (("--issuer", "https://x"), "--sigstore goes with --issuer"),
        (("f.pub", "--sigstore", "r@example.org", "--issuer", "https://x"), "without a file"),
        (("other.pub", "--subject", "CN=x"), "--subject goes with a certificate"),
    ],
)
def test_trust_says_what_it_lacks(keys: Callable[..., Result], tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    new_key(tmp_path / "other.pem")
    refused(keys("trust", *arguments, "--name", "a"), reason)


# Signing


def test_sign_says_by_whom_and_what_a_bundle_lacks_to_load_here(
    keys: Callable[..., Result], cli: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    (bundle / SIGNATURE).unlink()
    own = done(keys("sign", bundle))
    assert own.endswith("(own key)\n")
    key = new_key(tmp_path / "other.pem")
    result = keys("sign", bundle, "--key", key)
    assert (result.code, "note: it does not load here" in result.err) == (0, True)
    done(keys("trust", key.with_suffix(".pub"), "--name", "other"))
    assert "(other)" in done(cli("verify", bundle))


def test_sign_takes_a_certificate(
    keys: Callable[..., Result], cli: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    root = issue(tmp_path, "root", is_authority=True)
    middle = issue(tmp_path, "middle", root, is_authority=True)
    leaf = issue(tmp_path, "release", middle)
    done(keys("trust", root.file, "--name", "ca"))
    result = keys("sign", bundle, "--key", leaf.key_file, "--certificate", leaf.file, "--chain", middle.file)
    assert (done(result), result.err) == (f"{bundle} is signed by CN=release (release.crt)\n", "")
    assert "signed by CN=release (ca)" in done(cli("verify", bundle))


def test_bundle_that_is_not_whole_is_not_signed(keys: Callable[..., Result], bundle: Path) -> None:
    before = (bundle / SIGNATURE).read_bytes()
    (bundle / "config.json").write_text("{}")
    refused(keys("sign", bundle), "config.json was altered")
    edited(bundle, lambda manifest: manifest.update(selected="nothing"))
    refused(keys("sign", bundle), "selects nothing")
    assert (bundle / SIGNATURE).read_bytes() == before


def encrypted(place: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    how = serialization.BestAvailableEncryption(b"secret")
    place.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
    return place


def test_sign_says_what_it_lacks(keys: Callable[..., Result], bundle: Path, tmp_path: Path) -> None:
    key, root = new_key(tmp_path / "other.pem"), issue(tmp_path, "root")
    before = (bundle / SIGNATURE).read_bytes()
    refused(keys("sign", tmp_path / "nowhere"), "There is no bundle folder")
    refused(keys("sign", bundle, "--key", tmp_path / "none.pem"), "none.pem cannot be read")
    refused(keys("sign", bundle, "--key", key.with_suffix(".pub")), "other.pub is not a private key")
    refused(keys("sign", bundle, "--key", encrypted(tmp_path / "locked.pem")), "locked.pem is encrypted", "openssl pkcs8")
    refused(keys("sign", bundle, "--certificate", root.file), "These do not go together")
    refused(keys("sign", bundle, "--key", key, "--chain", root.file), "These do not go together")
    refused(keys("sign", bundle, "--key", key, "--sigstore"), "These do not go together")
    refused(keys("sign", bundle, "--key", key, "--certificate", root.file), "is not the certificate of")
    refused(keys("sign", bundle, "--key", root.key_file, "--certificate", root.file, "--chain", key), "is not a certificate")
    assert (bundle / SIGNATURE).read_bytes() == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_signature_that_cannot_be_written_is_named(keys: Callable[..., Result], bundle: Path) -> None:
    bundle.chmod(0o555)
    result = keys("sign", bundle)
    bundle.chmod(0o755)
    assert (result.code, "edgebert.sig cannot be written" in result.err) == (3, True)


@pytest.mark.parametrize(
    "written",
    [lambda pem: pem.replace(b"\n", b"\r\n"), lambda pem: "# f\u00fcr Ger\u00e4te\n".encode("latin-1") + pem],
    ids=["lines as Windows ends them", "a comment that is not UTF-8"],
)
def test_root_is_pinned_as_it_was_read(keys: Callable[..., Result], tmp_path: Path, written: Callable[[bytes], bytes]) -> None:
    plain = issue(tmp_path, "root", is_authority=True).file.read_bytes()
    (tmp_path / "as-sent.pem").write_bytes(written(plain))
    assert done(keys("trust", tmp_path / "as-sent.pem", "--name", "ca")) == "ca is trusted: all that CN=root vouches for\n"
    assert load_trust().certificates["ca"].pem == plain


def test_two_roots_in_a_file_are_refused(keys: Callable[..., Result], tmp_path: Path) -> None:
    roots = [issue(tmp_path, name, is_authority=True).file.read_bytes() for name in ("root", "other")]
    (tmp_path / "both.pem").write_bytes(b"".join(roots))
    refused(keys("trust", tmp_path / "both.pem", "--name", "ca"), "holds 2 certificates", "one root at a time")
    assert not load_trust().certificates


def test_distrust_says_where_the_same_key_is_trusted_still(cli: Callable[..., Result], tmp_path: Path) -> None:
    public = tmp_path / "own.pub"
    public.write_text(cli("keys", "show").out)
    for name in ("twice-a", "twice-b"):
        assert cli("keys", "trust", public, "--name", name).code == 0
    said = cli("keys", "distrust", "twice-a").out
    assert "twice-a is trusted no longer" in said and "still trusted as twice-b, own key" in said
    assert cli("keys", "distrust", "twice-b").code == 0
