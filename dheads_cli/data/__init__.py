"""Corpora, media files, alignment, shards and the training set."""
