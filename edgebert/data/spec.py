"""How a recipe names a data set: DataSpec, and CalibrationSpec with a number of samples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from edgebert.core.strict import Strict
from edgebert.data.shipped import AS_TEXT, is_shipped, shipped_file

DATA_FORMATS = ("csv", "tsv", "jsonl", "parquet", "arrow", "squad", "conll")


class DataSpec(Strict):
    """One data set: a file, or a data set on the Hub."""

    path: str | None = Field(
        None,
        min_length=1,
        description="A file, or a folder of `save_to_disk`, relative to the recipe. `shipped://sentences-de`: sentences that "
        "come with edgebert, in ar, de, en, es and zh.",
    )
    hub: str | None = Field(None, min_length=1, description="A Hub data set, for example `nyu-mll/glue`.")
    config: str | None = Field(None, description="Hub only: the configuration, for example `sst2`.")
    split: str | None = Field(
        None, description="Hub only: the split. By default `train` for train, `validation` for eval and select."
    )
    revision: str | None = Field(None, description="Hub only: a commit, tag or branch.")
    format: Literal[DATA_FORMATS] | None = Field(None, description="By default what the file's ending says.")  # type: ignore[valid-type]
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="The task's column -> the file's column, for example `text: sentence`. Same names need no entry.",
    )
    label_columns: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Multi-label only: columns of 0 and 1, each of which is a label, for example `[toxic, insult]`.",
    )
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="CSV and TSV: the separator.")
    quoting: Literal["standard", "none"] | None = Field(
        None,
        description=(
            'CSV and TSV: `none` reads " as an ordinary character. '
            "By default standard for .csv, and none for .tsv unless pandas wrote it."
        ),
    )
    header: Literal["none"] | None = Field(
        None, description="CSV and TSV: `none` where the first line is a row; the columns are then `1`, `2`, ..."
    )
    limit: int | None = Field(None, ge=1, description="Only so many rows, drawn by the seed.")

    @model_validator(mode="before")
    @classmethod
    def _shipped(cls, values: object) -> object:
        """A set that comes with edgebert says by itself how it is read."""
        if not isinstance(values, dict) or not is_shipped(values.get("path")):
            return values
        shipped_file(values["path"])
        return {**AS_TEXT, **values}

    @field_validator("columns", mode="before")
    @classmethod
    def _names(cls, columns: object) -> object:
        """Columns of a file without a header are numbers, which YAML reads as such."""
        if not isinstance(columns, dict):
            return columns
        return {name: str(column) if type(column) is int else column for name, column in columns.items()}

    @model_validator(mode="after")
    def _one_origin(self) -> DataSpec:
        if (self.path is None) == (self.hub is None):
            raise ValueError("needs either `path` (a file) or `hub` (a Hub data set)")
        misplaced = [name for name in ("config", "split", "revision") if self.path and getattr(self, name)]
        if misplaced:
            raise ValueError(f"`{misplaced[0]}` belongs to a `hub` data set, not to a `path`")
        return self


class CalibrationSpec(DataSpec):
    """Sentences whose activations set the ranges of static quantisation. Labels are not needed."""

    samples: int = Field(128, ge=1, description="How many rows to take, chosen by the seed.")
