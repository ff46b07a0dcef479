"""The commands: what talks to people."""
