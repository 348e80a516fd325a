"""The state of a model that stored answers belong to, as a fingerprint."""

from audit.store.content import content_fingerprint

# Increase it whenever the engine may answer the same prompt differently, so that stored answers are not reused.
ENGINE_VERSION = 4


def state_fingerprint(weights: str, tokenizer: str, patch: str | None, dtype: str, device: str) -> str:
    """sha256 over all that an answer depends on besides the prompt.

    Args:
        weights: the fingerprint of the base model's weights; `tokenizer` and `patch` (None: no patch) likewise.
        dtype: in torch's words, "torch.float32".
        device: its type: "cpu", "cuda".
    """
    return content_fingerprint(
        {
            "engine": ENGINE_VERSION,
            "weights": weights,
            "tokenizer": tokenizer,
            "patch": patch,
            "dtype": dtype,
            "device": device,
        }
    )
