"""Loading, anatomy, tokens, patches and fingerprints of causal language models."""
