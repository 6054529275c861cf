"""The linear probe, as a row of a table: the head alone, on features that stay as they are."""

from selftaught.methods.base import register
from selftaught.methods.ce import CrossEntropy


@register
class LinearProbe(CrossEntropy):
    """Logistic regression on the features of a pretrained network: nothing is trained after `RunConfig.head`."""

    key = "probe"
    summary = "linear probe: logistic regression on a pretrained network's frozen features"
    head_only = True
