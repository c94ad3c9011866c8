"""Built-in audio encoders."""
