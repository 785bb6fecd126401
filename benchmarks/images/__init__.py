"""Images of the sample and of public repositories: built before and after, proven, compared."""
