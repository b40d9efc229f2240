"""`ditflow bank`: one file for each group of its commands."""
