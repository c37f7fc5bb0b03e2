"""Japanese tokenizers that cut words with a dictionary, which a tokenizer.json has no step for. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.folder import ModelFolder
from edgebert.models.json_file import read_json

CLASSES = ("BertJapaneseTokenizer", "BertJapaneseTokenizerFast")
ANALYSERS = {
    "mecab": ("MeCab", "fugashi unidic-lite"),
    "sudachi": ("Sudachi", "sudachipy sudachidict_core"),
    "jumanpp": ("Juman++", "rhoknp"),
}
"""word_tokenizer_type of tokenizer_config.json -> the name of what cuts the words, and its packages."""
DEFAULT = "basic"
"""What Transformers takes where tokenizer_config.json does not say."""


def refuse_dictionary_words(model: ModelFolder) -> None:
    """Refuses a model whose words are cut by a dictionary.

    Raises:
        SourceError: its tokenizer is Transformers' `BertJapaneseTokenizer`.
    """
    file = model.path / "tokenizer_config.json"
    settings: Mapping[str, Any] = read_json(file) if file.is_file() else {}
    if (settings.get("tokenizer_class") or model.config.get("tokenizer_class")) not in CLASSES:
        return
    kind = str(settings.get("word_tokenizer_type") or DEFAULT)
    if kind not in ANALYSERS:
        raise SourceError(
            f"The tokenizer in {model.path} is a BertJapaneseTokenizer (word_tokenizer_type: {kind}), which Transformers runs "
            "in Python; devices have no Transformers.",
            hint="If its pieces are WordPiece, write tokenizer_class: BertTokenizer into tokenizer_config.json, which makes "
            "the same tokens with words cut at spaces and signs.",
        )
    name, packages = ANALYSERS[kind]
    raise SourceError(
        f"The tokenizer in {model.path} is a BertJapaneseTokenizer, which cuts words with {name} and its dictionary; a "
        "tokenizer.json, which is all that devices have, cannot.",
        hint="Take a Japanese model with a tokenizer.json, of characters or of SentencePiece. This one can label texts for it: "
        f"pip install {packages}, and write the labels that Transformers gives into data.train.",
    )
