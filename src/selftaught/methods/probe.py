"""The linear probe, as a row of a table: the head alone, on features that stay as they are."""

from selftaught.files.catalogue import PROBE
from selftaught.methods.base import register
from selftaught.methods.ce import CrossEntropy


@register
class LinearProbe(CrossEntropy):
    """Logistic regression on the features of a pretrained network: nothing is trained after `RunConfig.head`."""

    key = PROBE
