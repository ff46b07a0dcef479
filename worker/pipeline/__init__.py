"""Entries in, commits out: plain data, no clock, no Redis."""
