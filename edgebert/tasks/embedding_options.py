"""EmbeddingOptions: how tokens become one vector, what is written before texts, and what vectors are given as."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from edgebert.tasks.options import TaskOptions

Pooling = Literal["mean", "cls", "lasttoken", "weightedmean", "max", "mean_sqrt_len_tokens"]
"""Ways from the hidden states of a text's tokens to one vector, by their names in sentence-transformers."""
Vectors = Literal["float32", "int8", "binary"]
Judged = Literal["similarity", "retrieval"]
PASSAGE = ("passage", "document", "corpus")
"""Names that models give the prompt of what is searched, the first that a model has."""
QUERY = "query"


class EmbeddingOptions(TaskOptions):
    """Options of `embedding`. What is left open is as the model's sentence-transformers folder says."""

    seen_outside: ClassVar[frozenset[str]] = frozenset({"pooling", "normalize", "prompts", "prompt", "dimensions", "vectors"})

    pooling: Pooling | None = Field(
        None,
        description="How the vectors of a text's tokens become one. By default as the model's 1_Pooling says, and `mean` for "
        "an encoder without one.",
    )
    normalize: bool | None = Field(
        None,
        description="Whether vectors have the length 1. By default as the model's modules.json says; yes for an encoder "
        "without one.",
    )
    prompts: dict[str, str] | None = Field(
        None,
        description="Name -> text that is written before a text, such as `query: `. Of a retrieval set, `query` goes before "
        "queries and `passage` or `document` before passages. By default those of the model's folder.",
    )
    prompt: str | None = Field(
        None,
        description="Name of the prompt that is written before every other text. By default the model's `default_prompt_name`, "
        "or none.",
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        description="Numbers of a vector that are kept, from the first, for models trained for it (Matryoshka); vectors of the "
        "length 1 have it again afterwards. By default all.",
    )
    vectors: Vectors = Field(
        "float32",
        description="What vectors are given and judged as: float32; int8, with a scale for each vector; or binary, the signs, "
        "of which the 40 nearest are ranked again by the query's own numbers.",
    )
    judged_by: Judged = Field(
        "similarity",
        description="What eval rows are: pairs with a `score`, whose order counts (similarity), or questions with a passage "
        "that answers each, to be found among the passages of all rows (retrieval).",
    )

    @model_validator(mode="after")
    def _prompt_is_named(self) -> Self:
        if self.prompt is not None and self.prompts is not None and self.prompt not in self.prompts:
            raise ValueError(f"prompt is {self.prompt!r}, which is none of `prompts`: {', '.join(self.prompts) or 'empty'}")
        return self

    @model_validator(mode="after")
    def _bits_fill_bytes(self) -> Self:
        if self.vectors == "binary" and self.dimensions is not None and self.dimensions % 8:
            nearest = max(8, self.dimensions // 8 * 8)
            raise ValueError(f"dimensions is {self.dimensions}; binary vectors are whole bytes of 8 numbers each: {nearest}")
        return self

    def before_texts(self) -> str:
        """What is written before a text that is neither a query nor a passage."""
        return (self.prompts or {}).get(self.prompt or "", "")

    def before_queries(self) -> str:
        """What is written before the query of a retrieval set."""
        return (self.prompts or {}).get(QUERY, self.before_texts())

    def before_passages(self) -> str:
        """What is written before the passage of a retrieval set."""
        known = self.prompts or {}
        return next((known[name] for name in PASSAGE if name in known), self.before_texts())
