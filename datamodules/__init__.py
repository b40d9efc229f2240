"""Clips, prompts and synthetic worlds on their way into batches."""
