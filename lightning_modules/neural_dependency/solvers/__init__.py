"""CovLasso along its path, least squares on a support, and k-sparse predictions, from second moments alone."""
