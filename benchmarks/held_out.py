"""Texts that no vocabulary was cut to: from Debian packages as they are downloaded, or from plain text files.

- fortunes and fortunes-de: quotations, poems and jokes, a text each;
- debian-handbook: the pages of the same book in English and in German, a paragraph each;
- `held-out/de-NAME.txt` and `held-out/en-NAME.txt`: a text a line.
"""

from __future__ import annotations

import html
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

LEAST = 20
"""Characters of a text; shorter lines are headings and names."""
BLOCKS = re.compile(r"</(?:p|li|h\d|td|dt|dd|div)>")
LEFT_OUT = re.compile(r"<(script|style|pre)\b.*?</\1>", re.DOTALL)
MARKUP = re.compile(r"<[^>]+>")
PAGES = {"de": "/html/de-DE/", "en": "/html/en-US/"}
Texts = dict[str, list[str]]


def held_out(folder: Path) -> Texts:
    """`language: name` -> the texts, each once; empty where the folder has none of the files."""
    found = {**_fortunes(folder), **_handbook(folder), **_plain(folder)}
    return {name: list(dict.fromkeys(texts)) for name, texts in sorted(found.items()) if texts}


def _plain(folder: Path) -> Texts:
    files = sorted((folder / "held-out").glob("??-*.txt"))
    return {f"{file.stem[:2]}: {file.stem[3:]}": list(_long(file.read_text(encoding="utf-8").splitlines())) for file in files}


def _fortunes(folder: Path) -> Texts:
    found: Texts = {}
    for language, package in (("de", "fortunes-de"), ("en", "fortunes")):
        for file in sorted(folder.glob(f"{package}_*.deb")):
            members = _members(file, f"/games/fortunes/{'de/' if language == 'de' else ''}")
            texts = (text for name, content in members if "." not in name for text in content.split("\n%\n"))
            found[f"{language}: fortunes"] = list(_long(texts))
    return found


def _handbook(folder: Path) -> Texts:
    found: Texts = {}
    for file in sorted(folder.glob("debian-handbook_*.deb")):
        for language, place in PAGES.items():
            pages = (content for name, content in _members(file, place) if name.endswith(".html"))
            found[f"{language}: handbook"] = list(_long(paragraph for page in pages for paragraph in _paragraphs(page)))
    return found


def _paragraphs(page: str) -> Iterator[str]:
    for block in BLOCKS.split(LEFT_OUT.sub(" ", page)):
        yield html.unescape(MARKUP.sub(" ", block))


def _long(texts: Iterator[str] | list[str]) -> Iterator[str]:
    for text in texts:
        joined = " ".join(text.split())
        if len(joined) >= LEAST:
            yield joined


def _members(package: Path, place: str) -> Iterator[tuple[str, str]]:
    """(file name, text) of the files of a Debian package directly in a folder whose path ends so."""
    with tarfile.open(fileobj=io.BytesIO(_data_of(package))) as archive:
        for member in archive:
            _, found, name = member.name.partition(place)
            if member.isfile() and found and "/" not in name:
                content = archive.extractfile(member)
                assert content is not None
                yield name, content.read().decode("utf-8", errors="ignore")


def _data_of(package: Path) -> bytes:
    """The member data.tar.* of a Debian package, which is an archive of ar: headers of 60 bytes, contents at even places."""
    content, at = package.read_bytes(), 8
    while at < len(content):
        name, size = content[at : at + 16].decode().strip(" /"), int(content[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return content[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError(f"{package} has no data.tar")
