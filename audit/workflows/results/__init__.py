"""Readers of results that exist: the scores of one model, item by item, as another tool or a run here wrote them."""
