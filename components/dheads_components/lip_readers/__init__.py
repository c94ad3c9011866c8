"""Lip-readers for the metric `wer`."""
