"""What is asked of a model's files before they are loaded, and what is merged into its weights."""
