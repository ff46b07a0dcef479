"""The text of a file: packed or not, in any encoding -> bytes of UTF-8."""

import bz2
import codecs
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import chardet
import zstandard

from tidecast.files.errors import FileError

HEAD = 100_000
"""Bytes by which a file's kind is told."""
MOST_NAMES = 5
Unpack = Callable[[BinaryIO], Any]
PACKED: dict[bytes, tuple[str, Unpack]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"\x28\xb5\x2f\xfd": ("zstd", zstandard.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
ZIP = b"PK\x03\x04"
ZIP_ERRORS = zipfile.BadZipFile, RuntimeError, NotImplementedError
"""Of a broken archive, one with a password, and one packed in a way that is not known."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WESTERN = frozenset(
    bytes.fromhex(
        "80 85 91 92 93 94 95 96 97 9c a0 a3 a5 a7 a9 aa ab ae b0 b1 b2 b3 b4 b5 b7 ba bb bc bd be"
        "c0 c1 c3 c4 c5 c6 c7 c8 c9 ca cd ce d1 d3 d4 d5 d6 d7 d8 da dc df e0 e1 e2 e3 e4 e5 e6 e7"
        "e8 e9 ea eb ec ed ee ef f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc"
    )
)
"""Bytes beyond ASCII that most files of Windows-1252 keep to: units, quotes, western letters."""


@dataclass(frozen=True)
class Text:
    """A file's text.

    Attributes:
        head: its first lines, decoded.
        whole: the path, where that is plain UTF-8, or its text in UTF-8.
        told: what somebody should know of how it was read.
    """

    head: str
    whole: Path | bytes
    told: tuple[str, ...]


RUN = re.compile(rb"[\xc0-\xff]{3}")
"""Letters in a row that no western word has, and most others do."""


def text_of(path: Path, encoding: str | None = None) -> Text:
    """Return the text of a file.

    Raises:
        FileError: it is absent or empty, its packing is broken, or its encoding is not known.
    """
    try:
        head, whole, packed = _bytes(path)
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file; name a CSV or Parquet file") from error
    except (
        OSError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
        *ZIP_ERRORS,
    ) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: cannot be read ({reason}); name a CSV or Parquet file") from error
    if not head.strip():
        raise FileError(f"{path}: an empty file; a header line and rows of numbers are needed")
    told = [packed] * bool(packed)
    encoding = encoding or _marked(head)
    if encoding is None and _is_utf8(head):
        text = head.decode("utf-8", "ignore")
        if not _of_old_macs(text):
            return Text(text, path if whole is None else whole, tuple(told))
        encoding = "utf-8"
    whole = path.read_bytes() if whole is None else whole
    encoding = encoding or _guessed(path, whole)
    if encoding not in ("utf-8-sig", "utf-8"):
        told.append(encoding)
    try:
        text = whole.decode(encoding)
    except UnicodeDecodeError as error:
        raise FileError(_not_in(path, encoding, error)) from error
    except (LookupError, ValueError) as error:
        raise FileError(f"--encoding {encoding}: no such encoding; utf-8 is one, cp1252") from error
    if _of_old_macs(text[:HEAD]):
        text = text.replace("\r", "\n")
    return Text(text[:HEAD], text.encode(), tuple(told))


def _of_old_macs(head: str) -> bool:
    """Tell whether lines end in carriage returns alone."""
    return "\r" in head and "\n" not in head


def _bytes(path: Path) -> tuple[bytes, bytes | None, str]:
    """Return the head of a file; all of it, where it is packed; and how it is packed."""
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(0)
        if start.startswith(ZIP):
            whole = _only_member(path, file)
            return whole[:HEAD], whole, "zip"
        for mark, (kind, unpack) in PACKED.items():
            if start.startswith(mark):
                with unpack(file) as unpacked:
                    whole = unpacked.read()
                return whole[:HEAD], whole, kind
        return file.read(HEAD), None, ""


def _only_member(path: Path, file: BinaryIO) -> bytes:
    """Return the one file in a zip archive.

    Raises:
        FileError: it holds several, or none.
    """
    with zipfile.ZipFile(file) as archive:
        names = [one.filename for one in archive.infolist() if not one.is_dir()]
        if len(names) != 1:
            some = ", ".join(names[:MOST_NAMES])
            raise FileError(
                f"{path}: an archive of {len(names)} files ({some}); unpack the one to read"
            )
        return archive.read(names[0])


def not_utf8(path: Path) -> FileError:
    """Return what is wrong with a file that is UTF-8 at its beginning, and not throughout."""
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError as error:
        return FileError(_not_in(path, "utf-8", error))
    return FileError(f"{path}: cannot be read as text; name its encoding with --encoding")


def _not_in(path: Path, encoding: str, error: UnicodeDecodeError) -> str:
    line = error.object[: error.start].count(b"\n") + 1
    odd = error.object[error.start : error.start + 4]
    guess = chardet.detect(error.object[max(0, error.start - 50_000) :][:100_000])["encoding"]
    other = f" (it looks like {guess}: --encoding {guess})" if guess else ""
    return (
        f"{path}, line {line}: {odd!r} is no {encoding}; name the encoding of the file with "
        f"--encoding{other}"
    )


def _marked(head: bytes) -> str | None:
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def _guessed(path: Path, whole: bytes) -> str:
    """Return Windows-1252, if what is beyond ASCII is what people write with it.

    Raises:
        FileError: it is not.
    """
    western = set(whole) - set(range(128)) <= WESTERN and not RUN.search(whole)
    if b"\0" not in whole[:HEAD] and western:
        return "cp1252"
    guess = chardet.detect(whole[:HEAD])["encoding"]
    if guess and guess.lower() not in ("utf-8", "ascii", "binary"):
        raise FileError(
            f"{path}: not UTF-8; it looks like {guess}: --encoding {guess}, or whichever it is"
        )
    raise FileError(f"{path}: no text in UTF-8; name its encoding with --encoding, or another file")
