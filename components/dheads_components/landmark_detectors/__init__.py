"""Built-in landmark detectors."""
