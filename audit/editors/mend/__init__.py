"""MEND's editing network: training data, losses, the network and its training."""
