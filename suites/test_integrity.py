"""Integrity: the edited weights are finite, and the model still predicts plain text."""


def test_weights_and_logits_are_finite(integrity):
    assert integrity.finite_weights
    assert integrity.finite_logits


def test_the_network_is_sound(integrity):
    """No edited matrix changed by more than its own norm, and plain text is not much harder to predict."""
    assert not integrity.problems
