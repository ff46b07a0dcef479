"""The live half of Tidecast: readings in from Redis streams, forecasts out."""

import os

# ONNX Runtime would otherwise report to its maker over the network, from its import on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
