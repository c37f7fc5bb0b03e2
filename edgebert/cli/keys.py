"""`edgebert keys`: your own key, the keys that are trusted here, and signing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebert.cli.common import BundleArgument, JsonOption, print_result, visible
from edgebert.errors import InputError, TrustError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgebert.bundle.trust.policy import Signer

SIGSTORE_SAMPLE = "For example: --sigstore release@example.org --issuer https://accounts.google.com"

app = typer.Typer(help="Keys: your own, whose bundles you take, and signing.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_keys(json_output: JsonOption = False) -> None:
    """Lists whose bundles load here. Makes nothing."""
    from edgebert.bundle.trust.pins import current_pins

    pins = current_pins()
    print_result(json_output, lambda: pins, lambda: _pin_lines(pins))


def _pin_lines(pins: Mapping[str, Any]) -> list[str]:
    own, refuses = pins["own"], pins["unsigned"] == "refuse"
    return [
        f"own key      {own['fingerprint']}  {own['file']}" if own else "own key      none yet: edgebert keys show",
        *(visible(f"{pin['kind']:11}  {pin['identity']}  {pin['name']}") for pin in pins["trusted"]),
        "Unsigned bundles are refused." if refuses else "Unsigned bundles LOAD: trust.toml says so.",
    ]


@app.command()
def show() -> None:
    """Prints the own public key, to be trusted elsewhere. Makes the key where there is none."""
    from edgebert.bundle.trust.keys import ensure_own_key

    typer.echo(ensure_own_key().pem, nl=False)


@app.command()
def new() -> None:
    """Makes a new own key. The old one stays trusted here until it is distrusted."""
    from edgebert.bundle.trust.keys import ensure_own_key, replace_own_key
    from edgebert.bundle.trust.pins import pin_key

    old = ensure_own_key()
    name = f"former-{old.fingerprint[:12]}"
    pin_key(name, old.pem)  # first, so that a kill at any moment leaves the old key trusted
    key, kept = replace_own_key()
    typer.echo(f"own key: {key.fingerprint}")
    typer.echo(f"The old one is kept in {kept} and trusted here as {name}; end that with: edgebert keys distrust {name}")
    typer.echo("Devices trust the old one only: bring them the new one before you ship what it signs (edgebert keys show).")


@app.command()
def trust(
    name: Annotated[str, typer.Option(metavar="NAME", help="What it is called here: letters, digits, - and _.")],
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Public key or root certificate in PEM form; - is standard input.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="With a root: trusts only this subject, such as CN=release,O=Example.")
    ] = None,
    sigstore: Annotated[
        str | None, typer.Option(metavar="IDENTITY", help="Instead of a file: an identity that sigstore vouches for.")
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(metavar="URL", help="With --sigstore: who checks that identity, by OpenID Connect.")
    ] = None,
) -> None:
    """Trusts a public key, a root certificate or a sigstore identity from now on."""
    from edgebert.bundle.trust.pins import pin_sigstore

    if sigstore or issuer:
        if file or subject or not (sigstore and issuer):
            raise InputError("--sigstore goes with --issuer, and without a file.", hint=SIGSTORE_SAMPLE)
        pin_sigstore(name, sigstore, issuer)
        typer.echo(f"{name} is trusted: {sigstore}, as {issuer} knows it")
        return
    if file is None:
        raise InputError("There is nothing to trust.", hint="Name a file in PEM form, or - for standard input.")
    _trust_pem(name, _read_pem(file), "standard input" if file == "-" else file, subject)


def _read_pem(file: str) -> bytes:
    from edgebert.bundle.trust.keys import PEM_LIMIT, read_small

    if file == "-":
        return sys.stdin.buffer.read(PEM_LIMIT)
    try:
        return read_small(Path(file))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.", hint="Name a file in PEM form.") from error


def _trust_pem(name: str, data: bytes, source: str, subject: str | None) -> None:
    from edgebert.bundle.trust.certificates import only_certificate
    from edgebert.bundle.trust.keys import read_public_key
    from edgebert.bundle.trust.pins import pin_certificate, pin_key

    if b"-----BEGIN CERTIFICATE-----" in data and b"PRIVATE KEY" not in data:
        pem, root = only_certificate(data, source)
        pin_certificate(name, pem, subject)
        typer.echo(visible(f"{name} is trusted: {subject or 'all'} that {root} vouches for"))
        return
    if subject:
        raise InputError("--subject goes with a certificate.", hint=f"{source} holds none.")
    key = read_public_key(data, source)
    pin_key(name, key.pem)
    typer.echo(f"{name} is trusted: {key.fingerprint}")


@app.command()
def distrust(name: Annotated[str, typer.Argument(metavar="NAME", help="As `edgebert keys list` shows it.")]) -> None:
    """Ends the trust in a name; bundles that it signed stop loading, unless the same is trusted under another name."""
    from edgebert.bundle.trust.pins import current_pins, unpin

    gone = {(pin["kind"], pin["identity"]) for pin in current_pins()["trusted"] if pin["name"] == name}
    unpin(name)
    typer.echo(f"{name} is trusted no longer")
    left = current_pins()
    others = [pin["name"] for pin in left["trusted"] if (pin["kind"], pin["identity"]) in gone]
    others += ["own key"] if left["own"] and ("key", left["own"]["fingerprint"]) in gone else []
    if others:
        typer.echo(f"But the same is still trusted as {', '.join(others)}; its bundles go on loading.")


@app.command()
def sign(
    bundle: BundleArgument,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key. Default: the own key.")] = None,
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="Signing certificate of --key.")] = None,
    chain: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Certificates between --certificate and its root. Repeatable.")
    ] = None,
    sigstore: Annotated[bool, typer.Option("--sigstore", help="Sign as an identity that sigstore vouches for.")] = False,
) -> None:
    """Signs a bundle after it was checked to be whole. A signature that is there is replaced."""
    from edgebert.bundle.read import read_whole_bundle
    from edgebert.bundle.trust.policy import check_trust

    if (sigstore and (key or certificate)) or bool(certificate or chain) > bool(certificate and key):
        raise InputError("These do not go together.", hint="--key; --key, --certificate and --chain; or --sigstore.")
    hashes = read_whole_bundle(bundle)[1]
    signer = _sign(bundle, key, certificate, chain or [], sigstore)
    typer.echo(visible(f"{bundle} is signed by {signer.identity} ({signer.name})"))
    try:
        check_trust(bundle, hashes)
    except TrustError as error:
        typer.echo(visible(f"note: it does not load here: {error}"), err=True)


def _sign(bundle: Path, key: Path | None, certificate: Path | None, chain: list[Path], sigstore: bool) -> Signer:
    from edgebert.bundle.trust import sign as signing

    if sigstore:
        return signing.sign_with_sigstore(bundle)
    if key is None:
        return signing.sign_bundle(bundle)
    if certificate is None:
        return signing.sign_with_key(bundle, key)
    return signing.sign_with_certificate(bundle, key, certificate, chain)
