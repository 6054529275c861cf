"""From a configuration to a trained model and its record on disk."""
