"""Small mistakes made on purpose, and which tests find them; imports nothing of Tidecast."""

CONTEXT = "MUTANTS_CONTEXT"
"""The environment variable that tells a test's processes which test they belong to."""
