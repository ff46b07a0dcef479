"""Months, quarters and weeks as text -> the first day of each, as ISO 8601; pure."""

import re

import polars as pl

NAMED = r"^(?<month>[A-Za-z]{3,9})[ /-](?<year>\d{4})$"
LED = r"^(?<year>\d{4})[ /-](?<month>[A-Za-z]{3,9})$"
SHORT = r"^(?<month>[A-Za-z]{3})[ '/-](?<year>\d\d)$"
MONTHS = (r"^(?<year>\d{4})[-/](?<month>\d\d?)$", r"^(?<month>\d\d?)[-/](?<year>\d{4})$")
QUARTERS = (
    r"^(?<year>\d{4})[ /:-]?[Qq](?<quarter>[1-4])$",
    r"^[Qq](?<quarter>[1-4])[ /:-]?(?<year>\d{4})$",
)
WEEKS = r"^(?<year>\d{4})-?[Ww](?<week>\d\d)$"
CHANGES = 0.9
"""The share of rows whose month is another than that of the row before, where rows are months."""
DAY = re.compile(r"%[-_0]?[deDFjxcsuwvUWV+]")
"""What a form of times says of the day."""


def first_days(text: pl.Series) -> tuple[pl.Series, str]:
    """Return the first days of months, quarters or weeks, and which of these they are ``[rows]``.

    Args:
        text: null where it is missing; other text comes back as it is, with "".
    """
    for pattern in (*MONTHS, *QUARTERS, WEEKS, NAMED, LED, SHORT):
        if not text.str.contains(pattern).all():  # nulls count as true
            continue
        parts = text.str.extract_groups(pattern).struct.unnest()
        days, period = _days(parts)
        if pattern == SHORT and not _are_months(parts):
            break
        if days.null_count() == text.null_count():
            return days.cast(pl.String).alias(text.name), period
    return text, ""


def _days(parts: pl.DataFrame) -> tuple[pl.Series, str]:
    year = parts["year"]
    if "week" in parts:
        monday = year + "-W" + parts["week"] + "-1"
        return monday.str.to_date("%G-W%V-%u", strict=False), "week"
    if "quarter" in parts:
        month = (3 * parts["quarter"].cast(pl.Int64) - 2).cast(pl.String)
        return (year + "-" + month + "-1").str.to_date("%Y-%m-%d", strict=False), "quarter"
    written = year + "-" + parts["month"] + "-1"
    century = "%y" if (year.str.len_chars() == 2).any() else "%Y"
    days = [
        written.str.to_date(f"{century}-{month}-%d", strict=False) for month in ("%m", "%b", "%B")
    ]
    return pl.select(pl.coalesce(*days)).to_series(), "month"


def _are_months(parts: pl.DataFrame) -> bool:
    """Tell whether ``Jan-05`` is January 2005 and not its fifth day."""
    month = parts["month"].drop_nulls()
    changes = (month != month.shift()).drop_nulls()
    return len(changes) > 0 and bool(changes.sum() >= CHANGES * len(changes))


def with_day(text: pl.Series, form: str) -> tuple[pl.Series, str]:
    """Return text and the form of it with a day, the first of a month, if the form has none."""
    if DAY.search(form) or ("%m" not in form and "%b" not in form and "%B" not in form):
        return text, form
    return ("01 " + text).alias(text.name), f"%d {form}"
