"""Trains ``torch.nn.LSTM`` for ``bench_trainer``, which says when; needs PyTorch and NumPy alone.

For each line on stdin one round of steps is trained, and its seconds are written. It has a process
of its own because PyTorch and TensorFlow bring an LLVM each and do not bear each other.
"""

import sys
import time

import torch


def main(n_steps: int, units: int, batch: int, steps: int) -> None:
    """Answer each line with the seconds of a round."""
    lstm, head = torch.nn.LSTM(1, units, batch_first=True), torch.nn.Linear(units, 1)
    optimizer = torch.optim.AdamW([*lstm.parameters(), *head.parameters()], 1e-3)
    inputs, outputs = torch.randn(batch, n_steps, 1), torch.randn(batch, 1)
    for _ in sys.stdin:
        begun = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            (head(lstm(inputs)[0][:, -1]) - outputs).abs().mean().backward()
            optimizer.step()
        sys.stdout.write(f"{time.perf_counter() - begun}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
