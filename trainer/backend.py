"""Imports TensorFlow and Keras without their start-up chatter."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def load_tensorflow() -> None:
    """Import TensorFlow and Keras, quietly; a second call does nothing.

    TensorFlow's C++ side writes to file descriptor 2 before its log level counts, so the descriptor
    itself is turned aside for the length of the import. Errors are exceptions and still arrive.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _descriptor_aside(2):
        import keras
        import tensorflow as tf

        tf.constant(0) + tf.constant(0)  # the first operation logs once more
        keras.backend.clear_session()


def device() -> str:
    """Return in words what TensorFlow computes on: a GPU if it finds one."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if not found:
        return f"{os.cpu_count()} processors; TensorFlow finds no GPU"
    names = [tf.config.experimental.get_device_details(one).get("device_name") for one in found]
    return f"GPU: {', '.join(str(name) for name in names)}"


@contextmanager
def _descriptor_aside(descriptor: int) -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(descriptor)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(nowhere)
