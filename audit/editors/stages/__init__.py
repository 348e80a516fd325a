"""What several editing methods share: prefix contexts, keys, values, covariance, solve."""
