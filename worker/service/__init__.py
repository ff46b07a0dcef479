"""The running process: its loop, its recovery, and what is told of it."""
