"""The offline half of Tidecast: fits LSTMs with Keras and exports them as ONNX files."""

import os

# ONNX Runtime would otherwise report to its maker over the network, from its import on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
