"""MEND's editing network: lessons, losses, the network and its training."""
