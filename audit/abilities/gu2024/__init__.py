"""The eight abilities as Gu et al. (2024, arXiv 2401.04700) ask them, one file each; `--protocol gu2024`.

For numbers that can be read beside that paper's, and for nothing else: prompts, token limits and reading rules are the
paper's, letter by letter, misspelling included, and what they do to a number stands beside each. Abilities are greedy
and zero-shot; nothing but the token limit and the end of text stops an answer, unless a file says so.

What the published scripts do by accident is no protocol and is not repeated: the training split, state carried from one
question to the next, one question counted several times, the model's text cut by a fixed number of letters. Where the
scripts print two accuracies, with and without the answers that say neither, ours is the one over all items.
"""
