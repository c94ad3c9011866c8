"""Built-in conditioning."""
