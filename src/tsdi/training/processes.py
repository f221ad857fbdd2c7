"""The processes of one training, of which the first one writes."""

import torch
from accelerate import PartialState


def accelerated() -> bool:
    """Whether there is a device that training is faster on than on the CPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def processes() -> PartialState:
    """What this process knows of the others; alone it is the main process."""
    return PartialState(cpu=not accelerated())  # on CPUs only those who say so find each other
