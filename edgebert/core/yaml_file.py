"""A YAML file that users write: its values with their lines, and every problem at once, each with the nearest right name."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edgebert.core.files import open_regular
from edgebert.core.yaml_bounds import MAX_DEPTH, MAX_VALUES, UnusableValue, refuse_number, refuse_tag, require_small
from edgebert.errors import InputError, MissingPackage, Problem, ProblemsError

MAX_BYTES = 1 << 20
SUFFIXES = (".yaml", ".yml")

UNUSABLE = re.compile("[\0\ud800-\udfff]")  # NUL and lone surrogates
UNION_TAGS = ("literal[", "tuple[")
"""How pydantic begins the parts of a path that name a form of a value and not a key."""

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of file, such as a recipe."""

    noun: str
    """With its article, for messages: `a recipe`."""
    error: type[ProblemsError]
    extra: str
    """Extra of the package that installs the YAML reader."""


@dataclass
class YamlDocument:
    """Plain values, and the line of each path into them."""

    value: Any
    lines: dict[Path_, int] = field(default_factory=dict)

    def line(self, path: Path_) -> int | None:
        """Line of a part, or of the nearest part around it."""
        return line_of(self.lines, path)


def line_of(lines: Mapping[Path_, int], path: Path_) -> int | None:
    """Line of a part of a document, or of the nearest part around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def read_text(path: Path, kind: Kind) -> str:
    """The file's text.

    Raises:
        InputError: it is too large, unreadable or not UTF-8.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"{path} is larger than 1 MB; that is not {kind.noun}.", hint="Name a YAML file.")
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}).", hint="Save it as UTF-8.") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint=_nearest_file(path)) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Name a YAML file that you may read.") from error


def _nearest_file(path: Path) -> str:
    """A hint that names a file of a similar name in the same folder."""
    try:
        names = sorted(file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES)
    except OSError:
        return f"There is no folder {path.parent}."
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"Did you mean {path.with_name(close[0])}?" if close else "Is its name right, and the folder?"


def parse_yaml(text: str, source: str, kind: Kind) -> YamlDocument:
    """YAML 1.2 to plain values with their lines.

    Raises:
        ProblemsError: the text is not YAML, or repeats a key. The class is the kind's.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError as error:
        raise MissingPackage("ruamel.yaml", needed_for=f"Reading {kind.noun}", extra=kind.extra) from error
    try:
        require_small(text)
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise kind.error(source, [Problem("", f"not valid YAML: {error.problem}", line)]) from error
    except RecursionError as error:
        raise kind.error(source, [Problem("", f"nested too deeply; that is not {kind.noun}")]) from error
    except OverflowError as error:
        raise kind.error(source, [Problem("", f"{error}; that is not {kind.noun}")]) from error
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:  # of a tag that does not fit its value
        first = (str(error).splitlines() or [""])[0][:200]
        raise kind.error(source, [Problem("", f"not valid YAML: {type(error).__name__}: {first}")]) from error
    document = YamlDocument(None)
    try:
        document.value = _plain(tree, (), document.lines)
    except UnusableValue as error:
        place = ".".join(map(str, error.path))
        raise kind.error(source, [Problem(place, str(error), document.line(error.path) or _line_of(tree))]) from error
    except OverflowError as error:
        raise kind.error(source, [Problem("", f"{error}; that is not {kind.noun}")]) from error
    if problems := list(_unusable_texts(document.value, ())):
        placed = [Problem(".".join(map(str, path)), message, document.line(path)) for path, message in problems]
        raise kind.error(source, placed)
    return document


def _line_of(node: Any) -> int | None:
    line = getattr(getattr(node, "lc", None), "line", None)
    return line + 1 if isinstance(line, int) else None


def _plain(node: Any, path: Path_, lines: dict[Path_, int]) -> Any:
    if len(lines) > MAX_VALUES:
        raise OverflowError(f"more than {MAX_VALUES} values")
    if len(path) > MAX_DEPTH:
        raise OverflowError("nested too deeply")
    refuse_tag(node, path)
    if isinstance(node, Mapping):
        for key in node:
            lines[(*path, str(key))] = _line_of_key(node, key)
        return {str(key): _plain(value, (*path, str(key)), lines) for key, value in node.items()}
    if isinstance(node, list):
        marks: Any = node  # ruamel's list knows the line of each item
        for index in range(len(node)):
            lines[(*path, index)] = _line_of_item(marks, index)
        return [_plain(value, (*path, index), lines) for index, value in enumerate(node)]
    if node is None or isinstance(node, bool):
        return node
    for kind in (int, float):
        if isinstance(node, kind):
            refuse_number(node, path)
            return kind(node)
    return str(node)


def _line_of_item(node: Any, index: int) -> int:
    try:
        return int(node.lc.item(index)[0]) + 1
    except (TypeError, KeyError):  # ruamel loses the lines of some tagged lists
        return int(node.lc.line or 0) + 1


def _unusable_texts(value: Any, path: Path_) -> Iterator[tuple[Path_, str]]:
    """Path and fault of each text that no file name, label or JSON document can hold."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _unusable_texts(inner, (*path, key))
    elif isinstance(value, str) and (unusable := UNUSABLE.search(value)):
        yield path, f"holds the character U+{ord(unusable.group()):04X}, which cannot stand in a text"


def _line_of_key(node: Any, key: Any) -> int:
    try:
        return int(node.lc.key(key)[0]) + 1
    except (KeyError, TypeError):  # a key that came in by a merge (<<), or one of a tagged list of pairs
        return int(node.lc.line or 0) + 1


def problems_of(document: YamlDocument, error: ValidationError, fields_at: Callable[[Path_], Sequence[str]]) -> list[Problem]:
    """The problems that pydantic reports, in the words and at the lines of the file.

    Args:
        fields_at: names of the fields that may stand at a path.
    """
    return [_problem(document, path, entry, fields_at) for path, entry in _innermost(error.errors())]


def without_repeats(problems: Sequence[Problem]) -> list[Problem]:
    """Each problem once."""
    return list({(problem.path, problem.message): problem for problem in problems}.values())


def _innermost(errors: Sequence[Any]) -> Iterator[tuple[Path_, Any]]:
    """One error for each path, without errors that only wrap a deeper one: a list that lacks its faulty entry, the other forms
    that a value could have had."""
    by_path: dict[Path_, Any] = {}
    for entry in errors:
        path = tuple(part for part in entry["loc"] if isinstance(part, int) or not part.startswith(UNION_TAGS))
        by_path.setdefault(path, entry)
    for path, entry in by_path.items():
        if not any(other[: len(path)] == path for other in by_path if len(other) > len(path)):
            yield path, entry


def _problem(document: YamlDocument, path: Path_, entry: Any, fields_at: Callable[[Path_], Sequence[str]]) -> Problem:
    kind, context = entry["type"], entry.get("ctx", {})
    line = document.line(path)
    name = ".".join(map(str, path))
    if kind == "extra_forbidden":
        return Problem(name, "unknown key.", line, nearest(str(path[-1]), fields_at(path[:-1])))
    if kind == "missing":
        return Problem(name, "is missing", line or 1)
    if kind in ("literal_error", "enum"):
        allowed = _literals(context.get("expected", ""))
        return Problem(name, f"{shown_value(entry['input'])} is not known.", line, nearest(str(entry["input"]), allowed))
    if kind == "too_short":
        return Problem(name, "needs at least one entry", line)
    # pydantic speaks of JSON, the file is YAML
    message = entry["msg"].removeprefix("Value error, ").replace("valid array", "list").replace("an object", "a mapping")
    shown = "" if kind == "value_error" else f", got {shown_value(entry['input'])}"
    return Problem(name, f"{message[0].lower()}{message[1:]}{shown}", line)


def shown_value(value: Any) -> str:
    """A value as an error shows it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _literals(expected: str) -> list[str]:
    return [part.strip("' ") for part in expected.replace(" or ", ",").split(",") if part.strip("' ")]


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint: the most similar known name, or all known names."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean `{close[0]}`?"
    return f"Known: {', '.join(known)}." if known else ""


def model_of(annotation: Any) -> Any:
    """The first pydantic model in a field's type; None where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_of(part))), None)
