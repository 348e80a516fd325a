"""How the pocket models are trained: tokenizer, corpus, training loop and card."""
