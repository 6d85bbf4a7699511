"""Numbers of feeds: a text among them is named, where one bad cell makes texts of a whole column."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from appliedpapers.core.errors import DataError

# prices, sizes and codes under the names that feeds give them; levels of a book carry a number
_NUMBERS = re.compile(
    r"(b?bid|b?ask|best_(bid|ask)|ofr|bidsiz|ofrsiz|corr|price|px|p|qty|size|volume|amount|quantity|q)"
    r"|(bid|ask|b|a)s?[_.\[]?(px|price|p|qty|size|quantity|amount|volume|q)?s?[_.\[\]]*\d{1,2}"
    r"([_.\]]*(px|price|p|qty|size|quantity|amount|volume|q))?\]?"
)


def with_numbers(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return rows of a feed with its prices, sizes and codes as numbers.

    Args:
        frame: As read.
        source: Name in messages.

    Raises:
        DataError: A cell of such a column is none.
    """
    for name in frame.columns:
        if _NUMBERS.fullmatch(str(name).lower()):
            hint = "Leave the cell empty where nothing was seen; decimals have a point."
            frame[name] = numbers_of(frame[name], source, "number", hint, always=True)
    return frame


def numbers_of(column: pd.Series, source: str, what: str, hint: str, *, always: bool = False) -> pd.Series:
    """Return numbers that came as texts as numbers; other columns as they are.

    Args:
        column: Cells.
        source: Name in messages.
        what: What a cell should be, for the message.
        hint: What to do where one is not.
        always: Refuse a column that holds no number at all, too.

    Raises:
        DataError: Some cells are numbers and one is not; empty ones are missing.
    """
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    if bad.size == len(column) and not always:
        return column
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"{source}, column '{column.name}', row {row + 1}: {column.iloc[row]!r} is not a {what}.",
            hint=hint,
        )
    return numbers
