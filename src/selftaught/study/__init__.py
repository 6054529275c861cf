"""Many runs as one experiment: which trials, who runs them, what they say together."""
