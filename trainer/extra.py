"""The packages of the extra ``trainer``; without them there is only help to be had."""

from importlib.util import find_spec

from tidecast.trainer.errors import ExtraError

PACKAGES = (
    "chardet",
    "clevercsv",
    "jinja2",
    "matplotlib",
    "onnx",
    "optuna",
    "polars",
    "statsmodels",
    "tensorflow",
    "tf2onnx",
    "zstandard",
)
"""Names to import, which are those to install."""


def check_extra() -> None:
    """See that the extra is installed before a command begins; this imports none of it.

    A fit would otherwise end where it first misses a package, after minutes of training.

    Raises:
        ExtraError: a package is not there; the message names all that are not.
    """
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        raise ExtraError(
            f"{', '.join(absent)} {verb} not installed; the trainer needs its extra: "
            "pip install 'tidecast[trainer]'"
        )
