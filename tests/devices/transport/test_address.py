"""How a device is named: what each form means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebert.devices.transport.address import LocalAddress, SshAddress, parse_address
from edgebert.errors import InputError

REMOTE = {
    "kitchen": SshAddress("kitchen"),
    "pi@kitchen": SshAddress("kitchen", "pi"),
    "pi@kitchen:models": SshAddress("kitchen", "pi", root="models"),
    "pi@kitchen:models/bert": SshAddress("kitchen", "pi", root="models/bert"),
    "pi@kitchen:~/models": SshAddress("kitchen", "pi", root="models"),
    "pi@kitchen:/srv/models": SshAddress("kitchen", "pi", root="/srv/models"),
    "pi@kitchen:": SshAddress("kitchen", "pi"),
    "192.0.2.7": SshAddress("192.0.2.7"),
    "pi@192.0.2.7:models": SshAddress("192.0.2.7", "pi", root="models"),
    "someone@example.org@kitchen": SshAddress("kitchen", "someone@example.org"),
    "[fe80::1%eth0]": SshAddress("fe80::1%eth0"),
    "pi@[fe80::1]:models": SshAddress("fe80::1", "pi", root="models"),
    "ssh://kitchen": SshAddress("kitchen"),
    "ssh://pi@kitchen:2222": SshAddress("kitchen", "pi", 2222),
    "ssh://pi@kitchen:2222/srv/models": SshAddress("kitchen", "pi", 2222, "/srv/models"),
    "ssh://pi@kitchen/~/models": SshAddress("kitchen", "pi", None, "models"),
    "ssh://pi@kitchen/": SshAddress("kitchen", "pi"),
    "ssh://pi@[2001:db8::7]:2222/srv/x": SshAddress("2001:db8::7", "pi", 2222, "/srv/x"),
}


@pytest.mark.parametrize("text", REMOTE)
def test_an_address_of_a_host_means(text: str) -> None:
    assert parse_address(text) == REMOTE[text]


@pytest.mark.parametrize("text", ["./kitchen", "../kitchen", "kitchen/slots", "/srv/x", ".", "..", "here"])
def test_an_address_of_a_folder_means_that_folder(text: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    address = parse_address(text, base=tmp_path)
    assert isinstance(address, LocalAddress)
    assert address.folder == (tmp_path / text).resolve()
    assert address.folder.is_absolute()


def test_a_folder_of_the_own_home_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_address("~/kitchen") == LocalAddress(tmp_path / "kitchen")


REFUSED = {
    "": "is empty",
    "  ": "is empty",
    "-oProxyCommand=touch /tmp/x": "looks like an option",
    "-v": "looks like an option",
    "pi@-oProxyCommand=x": "no name of a host",
    "-l@kitchen": "looks like an option",
    "pi:secret@kitchen": "password",
    "pi:secret@kitchen:folder": "password",
    "ssh://pi:secret@kitchen": "password",
    "ssh://pi:@kitchen": "password",
    "http://kitchen": "http:// is no way",
    "sftp://kitchen/x": "sftp:// is no way",
    "ssh://": "no name of a host",
    "ssh://pi@": "no name of a host",
    "ssh://@kitchen": "no name of a user",
    "ssh://kitchen:0": "no port",
    "ssh://kitchen:65536": "no port",
    "ssh://kitchen:twenty": "no port",
    "ssh://kitchen:": "no port",
    "ssh://kitchen:٢٢": "no port",
    "ssh://kitchen?x=1": "after \\? or #",
    "ssh://kitchen/a#b": "after \\? or #",
    "ssh://fe80::1": "stands in brackets",
    "fe80::1": "stands in brackets",
    "pi@fe80::1": "stands in brackets",
    "[fe80::zz]": "no IPv6 address",
    "[kitchen]": "no IPv6 address",
    "[fe80::1]x": "only :folder can stand",
    "ssh://[fe80::1]x": "only :port can stand",
    "ssh://[fe80::1%a b]": "no IPv6 address",
    "kit chen": "no name of a host",
    "kitchen;reboot": "no name of a host",
    "$(reboot)": "no name of a host",
    "`reboot`": "no name of a host",
    "kitchen\n": "characters that cannot stand",
    "kitchen\x1b[2J": "characters that cannot stand",
    "kitchen\0": "characters that cannot stand",
    "pi@kitchen:a\nb": "characters that cannot stand",
    "кухня": "no name of a host",
    "C:\\models": "path of Windows",
    "C:/models": "path of Windows",
    "\\\\kitchen\\share": "path of Windows",
    "pi@kitchen:..": "leads upwards",
    "pi@kitchen:a/../../b": "leads upwards",
    "pi@kitchen:~": "no folder of its own",
    "pi@kitchen:.": "no folder of its own",
    "pi@kitchen:/": "no folder of its own",
    "pi@kitchen:~root/x": "somebody else's home",
    "pi@kitchen:-x": "looks like an option",
    "x" * 2000: "too long",
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_address_is_refused_in_words(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=REFUSED[text]) as error:
        parse_address(text, base=tmp_path)
    assert error.value.hint
    assert "secret" not in str(error.value)


@given(
    st.text(max_size=60)
    | st.from_regex(r"(ssh://)?([a-z:@]{0,6}@)?[a-z\[\]:.%-]{0,12}(:\d{0,6})?(/[a-z~./-]{0,9})?", fullmatch=True)
)
def test_any_text_is_an_address_or_refused_and_nothing_of_it_becomes_an_option(text: str) -> None:
    try:
        address = parse_address(text, base=Path("/nowhere"))
    except InputError as error:
        assert error.hint or "cannot be used here" in error.message
        return
    if isinstance(address, SshAddress):
        for part in (address.host, address.user or "x", address.root):
            assert part and not part.startswith("-") and part.isprintable()
        assert ".." not in address.root.split("/")
        assert address.port is None or 0 < address.port < 65536
    else:
        assert address.folder.is_absolute()
