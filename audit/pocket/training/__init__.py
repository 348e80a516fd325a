"""Training of the pocket models: tokenizer, corpus, training loop and card."""
