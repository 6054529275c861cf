"""One saliency map per class, for a whole batch, from one forward pass."""

from selftaught.saliency.explainer import Explainer, Explanation, explain, names

__all__ = ["Explainer", "Explanation", "explain", "names"]
