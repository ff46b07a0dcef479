"""The offline half of Tidecast: fits LSTMs with Keras and exports them as ONNX files."""
