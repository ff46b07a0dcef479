"""What somebody may say of a file, so that nothing of it is guessed."""

from dataclasses import dataclass
from typing import Literal

from tidecast.worker.pipeline.epoch import TimeUnit

USUAL_TIMES = (
    *("timestamp", "ts", "time", "datetime", "date", "ds", "_time", "date_time", "date time"),
    *("@timestamp", "event_time", "timestamp_utc", "utc"),
)
"""What columns of times are called, in lower case."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How a file is laid out; what is None or empty is told by what is in it.

    Attributes:
        separator: between columns, one character.
        decimal: ``.`` or ``,``.
        encoding: of its text, as Python names it.
        sheet: of an Excel file.
        skip_lines: lines before the header.
        skip_footer: lines behind the last row.
        columns: names of its columns, where it has no header.
        rename: columns and the names that they get.
        missing: markers of missing values beside the usual ones.
        series_column: that names the series of each row.
        one_series: whether all rows are of one series, whatever their other columns say.
        series_rows: whether each row is a series, its values beside each other.
        time_column: or several: of date and time of day, or from year downwards.
        time_unit: what numbers as times count.
        time_format: of ``strptime``.
        time_zone: of times that name none.
    """

    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str | None = None
    sheet: str | None = None
    skip_lines: int | None = None
    skip_footer: int = 0
    columns: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    series_column: str | None = None
    one_series: bool = False
    series_rows: bool | None = None
    time_column: str | None = None
    time_unit: TimeUnit = "auto"
    time_format: str | None = None
    time_zone: str | None = None


USUAL = FileOptions()
