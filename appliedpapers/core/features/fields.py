"""What each column of a table is for. Light: configurations hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from appliedpapers.core.config import Section
from appliedpapers.core.errors import ConfigError

Role = Literal[
    "label", "weight", "categorical", "numeric", "sequence", "timestamp", "group", "split", "ignore"
]
Part = Literal["hour", "weekday", "weekend", "month"]

ONCE: tuple[Role, ...] = ("label", "weight", "timestamp", "group", "split")
INPUTS: tuple[Role, ...] = ("categorical", "numeric", "sequence")


class FieldSpec(Section):
    """The role of one column and how it is turned into numbers."""

    role: Role = Field(description="what the column is for")
    min_count: int = Field(
        1, ge=1, description="categorical, sequence: rarer tokens of the train rows count as never seen"
    )
    hash_buckets: int | None = Field(
        None, ge=2, le=2**30, description="categorical, sequence: hash into so many ids; null: a vocabulary"
    )
    max_len: int = Field(20, ge=1, le=10_000, description="sequence: the last so many tokens are kept")
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="sequence: the character between tokens; null for lists"
    )
    normaliser: Literal["standard", "min-max", "none"] = Field(
        "standard", description="numeric: how values are scaled, by the train rows"
    )
    bucket: Literal["quantile", "log-square"] | None = Field(
        None,
        description="numeric: turned into a categorical by its train quantiles, or floor(ln(x)^2); null: not",
    )
    bins: int = Field(20, ge=2, le=10_000, description="numeric: number of quantile buckets")
    indicator: Literal["auto", "always", "never"] = Field(
        "auto",
        description="numeric: a field of its own says that the value is missing; auto where train has any",
    )
    format: str | None = Field(
        None, description="timestamp: strptime format of a text column, such as %y%m%d%H; null: ISO 8601"
    )
    derive: tuple[Part, ...] = Field(
        ("hour", "weekday"), description="timestamp: the categorical fields made from it"
    )
    optional: bool = Field(False, description="may be absent from the rows to predict; then it is missing")
    carry: bool = Field(False, description="ignore: carried into the predictions, as row ids are")

    @model_validator(mode="after")
    def _options_belong_to_the_role(self) -> FieldSpec:
        given = self.model_fields_set - {"role"}
        for option, roles in _BELONGS.items():
            if option in given and self.role not in roles:
                raise ValueError(
                    f"'{option}' is an option of {' and '.join(roles)} columns, not of {self.role}"
                )
        return self

    @model_serializer(mode="wrap")
    def _with_the_options_of_its_role(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # the others would be refused when a stored configuration is read again
        values: dict[str, Any] = handler(self)
        return {
            name: value for name, value in values.items() if self.role in _BELONGS.get(name, (self.role,))
        }


_BELONGS: Mapping[str, tuple[Role, ...]] = {
    "min_count": ("categorical", "sequence"),
    "hash_buckets": ("categorical", "sequence"),
    "max_len": ("sequence",),
    "separator": ("sequence",),
    "normaliser": ("numeric",),
    "bucket": ("numeric",),
    "bins": ("numeric",),
    "indicator": ("numeric",),
    "format": ("timestamp",),
    "derive": ("timestamp",),
    "optional": (*INPUTS, "timestamp"),
    "carry": ("ignore",),
}

Fields = Mapping[str, FieldSpec]


def check_fields(fields: Fields) -> None:
    """Refuse roles that contradict one another.

    Raises:
        ConfigError: There is not exactly one label, a role that stands once stands twice, or nothing is
            left to learn from; the columns are named.
    """
    for role in ONCE:
        named = [name for name, field in fields.items() if field.role == role]
        if len(named) > 1:
            raise ConfigError(
                f"{len(named)} columns have the role {role}: {', '.join(named)}.",
                hint="Keep one and give the others another role, such as ignore.",
            )
        if role == "label" and not named:
            raise ConfigError("no column has the role label.", hint="Give it to the 0/1 column to predict.")
    if not any(
        field.role in INPUTS or (field.role == "timestamp" and field.derive) for field in fields.values()
    ):
        raise ConfigError(
            "no column is left to learn from.", hint="Give a role: categorical, numeric or sequence."
        )


def column_of(fields: Fields, role: Role) -> str | None:
    """Return the one column of a role that stands once, or None."""
    return next((name for name, field in fields.items() if field.role == role), None)
