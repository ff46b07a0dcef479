"""Live forecasts for streams of readings: ``tidecast.worker`` serves, ``tidecast.trainer`` fits.

The folders ``worker/`` and ``trainer/`` of the repository are linked here, so that a checkout has
the names that an installation has.
"""
