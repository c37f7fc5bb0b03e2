"""Sentence-transformers folders: what modules.json and the files beside it say, read and checked. No torch, no code.

Only what its own modules mean is followed: Transformer, Pooling, Dense, Normalize, in this order. Other modules, and code of a
folder's own, are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from edgebert.errors import SourceError
from edgebert.models.config_file import refuse_code
from edgebert.models.json_file import read_json, read_list
from edgebert.tasks.embedding_options import Pooling

MODULES, SETTINGS, LENGTH = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
SENTENCE_FILES = (MODULES, SETTINGS, LENGTH, "*/config.json")
"""Names of the files that surround an encoder, as patterns of the Hub."""
OWN_MODULES = "sentence_transformers."
"""What the types of sentence-transformers' own modules begin with."""
FORMER = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Key of a 1_Pooling/config.json before sentence-transformers 5.4, true or false -> the way that later ones name."""
POOLINGS: tuple[str, ...] = get_args(Pooling)
ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": "Tanh",
    "torch.nn.modules.activation.ReLU": "ReLU",
    "torch.nn.modules.activation.GELU": "GELU",
    "torch.nn.modules.activation.SiLU": "SiLU",
    "torch.nn.modules.activation.Sigmoid": "Sigmoid",
    "torch.nn.modules.linear.Identity": "Identity",
}
"""`activation_function` of a Dense module -> its class in torch.nn."""
PLAIN = "Where the model works without it, take its encoder alone: a folder without modules.json."
Config = Mapping[str, Any]


@dataclass(frozen=True)
class DenseLayer:
    """A Dense module: a matrix behind the pooling."""

    folder: str
    inputs: int
    outputs: int
    bias: bool
    activation: str
    """Key of ACTIVATIONS."""


@dataclass(frozen=True)
class SentenceFolder:
    """What a folder says beside its encoder."""

    pooling: str
    normalize: bool
    dense: tuple[DenseLayer, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None
    """Name of the default prompt."""
    max_length: int | None = None
    files: tuple[str, ...] = ()
    """Names of the files that say so, relative to the folder."""


def is_sentence_folder(path: Path) -> bool:
    """Whether a model folder is one of sentence-transformers."""
    return (path / MODULES).is_file()


def read_sentence_folder(path: Path) -> SentenceFolder:
    """Reads what surrounds the encoder.

    Raises:
        SourceError: a module is none of those that are followed, wants to run code, or has settings that are not.
    """
    modules = _modules(path)
    kinds = [kind for kind, _ in modules]
    order = ["Transformer", "Pooling", *["Dense"] * kinds.count("Dense"), *["Normalize"] * kinds.count("Normalize")]
    if kinds != order or kinds.count("Normalize") > 1:
        raise SourceError(
            f"{path / MODULES} has the modules {', '.join(kinds)}; embeddings are Transformer, Pooling, then Dense, then "
            "Normalize.",
            hint=PLAIN,
        )
    settings = _json(path / SETTINGS)
    refuse_code(path / SETTINGS, settings)
    prompts, prompt = _prompts(path, settings)
    if settings.get("similarity_fn_name") == "dot" and "Normalize" not in kinds:
        raise SourceError(f"{path / SETTINGS} compares vectors by their dot product; edgebert by their cosine.", hint=PLAIN)
    inner = path / modules[1][1]
    dense = tuple(_dense(path, folder) for kind, folder in modules if kind == "Dense")
    names = [MODULES, SETTINGS, LENGTH, f"{modules[1][1]}/config.json"]
    names += [f"{layer.folder}/{name}" for layer in dense for name in ("config.json", "model.safetensors")]
    return SentenceFolder(
        pooling=_pooling(inner / "config.json", bool(any(prompts.values()))),
        normalize="Normalize" in kinds,
        dense=dense,
        prompts=prompts,
        prompt=prompt,
        max_length=_length(path),
        files=tuple(name for name in names if (path / name).is_file()),
    )


def _modules(path: Path) -> list[tuple[str, str]]:
    """Kind and folder of each module."""
    found = []
    for module in read_list(path / MODULES):
        kind = module.get("type") if isinstance(module, dict) else None
        if not isinstance(kind, str) or not kind.startswith(OWN_MODULES):
            raise SourceError(
                f"{path / MODULES} names the module {kind!r}, which is code of its own; edgebert never runs such.", hint=PLAIN
            )
        name = kind.rpartition(".")[2]
        if name not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise SourceError(f"{path / MODULES} has a {name} module, which edgebert does not follow.", hint=PLAIN)
        folder = module.get("path", "")
        if not isinstance(folder, str) or PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
            raise SourceError(f"{path / MODULES} names the folder {folder!r}, which leaves the model's.", hint=PLAIN)
        if name == "Transformer" and folder not in ("", "."):
            hint = f"Move its files one folder up, and write an empty path for the Transformer in {MODULES}."
            raise SourceError(f"{path / MODULES} has its encoder in {folder}, as very old models have.", hint=hint)
        found.append((name, folder))
    return found


def _pooling(file: Path, prompted: bool) -> str:
    """The only way of pooling, from either form of the file."""
    config = _json(file)
    named = config.get("pooling_mode", [mode for key, mode in FORMER.items() if config.get(key)] or "mean")
    modes = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else [repr(named)]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise SourceError(
            f"{file} pools by {' and '.join(map(str, modes))}; one of {', '.join(POOLINGS)} is followed.",
            hint="Where one of them is enough, write that one; the model has to be trained for it.",
        )
    if config.get("include_prompt") is False and prompted:
        raise SourceError(
            f"{file} leaves the prompt out of the pooling (include_prompt), which edgebert does not.",
            hint="Set include_prompt to true where the model was trained so.",
        )
    return str(modes[0])


def _dense(path: Path, folder: str) -> DenseLayer:
    config = _json(path / folder / "config.json")
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    sizes = [config.get(key) for key in ("in_features", "out_features")]
    if (
        name not in ACTIVATIONS
        or config.get("use_residual")
        or config.get("module_input_name", "sentence_embedding") != ("sentence_embedding")
    ):
        raise SourceError(
            f"{path / folder / 'config.json'} is a Dense module that edgebert does not follow: its activation is {name}.",
            hint=f"Known: {', '.join(ACTIVATIONS.values())}, without a residual.",
        )
    if not all(type(size) is int and size > 0 for size in sizes):
        raise SourceError(f"{path / folder / 'config.json'} has no whole in_features and out_features.", hint=PLAIN)
    if not (path / folder / "model.safetensors").is_file():
        raise SourceError(
            f"{path / folder} has no model.safetensors; edgebert reads nothing else, because a pickle can run code.",
            hint="Save the model again: SentenceTransformer(...).save(FOLDER)",
        )
    bias = bool(config.get("bias", True))
    return DenseLayer(folder, int(config["in_features"]), int(config["out_features"]), bias, str(name))


def _prompts(path: Path, settings: Config) -> tuple[dict[str, str], str | None]:
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    texts = isinstance(prompts, dict) and all(isinstance(text, str) for text in prompts.values())
    if not texts or (default is not None and default not in prompts):
        raise SourceError(f"{path / SETTINGS} has prompts that are no texts, or a default that is none of them.", hint=PLAIN)
    similarity = settings.get("similarity_fn_name")
    if similarity not in (None, "cosine", "dot"):
        raise SourceError(f"{path / SETTINGS} compares vectors by {similarity}; edgebert by their cosine.", hint=PLAIN)
    return dict(prompts), default


def _length(path: Path) -> int | None:
    config = _json(path / LENGTH)
    if config.get("do_lower_case") and not lowers(path):
        raise SourceError(
            f"{path / LENGTH} asks for lower case (do_lower_case), which its tokenizer.json does not make.",
            hint="Set do_lower_case to false where the model was not trained so, or use an uncased tokenizer.",
        )
    limit = config.get("max_seq_length")
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None


def lowers(path: Path) -> bool:
    """Whether the folder's tokenizer.json makes lower case."""
    normalizer = _json(path / "tokenizer.json").get("normalizer") or {}
    parts: Sequence[Any] = normalizer.get("normalizers") or [normalizer]
    return any(part.get("type") == "Lowercase" or part.get("lowercase") is True for part in parts if isinstance(part, dict))


def _json(file: Path) -> Config:
    return read_json(file) if file.is_file() else {}
