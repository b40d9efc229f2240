"""One file a family of transformers."""
