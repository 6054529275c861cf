"""The judge: arrays of right and wrong answers in, differences, intervals and verdicts out."""
