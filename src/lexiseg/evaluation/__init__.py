"""Metrics, and a segmenter scored on a data set."""
