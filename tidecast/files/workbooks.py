"""A sheet of an Excel file -> columns with types."""

from pathlib import Path

import polars as pl

from tidecast.files.errors import FileError

UNNAMED = "__UNNAMED__"
"""What the reader calls a column that the header has no name for."""


def sheet_of(path: Path, sheet: str | None, skip_lines: int | None) -> tuple[pl.DataFrame, str]:
    """Return a sheet's rows, and which sheet was taken where there are several.

    Args:
        path: of the file.
        sheet: its name; None: the only one that has rows.
        skip_lines: before the header.

    Raises:
        FileError: the package that reads such files is not installed; there is no such sheet, or
            several have rows; or columns have values and no names.
    """
    header = {"header_row": skip_lines} if skip_lines else {}
    try:
        sheets = pl.read_excel(path, sheet_id=0, read_options=header, raise_if_empty=False)
    except ImportError as error:
        raise FileError(
            f"{path}: Excel files take a package that is not installed: pip install fastexcel, or "
            "save the sheet as CSV"
        ) from error
    full = {name: frame for name, frame in sheets.items() if not frame.is_empty()}
    if sheet is not None and sheet not in full:
        raise FileError(f"{path}: no sheet {sheet!r} with rows; there are {', '.join(sheets)}")
    if sheet is None and len(full) > 1:
        raise FileError(f"{path}: several sheets have rows, {', '.join(full)}; say --sheet NAME")
    name = sheet or next(iter(full), next(iter(sheets)))
    frame = sheets[name]
    nameless = [column for column in frame.columns if column.startswith(UNNAMED)]
    void = [column for column in nameless if frame[column].null_count() == len(frame)]
    if len(nameless) > len(void):
        raise FileError(
            f"{path}: columns of sheet {name!r} have values and no names beside "
            f"{frame.columns[0]!r}; do lines stand before the header? --skip-lines leaves them out"
        )
    return frame.drop(void), f"sheet {name!r}" if len(sheets) > 1 else ""
