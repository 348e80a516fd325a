"""Integrity: the edited weights still make a sound network, whatever any benchmark says."""


def test_weights_and_logits_are_finite(integrity):
    assert integrity.finite_weights
    assert integrity.finite_logits


def test_the_network_is_sound(integrity):
    """No touched matrix changed by more than its own norm, and plain text is not much harder to predict."""
    assert not integrity.problems
