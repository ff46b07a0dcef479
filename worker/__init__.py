"""The live half of Tidecast: readings in from Redis streams, forecasts out."""
