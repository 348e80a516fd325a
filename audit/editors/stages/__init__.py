"""The stages that editing methods share: settings, keys, values, covariance, solve, fine-tuning, attribution."""
