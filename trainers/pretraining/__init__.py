"""Training of the embedded models on the synthetic world."""
